#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: the Debian source package builds packages that work where nothing else is.

Method: a source package is made of the tree, unpacked, and built; the packages are installed by
dpkg into an empty root, which gets the system libraries that they depend on and nothing more. In
there, the demonstration and a small program that was built against that root must do their job.

Use: debian_test.py (as root; otherwise the packages are built, and not installed)
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import cmocka_style
from tree import C11, SAID, SOURCE, Tree

PACKAGES = ("lend", "lend-nixl", "lend-plugins", "liblend-dev", "liblend0", "python3-lend")
# No second set of packages for debuggers, and no smoke test: here it is made after installing.
OPTIONS = f"nocheck noautodbgsym parallel={len(os.sched_getaffinity(0))}"


def leave_out(folder, names):
    """What is no part of the sources: what was built, and what git keeps."""
    top = pathlib.Path(folder) == SOURCE
    return [name for name in names
            if name == "__pycache__" or top and name.startswith(("build", "obj-", ".git"))]


class DebianTest(Tree):
    @classmethod
    def setUpClass(cls):
        for name, package in (("dpkg-buildpackage", "dpkg-dev"), ("dh", "debhelper")):
            if shutil.which(name) is None:
                raise unittest.SkipTest(f"no {name} on this machine (Debian package {package})")
        missing = subprocess.run(["dpkg-checkbuilddeps"], cwd=SOURCE, capture_output=True,
                                 text=True)
        if missing.returncode != 0:
            raise unittest.SkipTest(missing.stderr.strip().rpartition("error: ")[2])
        super().setUpClass()
        cls.build_packages()
        if os.geteuid() == 0:
            cls.install_packages()

    @classmethod
    def build_packages(cls):
        copy = cls.folder / "lend"
        shutil.copytree(SOURCE, copy, symlinks=True, ignore=leave_out)
        cls.run_command("dpkg-source", "--build", copy)
        shutil.rmtree(copy)
        cls.run_command("dpkg-source", "--extract", next(cls.folder.glob("lend_*.dsc")), copy)
        cls.said = cls.run_command("dpkg-buildpackage", "-us", "-uc", "-b", cwd=copy,
                                   DEB_BUILD_OPTIONS=OPTIONS, MAKEFLAGS="")
        cls.packages = sorted(cls.folder.glob("*.deb"))

    @classmethod
    def install_packages(cls):
        data = cls.root / "var/lib/dpkg"
        for folder in (data / "info", data / "updates", data / "triggers", cls.root / "etc",
                       cls.root / "proc", cls.root / "tmp"):
            folder.mkdir(parents=True)
        (data / "status").touch()
        # Forced, because what they depend on is copied: no package of libc is at hand.
        cls.run_command("dpkg", f"--root={cls.root}", "--force-depends", "--log=/dev/null",
                        "--install", *cls.packages)
        cls.libdir = next(cls.root.rglob("liblend.so.0")).parent
        needed = cls.run_command("ldd", cls.root / "usr/bin/lend", LD_LIBRARY_PATH=str(cls.libdir))
        for name in re.findall(r"(?:=> |^\s)(/\S+)", needed, re.M):
            if not name.startswith(str(cls.root)):
                target = cls.root / name.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(name, target)
        cls.run_command("ldconfig", "-r", cls.root)

    def need_root(self):
        if os.geteuid() != 0:
            self.skipTest("only root may install packages into another root and work there")

    def run_inside(self, *command):
        """Run a command in the root, which sees its own processes' /proc and nothing else."""
        if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0:
            self.skipTest("this machine lets nobody mount /proc (unshare -m)")
        return self.run_command("unshare", "-m", "sh", "-ec", 'mount -t proc proc "$0/proc"\n'
                                'exec chroot "$0" "$@"', self.root, *command, TMPDIR="/tmp")

    def test_the_source_package_builds_these_packages_and_no_other(self):
        names = tuple(sorted(path.name.partition("_")[0] for path in self.packages))
        self.assertEqual(names, PACKAGES)

    def test_building_warns_of_nothing(self):
        warnings = re.findall(r"^(?:dh\w*|dpkg-\w+): warning: .*", self.said, re.M)
        self.assertEqual(warnings, [])

    def test_the_packages_are_installed_and_configured(self):
        self.need_root()
        states = self.run_command("dpkg-query", f"--admindir={self.root}/var/lib/dpkg", "-W",
                                  "-f", "${Package} ${db:Status-Status}\n")
        self.assertEqual(states, "".join(f"{name} installed\n" for name in PACKAGES))

    def test_the_demonstration_works_in_the_root(self):
        self.need_root()
        said = self.run_inside("/usr/bin/lend", "demo", "--blocks", "200", "--iterations", "1",
                               "--memory", "64M")
        self.assertRegex(said, r"checked +\d+ bytes in \d+ rounds, 0 blocks wrong")

    def test_a_program_that_is_built_against_the_root_works_there(self):
        self.need_root()
        flags = self.ask_pkg_config(self.libdir, "--cflags", "--libs")
        program = self.build("consumer", C11, flags)
        self.assertEqual(self.needs(program), {"libc.so.6", "liblend.so.0"})
        shutil.copy(program, self.root / "tmp/consumer")
        self.assertRegex(self.run_inside("/tmp/consumer"), SAID)

    def test_a_program_of_nixl_that_is_built_against_the_root_works_there(self):
        self.need_root()
        flags = self.ask_pkg_config(self.libdir, "--cflags", "--libs", package="nixl_capi")
        program = self.build("nixl", C11, flags, source=SOURCE / "examples/nixl_external.c")
        shutil.copy(program, self.root / "tmp/nixl")
        self.assertIn("all as they were", self.run_inside("/tmp/nixl"))
        self.assertTrue((self.libdir / "libnixl_capi.so").is_symlink())  # what programs load

    def test_python_finds_the_packages_library_and_that_of_nixl(self):
        self.need_root()
        said = self.run_command(
            sys.executable, "-c", "import lend, lend.nixl; print(lend.__file__); "
            "lend.Agent('a').lend(bytearray(4096)).withdraw(); lend.nixl.nixl_agent('b')",
            PYTHONPATH=str(self.root / "usr/lib/python3/dist-packages"),
            LD_LIBRARY_PATH=str(self.libdir), PYTHONDONTWRITEBYTECODE="1")
        self.assertIn(str(self.root), said)


if __name__ == "__main__":
    cmocka_style.run(DebianTest)
