# SPDX-License-Identifier: Apache-2.0
"""What pip asks to build the wheel (PEP 517), with the standard library, Meson and ninja alone.

The wheel has liblend, libnixl_capi and the plugins that this machine can build, and no code that
knows a version of Python: one wheel for all of them. Settings (pip install -C KEY=VALUE):

    build-folder   take the libraries of this folder, which was built already
    meson-options  more words for `meson setup`
"""
import base64
import hashlib
import os
import pathlib
import platform
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# What the wheel has of what is installed. The first has to be there.
LIBRARIES = ("liblend.so.0", "libnixl_capi.so.0", "lend-secret.so", "lend-etcd.so")
OPTIONS = ("--buildtype=release", "-Dwerror=false", "-Dtests=disabled", "-Dexamples=false",
           "-Dtool=disabled")
SUMMARY = "Lend memory that you own to other processes, and take it back safely"


def get_requires_for_build_wheel(config_settings=None):
    """What is not on this machine already."""
    if (config_settings or {}).get("build-folder"):
        return []
    return [name for name in ("meson", "ninja") if not shutil.which(name)]


get_requires_for_build_editable = get_requires_for_build_wheel


def get_requires_for_build_sdist(config_settings=None):
    return []


def version():
    found = re.search(r"^\s+version: '([^']+)'", (ROOT / "meson.build").read_text(), re.M)
    return found[1]


def metadata():
    readme = (ROOT / "docs/python.md").read_text()
    return (f"Metadata-Version: 2.1\nName: lend\nVersion: {version()}\nSummary: {SUMMARY}\n"
            "License: Apache-2.0\nRequires-Python: >=3.9\n"
            "Classifier: Operating System :: POSIX :: Linux\n"
            "Classifier: Programming Language :: Python :: 3\n"
            "Classifier: License :: OSI Approved :: Apache Software License\n"
            "Provides-Extra: nixl-shim\n"
            'Requires-Dist: lend-nixl-shim; extra == "nixl-shim"\n'
            f"Description-Content-Type: text/markdown\n\n{readme}")


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    folder = pathlib.Path(metadata_directory) / f"lend-{version()}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(metadata())
    (folder / "WHEEL").write_text(wheel_text("any"))
    return folder.name


prepare_metadata_for_build_editable = prepare_metadata_for_build_wheel


def wheel_text(tag):
    return ("Wheel-Version: 1.0\nGenerator: lend\nRoot-Is-Purelib: false\n"
            f"Tag: py3-none-{tag}\n")


def meson_environment():
    """Where Meson runs: pip's isolation hides the modules of a Meson that is the system's."""
    for hidden in ((), ("PYTHONPATH", "PYTHONHOME", "PYTHONNOUSERSITE")):
        environment = {key: value for key, value in os.environ.items() if key not in hidden}
        if shutil.which("meson") and subprocess.run(
                ["meson", "--version"], env=environment, capture_output=True).returncode == 0:
            return environment
    raise SystemExit("lend: no meson that runs here (Debian: meson, ninja-build)")


def run(environment, *command):
    subprocess.run(command, check=True, stdout=sys.stderr, env=environment)


def installed(settings, work):
    """The libraries as they are installed, by their names; built now unless a folder is named."""
    folder, environment = (settings or {}).get("build-folder"), meson_environment()
    if not folder:
        folder = str(work / "build")
        words = shlex.split((settings or {}).get("meson-options", ""))
        run(environment, "meson", "setup", *OPTIONS, *words, folder, str(ROOT))
        run(environment, "ninja", "-C", folder)
    run(environment, "meson", "install", "-C", folder, "--no-rebuild", "--quiet", "--destdir",
        str(work / "root"))
    found = {name: path for name in LIBRARIES for path in (work / "root").rglob(name)}
    if LIBRARIES[0] not in found:
        raise SystemExit(f"lend: {folder} installs no {LIBRARIES[0]}")
    return found


