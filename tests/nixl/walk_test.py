#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: a program that knows NIXL's header and library alone can do all that the ABI has.

Method: nixl_walk, a strict C11 program, is run; it calls every function that the map lists, which
is looked up in its symbols, and is linked with libnixl_capi and libc alone.

Use: walk_test.py NIXL_WALK LIBNIXL_CAPI.SO MAP
"""
import os
import pathlib
import re
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import cmocka_style

# What NIXL has not, and nixl_walk, which runs on NVIDIA's library too, does not call.
OWN = {"nixl_capi_find_registration", "nixl_capi_xfer_dlist_add_rows"}
WALK, LIBRARY, MAP = sys.argv[1:4]
OTHERS = re.compile(r"lib(c|asan|ubsan|tsan|clang_rt\S*|gcc_s|m)\.so\S*|ld-linux\S*")


def ask(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


class WalkTest(unittest.TestCase):
    def test_the_walk_calls_every_function(self):
        listed = set(re.findall(r"^\s+(nixl_capi_\w+);", pathlib.Path(MAP).read_text(), re.M))
        called = set(re.findall(r"\bU (nixl_capi_\w+)", ask("nm", "-D", WALK)))
        self.assertGreater(len(listed), 100)
        self.assertEqual(listed ^ called, OWN)

    def test_what_is_called_has_a_version(self):
        self.assertEqual(set(re.findall(r"U nixl_capi_\w+@(\S+)", ask("nm", "-D", WALK))),
                         {"NIXL_CAPI_0"})

    def test_it_needs_our_library_and_no_other(self):
        needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", ask("readelf", "-d", WALK)))
        self.assertEqual({name for name in needed if not OTHERS.fullmatch(name)},
                         {"libnixl_capi.so.0"})

    def test_two_processes_walk_to_the_end(self):
        where = str(pathlib.Path(LIBRARY).parent)
        done = subprocess.run([WALK], capture_output=True, text=True,
                              env=os.environ | {"LD_LIBRARY_PATH": where})
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


if __name__ == "__main__":
    cmocka_style.run(WalkTest)
