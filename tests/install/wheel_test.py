#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: `pip install .` gives one wheel for all versions of Python, with everything in it, that
runs where neither lend nor a GPU nor an RDMA device is.

Method: the wheel is made of the built tree, looked at, unpacked into an empty folder, and does the
main job there, with every Python that this machine has, without an environment of ours.

Use: wheel_test.py BUILD-FOLDER
"""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import cmocka_style

BUILD = pathlib.Path(sys.argv[1]).resolve()
SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
PYTHONS = ["python3", "/usr/bin/python3", *(f"python3.{minor}" for minor in range(9, 16))]
PROGRAM = """
import lend
with lend.Agent("owner") as owner, lend.Agent("reader") as reader:
    region = owner.lend(bytes(range(256)), blocks=16)
    mine = bytearray(16)
    local, peer = reader.register(mine), reader.connect(owner.metadata())
    peer.read(region.grant().ticket, [3], local, [0]).wait()
    assert mine == bytes(range(48, 64))
    del peer
print("read", lend.__version__, lend.__file__)
"""
NIXL = """
from nixl._api import nixl_agent
import lend.nixl
assert nixl_agent is lend.nixl.nixl_agent
agent = nixl_agent("one")
agent.register_memory(bytearray(4096))
print("registered", len(agent.get_agent_metadata()))
"""


def run(*command, **settings):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                          timeout=240, **settings)
    if done.returncode != 0:
        raise AssertionError(f"{command}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class WheelTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.pythons = {}
        for path in filter(None, map(shutil.which, PYTHONS)):
            asked = subprocess.run([path, "-c", "import sys; print(*sys.version_info[:2])"],
                                   capture_output=True, text=True)
            if asked.returncode == 0 and tuple(map(int, asked.stdout.split())) >= (3, 9):
                cls.pythons.setdefault(asked.stdout, path)
        cls.pip = next((name for name in cls.pythons.values() if subprocess.run(
            [name, "-m", "pip", "--version"], capture_output=True).returncode == 0), None)
        if cls.pip is None:
            raise unittest.SkipTest("no pip on this machine (python3-pip)")
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="lend-wheel-test-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        meson = str(pathlib.Path(shutil.which("meson")).parent)
        cls.environment = {"PATH": f"{meson}:/usr/local/bin:/usr/bin:/bin", "HOME": str(cls.folder),
                           "TMPDIR": str(cls.folder), "PYTHONDONTWRITEBYTECODE": "1",
                           "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        cls.make(SOURCE, "--config-settings", f"build-folder={BUILD}")
        cls.make(SOURCE / "bindings/python/nixl-shim")
        cls.wheel = next((cls.folder / "wheels").glob("lend-*.whl"))
        cls.shim = next((cls.folder / "wheels").glob("lend_nixl_shim-*.whl"))
        cls.place = cls.folder / "place"
        for wheel in (cls.wheel, cls.shim):
            run(cls.pip, "-m", "pip", "install", "--quiet", "--no-deps", "--target", cls.place,
                wheel, env=cls.environment)

    @classmethod
    def make(cls, source, *settings):
        run(cls.pip, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", cls.folder / "wheels",
            source, *settings, env=cls.environment)

    def test_one_wheel_is_for_all_pythons_and_says_which_glibc_it_wants(self):
        self.assertRegex(self.wheel.name,
                         r"^lend-[\d.]+-py3-none-(manylinux_2_\d+|linux)_\w+\.whl$")
        self.assertRegex(self.shim.name, r"-py3-none-any\.whl$")

    def test_the_libraries_want_nothing_that_is_newer_than_the_wheel_says(self):
        found = re.search(r"manylinux_2_(\d+)", self.wheel.name)
        if not found:
            self.skipTest("this machine has no glibc")
        for name in ("liblend.so.0", "libnixl_capi.so.0"):
            asked = run("readelf", "--version-info", self.place / "lend/_lib" / name)
            newest = max(int(minor) for minor in re.findall(r"GLIBC_2\.(\d+)", asked))
            self.assertLessEqual(newest, int(found[1]), name)

    def test_it_has_the_package_and_the_libraries_and_nothing_else(self):
        with zipfile.ZipFile(self.wheel) as archive:
            names = archive.namelist()
        for name in names:
            self.assertRegex(name, r"^lend(/(nixl/)?\w+\.(py|typed)|/_lib/[-\w.]+|"
                                   r"-[\d.]+\.dist-info/\w+(/LICENSE)?)$")
        self.assertIn("lend/_lib/liblend.so.0", names)
        package = SOURCE / "bindings/python/lend"
        for path in package.rglob("*.py"):
            self.assertIn(f"lend/{path.relative_to(package)}", names)

    def test_no_file_names_the_folder_that_it_was_built_in(self):
        for path in (self.place / "lend/_lib").iterdir():
            self.assertFalse(str(BUILD).encode() in path.read_bytes(), path)

    def test_it_does_the_main_job_with_every_python_here(self):
        for version, python in self.pythons.items():
            with self.subTest(version):
                said = run(python, "-c", PROGRAM, cwd=self.folder,
                           env=self.environment | {"PYTHONPATH": str(self.place)})
                self.assertIn(f"{self.place}/lend/__init__.py", said)

    def test_a_program_of_nixl_runs_beside_the_shim(self):
        if not (self.place / "lend/_lib/libnixl_capi.so.0").exists():
            self.skipTest("this build has no libnixl_capi")
        for version, python in self.pythons.items():
            with self.subTest(version):
                self.assertIn("registered", run(
                    python, "-c", NIXL, cwd=self.folder,
                    env=self.environment | {"PYTHONPATH": str(self.place)}))

    def test_a_checkout_can_be_installed_as_it_is(self):
        run(self.pip, "-c", "import sys; sys.path.insert(0, sys.argv[1]); import backend; "
            "print(backend.build_editable(sys.argv[2]), backend.build_sdist(sys.argv[2]))",
            SOURCE / "bindings/python", self.folder, env=self.environment)
        with zipfile.ZipFile(next(self.folder.glob("lend-*-any.whl"))) as archive:
            self.assertEqual(archive.read("lend-editable.pth").decode().strip(),
                             str(SOURCE / "bindings/python"))
        names = run("tar", "tzf", next(self.folder.glob("lend-*.tar.gz"))).split()
        wanted = {"PKG-INFO", "meson.build", "pyproject.toml", "bindings/python/backend.py"}
        self.assertEqual(wanted - {name.partition("/")[2] for name in names}, set())


if __name__ == "__main__":
    cmocka_style.run(WheelTest)
