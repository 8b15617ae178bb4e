# SPDX-License-Identifier: Apache-2.0
"""What the tests of installed trees share: running commands, and building the consumer."""
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
CONSUMER = SOURCE / "tests/install/consumer.c"
STRICT = ("-Wall", "-Wextra", "-Werror", "-pedantic-errors")
C11 = ("gcc", "-std=c11", *STRICT)
SAID = r"^lend \d+\.\d+\.\d+: 16384 bytes, 0 wrong\n$"
LIMIT_S = 240


def tool(*names):
    """The first of these programs that is here, or a skip."""
    for name in names:
        if shutil.which(name):
            return name
    raise unittest.SkipTest(f"no {' or '.join(names)} on this machine")


class Tree(unittest.TestCase):
    """A test with a folder of its own, and a root in it to install into."""

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="lend-install-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.root = cls.folder / "root"

    @classmethod
    def run_command(cls, *command, code=0, cwd=None, **environment):
        """Its output, both channels; another exit status than that is a failure."""
        done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=LIMIT_S,
                              cwd=cwd or cls.folder, env=os.environ | environment)
        if done.returncode != code:
            raise AssertionError(f"{' '.join(map(str, command))}\nended with {done.returncode}, not"
                                 f" with {code}:\n{done.stdout[-4000:]}")
        return done.stdout

    def ask_pkg_config(self, libdir, *words, package="lend"):
        """Flags for a tree that lies in a root: pkg-config puts the root before each path."""
        return self.run_command("pkg-config", *words, package, PKG_CONFIG_PATH="",
                                PKG_CONFIG_LIBDIR=f"{libdir}/pkgconfig",
                                PKG_CONFIG_SYSROOT_DIR=str(self.root)).split()

    def build(self, name, compiler, flags, *more, source=CONSUMER):
        """The consumer, built: the compiler is the words before the source, flags those behind."""
        program = self.folder / name
        self.run_command(*compiler, source, "-o", program, *flags, *more)
        return program

    def check_runs(self, program, libdir=None):
        """It does the main job, with the library of that folder, or with none."""
        said = self.run_command(program, LD_LIBRARY_PATH=str(libdir or ""))
        self.assertRegex(said, SAID)

    def needs(self, program):
        """The names of the shared libraries that it was linked with."""
        dynamic = self.run_command("readelf", "-d", program)
        return {line.partition("[")[2].partition("]")[0] for line in dynamic.splitlines()
                if "(NEEDED)" in line}
