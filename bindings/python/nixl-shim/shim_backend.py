# SPDX-License-Identifier: Apache-2.0
"""What pip asks to build the wheel of three files (PEP 517)."""
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import backend  # noqa: E402


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    version = backend.version()
    info, name = f"lend_nixl_shim-{version}.dist-info", f"lend_nixl_shim-{version}-py3-none-any.whl"
    wheel = backend.Wheel(pathlib.Path(wheel_directory) / name)
    for path in sorted((HERE / "nixl").glob("*.py")):
        wheel.add(f"nixl/{path.name}", path.read_bytes())
    wheel.add(f"{info}/METADATA",
              f"Metadata-Version: 2.1\nName: lend-nixl-shim\nVersion: {version}\n"
              "Summary: NIXL's names, for programs that import them, on lend\n"
              f"License: Apache-2.0\nRequires-Python: >=3.9\nRequires-Dist: lend=={version}\n"
              .encode())
    wheel.add(f"{info}/WHEEL", backend.wheel_text("any").replace("false", "true").encode())
    wheel.end(info)
    return name


def build_sdist(sdist_directory, config_settings=None):
    raise SystemExit("lend-nixl-shim: it is built from a checkout of lend")