def stripped(path, folder):
    """Its bytes without what only a debugger wants."""
    copy = folder / path.name
    shutil.copyfile(path, copy)
    if shutil.which("strip"):
        subprocess.run(["strip", "--strip-unneeded", str(copy)], check=True)
    return copy.read_bytes()


def glibc_of(path):
    """The newest version of glibc that a library asks for: (2, 34)."""
    asked = re.findall(rb"\0GLIBC_(\d+)\.(\d+)(?:\.\d+)?(?=\0)", b"\0" + path.read_bytes())
    return max(((int(major), int(minor)) for major, minor in asked), default=(2, 17))


def tag_of(paths):
    """Where it runs: anywhere with a glibc as old as what the two libraries ask for (PEP 600). The
    plugins are loaded when they are asked for, and then want libraries of the system."""
    machine = platform.machine()
    if platform.libc_ver()[0] != "glibc":
        return f"linux_{machine}"
    major, minor = max(glibc_of(path) for name, path in paths.items() if name.startswith("lib"))
    return f"manylinux_{major}_{minor}_{machine}"


class Wheel:
    """An archive that notes what it has."""

    def __init__(self, path, stamp=(1980, 1, 1, 0, 0, 0)):
        self.archive = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)
        self.stamp, self.record = stamp, []

    def add(self, name, data, is_program=False):
        entry = zipfile.ZipInfo(name, self.stamp)
        entry.external_attr = (stat.S_IFREG | (0o755 if is_program else 0o644)) << 16
        entry.compress_type = zipfile.ZIP_DEFLATED
        self.archive.writestr(entry, data)
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        self.record.append(f"{name},sha256={digest},{len(data)}\n")

    def end(self, info):
        name = f"{info}/RECORD"
        self.archive.writestr(zipfile.ZipInfo(name, self.stamp),
                              "".join(self.record) + f"{name},,\n")
        self.archive.close()


def write_wheel(wheel_directory, tag, fill):
    info, name = f"lend-{version()}.dist-info", f"lend-{version()}-py3-none-{tag}.whl"
    wheel = Wheel(pathlib.Path(wheel_directory) / name)
    fill(wheel)
    wheel.add(f"{info}/METADATA", metadata().encode())
    wheel.add(f"{info}/WHEEL", wheel_text(tag).encode())
    wheel.add(f"{info}/licenses/LICENSE", (ROOT / "LICENSE").read_bytes())
    wheel.end(info)
    return name


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    with tempfile.TemporaryDirectory(prefix="lend-wheel-") as work:
        work = pathlib.Path(work)
        found = installed(config_settings, work)

        def fill(wheel):
            for path in sorted((HERE / "lend").rglob("*")):
                if path.suffix == ".py" or path.name == "py.typed":
                    wheel.add(path.relative_to(HERE).as_posix(), path.read_bytes())
            for name, path in found.items():
                wheel.add(f"lend/_lib/{name}", stripped(path, work), True)

        return write_wheel(wheel_directory, tag_of(found), fill)


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    """The package of this checkout; it looks for liblend as an uninstalled one does."""
    return write_wheel(wheel_directory, "any",
                       lambda wheel: wheel.add("lend-editable.pth", f"{HERE}\n".encode()))


def build_sdist(sdist_directory, config_settings=None):
    """What git tracks; without git, all but what is built."""
    base = f"lend-{version()}"
    name = f"{base}.tar.gz"
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True)
    if listed.returncode == 0:
        files = [os.fsdecode(path) for path in listed.stdout.split(b"\0") if path]
    else:
        files = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file()
                 and not path.relative_to(ROOT).parts[0].startswith(("build", ".git"))]
    with tarfile.open(pathlib.Path(sdist_directory) / name, "w:gz",
                      format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(files):
            if (ROOT / path).is_file():
                archive.add(ROOT / path, f"{base}/{path}", recursive=False)
        with tempfile.NamedTemporaryFile("w") as head:
            head.write(metadata())
            head.flush()
            archive.add(head.name, f"{base}/PKG-INFO")
    return name
