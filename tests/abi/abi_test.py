#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: a program that was compiled against an earlier lend of the same SONAME still works.

Method: abidiff compares the functions and types of the built library with those of the stored dump
(abi/), and the values of constants are compared with the stored ones. That a breach is seen is
shown with small libraries, each of which breaks one thing.

Use: abi_test.py PATH-OF-LIBLEND.SO [PATH-OF-LIBNIXL_CAPI.SO]
"""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import cmocka_style

SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
STORED = {"lend": SOURCE / "abi/liblend-0.1", "nixl_capi": SOURCE / "abi/libnixl_capi-0"}
SCRIPT = SOURCE / "scripts/abi.sh"
LIBRARIES = dict(zip(STORED, sys.argv[1:]))

SAME, GROWN, CHANGED = "the same", "grown", "changed"
ADVICE = {
    GROWN: "What was added is not in the stored dump yet: run make abi, and commit abi/.",
    CHANGED: "Programs that were compiled against a release with the stored dump would break. Only "
             "if no release had it, or a struct with struct_size grew at its end: run make abi.",
}

HEADER = """
struct tiny_secret;
enum tiny_mode { TINY_FAST = 1, TINY_SLOW = 2 };
struct tiny_desc { unsigned struct_size; unsigned flags; const char *name; };
int tiny_open(struct tiny_secret *secret, const struct tiny_desc *desc, enum tiny_mode mode);
void tiny_close(struct tiny_secret *secret);
"""
BODY = """
#include "include/lend/tiny.h"
struct tiny_secret { int depth; };
int tiny_open(struct tiny_secret *secret, const struct tiny_desc *desc, enum tiny_mode mode)
{ return secret->depth + (int)desc->flags + (int)mode; }
void tiny_close(struct tiny_secret *secret) { secret->depth = 0; }
"""


def ask(*command):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True,
                          check=True).stdout


def compare(old, new):
    """One of the three words, and what abidiff says."""
    done = subprocess.run(["abidiff", str(old), str(new)], capture_output=True, text=True)
    if done.returncode == 0:
        return SAME, ""
    if done.returncode & 3:
        raise AssertionError(f"abidiff ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    counts = re.findall(r"^(?:Functions|Variables|Function symbols|Variable symbols)\S* .*?"
                        r"summary: (\d+) Removed,(?: (\d+) Changed)?", done.stdout, re.M)
    only_added = counts and not any(int(count or 0) for pair in counts for count in pair)
    if "SONAME" in done.stdout or not only_added:
        return CHANGED, done.stdout
    return GROWN, done.stdout


def compare_constants(old, new):
    old, new = (dict(line.split() for line in text.splitlines()) for text in (old, new))
    moved = [f"{name} was {value} and is {new.get(name, 'gone')}" for name, value in old.items()
             if new.get(name) != value]
    added = [f"{name} is new" for name in new if name not in old]
    return CHANGED if moved else GROWN if added else SAME, "\n".join(moved + added)


class AbiTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="lend-abi-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def check(self, verdict):
        word, details = verdict
        self.assertEqual(word, SAME, f"{details}\n{ADVICE.get(word)}")

    def need_abidiff(self):
        for name in ("abidiff", "abidw"):
            if shutil.which(name) is None:
                self.skipTest(f"no {name} on this machine (Debian package abigail-tools)")

    def dump(self, library, name):
        dump = self.folder / f"{name}.abi"
        ask(SCRIPT, "dump", library, dump)
        return dump

    def tiny(self, *changes):
        """The dump of a small library, after these changes of its header and body."""
        header, body = HEADER, BODY
        for before, after in changes:
            self.assertIn(before, header + body)
            header, body = header.replace(before, after), body.replace(before, after)
        source = self.folder / "tiny"
        (source / "include/lend").mkdir(parents=True, exist_ok=True)
        (source / "include/lend/tiny.h").write_text(header)
        (source / "tiny.c").write_text(body)
        library = self.folder / "libtiny.so"
        ask("cc", "-g", "-O0", "-shared", "-fPIC", "-Wl,-soname,libtiny.so.0", "-o", library,
            source / "tiny.c")
        return self.dump(library, "changed" if changes else "tiny")

    # Our libraries.

    def test_functions_and_types_are_those_of_the_dump(self):
        self.need_abidiff()
        for name, library in LIBRARIES.items():
            self.check(compare(f"{STORED[name]}.abi", self.dump(library, name)))

    def test_constants_are_those_of_the_dump(self):
        now = self.folder / "constants"
        for name in LIBRARIES:
            ask(SCRIPT, "constants", now, name)
            self.check(compare_constants(pathlib.Path(f"{STORED[name]}.constants").read_text(),
                                         now.read_text()))

    # The comparison itself.

    def test_what_users_cannot_see_may_change(self):
        self.need_abidiff()
        word, details = compare(self.tiny(), self.tiny(("int depth;", "int depth; long more[9];")))
        self.assertEqual(word, SAME, details)

    def test_an_added_function_is_told_apart_from_a_breach(self):
        self.need_abidiff()
        close = "void tiny_close(struct tiny_secret *secret) {"
        more = f"void tiny_more(void); void tiny_more(void) {{ }}\n{close}"
        word, details = compare(self.tiny(), self.tiny((close, more)))
        self.assertEqual(word, GROWN, details)

    def test_each_breach_is_found(self):
        self.need_abidiff()
        breaches = {
            "a function is gone": ("tiny_close", "tiny_shut"),
            "a parameter has another type": ("enum tiny_mode mode)", "long mode)"),
            "an opaque parameter is gone": ("struct tiny_secret *secret, const", "const"),
            "a field moved": ("unsigned flags; const char *name;",
                              "const char *name; unsigned flags;"),
            "a field is wider": ("unsigned flags", "unsigned long flags"),
            "an enumerator has another value": ("TINY_SLOW = 2", "TINY_SLOW = 3"),
        }
        old = self.tiny()
        for what, change in breaches.items():
            more = [("secret->depth + ", "")] if "opaque" in what else []
            word, details = compare(old, self.tiny(change, *more))
            self.assertEqual(word, CHANGED, f"{what}\n{details}")

    def test_a_constant_that_moved_is_found(self):
        self.assertEqual(compare_constants("A 1\nB 2\n", "B 2\nA 1\n")[0], SAME)
        self.assertEqual(compare_constants("A 1\n", "A 1\nB 2\n")[0], GROWN)
        for now in ("A 2\nB 2\n", "B 2\n", "C 1\nB 2\n"):
            self.assertEqual(compare_constants("A 1\nB 2\n", now)[0], CHANGED, now)


if __name__ == "__main__":
    cmocka_style.run(AbiTest)
