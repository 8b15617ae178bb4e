#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: what is installed beside the command speaks of the command as it is.

Method: every option that `--help' tells must stand in the page of its sub-command, and no page
tells one that is not there; the completion for bash is sourced and asked as bash asks it.

Use: manual_test.py PATH-OF-LEND FOLDER-OF-SOURCES [unittest options]
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import unittest

LEND = ""
SOURCES = pathlib.Path()
EVERYWHERE = {"--help", "--usage", "--version"}  # which lend.1 tells for all


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def commands():
    return re.findall(r"(?m)^  ([a-z][a-z-]*) ", output(LEND, "--help"))


def options(*command):
    return set(re.findall(r"(?m)^ +(?:-.,? )?(--[a-z][a-z-]*)", output(LEND, *command, "--help")))


def page(name):
    """The page's options."""
    text = (SOURCES / "man" / name).read_text()
    return {"-" + found for found in re.findall(r"\bFl (-[a-z][a-z-]*)", text)}


class ManualTest(unittest.TestCase):
    def test_there_are_commands(self):
        self.assertLessEqual({"demo", "serve", "pull", "info", "doctor"}, set(commands()))

    def test_every_option_stands_in_its_page_and_none_beside(self):
        for name in commands():
            with self.subTest(command=name):
                told = options(name)
                self.assertLessEqual(EVERYWHERE, told)
                self.assertEqual(told - EVERYWHERE, page(f"lend-{name}.1"))

    def test_the_first_page_tells_every_command_and_what_all_have(self):
        text = (SOURCES / "man/lend.1").read_text()
        for name in commands():
            self.assertIn(f".It Xr lend-{name} 1\n", text)
        self.assertLessEqual(EVERYWHERE, page("lend.1"))

    def test_every_command_has_json(self):
        for name in commands():
            self.assertIn("--json", options(name), name)

    def test_every_page_is_installed(self):
        build = (SOURCES / "meson.build").read_text()
        for path in sorted((SOURCES / "man").iterdir()):
            self.assertIn(f"'man/{path.name}'", build)

    def test_the_pages_are_sound(self):
        pages = [str(path) for path in sorted((SOURCES / "man").glob("*.1"))]
        if shutil.which("mandoc"):
            command = ("mandoc", "-T", "lint", "-W", "warning", *pages)
        elif shutil.which("groff"):
            command = ("groff", "-mdoc", "-T", "utf8", "-ww", "-z", *pages)
        else:
            self.skipTest("neither mandoc nor groff on this machine")
        done = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))

    # Completion.

    def complete(self, *words):
        """What bash offers for the last of the words."""
        if shutil.which("bash") is None:
            self.skipTest("no bash on this machine")
        script = ('. "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _lend; '
                  'printf "%s\\n" "${COMPREPLY[@]}"')
        done = subprocess.run(["bash", "-c", script, "bash", SOURCES / "completion/lend.bash", LEND,
                               *words], capture_output=True, text=True, cwd=SOURCES)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout.split()

    def test_sub_commands_are_completed(self):
        self.assertEqual(set(self.complete("")), {*commands(), "--help", "--version"})
        self.assertEqual(self.complete("doc"), ["doctor"])

    def test_options_are_completed(self):
        for name in commands():
            told = {word.rstrip("=") for word in self.complete(name, "--")}
            self.assertEqual(told, options(name))
        self.assertEqual(self.complete("doctor", "--hu"), ["--huge"])
        self.assertEqual(self.complete("doctor", "--js"), ["--json"])
        self.assertEqual(self.complete("serve", "--json", "--exp"), ["--export="])

    def test_folders_and_files_are_completed_where_they_belong(self):
        self.assertEqual(self.complete("doctor", "--directory", "ma"), ["man"])
        self.assertEqual(self.complete("doctor", "--directory", "=", "comp"), ["completion"])
        self.assertEqual(self.complete("pull", "--import", "commands"), ["commands.h"])
        self.assertEqual(self.complete("serve", "--secret-file", "commands"), ["commands.h"])

    def test_values_are_completed(self):
        self.assertEqual(self.complete("demo", "--transport", ""), ["local", "tcp", "ucx", "verbs"])
        self.assertEqual(self.complete("demo", "--hosts", "=", "2"), ["2"])
        self.assertEqual(self.complete("pull", "--from", "com"), [])
        self.assertIn("lo", self.complete("doctor", "--ucx-devices", "l"))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: manual_test.py PATH-OF-LEND FOLDER-OF-SOURCES")
    LEND = os.path.abspath(sys.argv.pop(1))
    SOURCES = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main()
