#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: `lend explain' tells of each region of an owner which path would be taken, and why not a
better one.

Method: serve, and compare what is told with what a pull then takes.

Use: explain_test.py PATH-OF-LEND [unittest options]
"""

import json
import os
import subprocess
import sys
import tempfile
import unittest

LEND = ""
LIMIT_S = 120


class ExplainTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="lend-test-", dir="/tmp")
        self.addCleanup(folder.cleanup)
        self.export = folder.name + "/export"
        self.sockets = ("--socket-directory", folder.name)
        self.owner = subprocess.Popen(
            [LEND, "serve", "--json", "--export", self.export, "--memory", "64M", *self.sockets],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(self.end_owner)
        self.assertIn(b"ready", self.owner.stdout.readline())

    def end_owner(self):
        if self.owner.poll() is None:
            self.owner.terminate()
        self.owner.communicate()

    def run_lend(self, *arguments, code=0):
        done = subprocess.run([LEND, *arguments], capture_output=True, text=True, timeout=LIMIT_S)
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stdout, done.stderr

    def explain(self, *arguments):
        return json.loads(self.run_lend("explain", self.export, "--json", *self.sockets,
                                        *arguments)[0])

    def test_the_path_that_is_told_is_the_path_that_is_taken(self):
        told = self.explain("--connect", "--region", "layers.0.k")
        self.assertEqual((told["peer"], told["peer_status"]), ("owner", "LEND_OK"))
        paths = told["regions"][0]["paths"]
        chosen = [path["path"] for path in paths if path["is_chosen"]]
        self.assertEqual(len(chosen), 1)
        out, _ = self.run_lend("pull", "--import", self.export, "--blocks", "64", "--json",
                               *self.sockets)
        self.assertEqual([one["path"] for one in json.loads(out)["rounds"]], chosen)

    def test_every_path_that_cannot_be_taken_says_why(self):
        for arguments in ((), ("--write",), ("--connect",), ("--connect", "--write")):
            told = self.explain(*arguments)
            self.assertEqual(told["direction"], "write" if "--write" in arguments else "read")
            self.assertEqual(len(told["regions"]), 64)
            for region in told["regions"]:
                names = [path["path"] for path in region["paths"]]
                self.assertIn("local/served", names)
                self.assertEqual(len(set(names)), len(names))
                for path in region["paths"]:
                    is_open = path["status"] in ("LEND_OK", "LEND_PENDING")
                    self.assertTrue(is_open or path["why"], path)

    def test_the_table_marks_the_path_that_is_taken(self):
        out, _ = self.run_lend("explain", self.export, "--connect", "--region", "layers.0.k",
                               *self.sockets)
        self.assertRegex(out, r"\* local/\S+ +taken")

    def test_an_unknown_region_and_a_dead_owner_are_errors(self):
        _, err = self.run_lend("explain", self.export, "--region", "nope", *self.sockets, code=1)
        self.assertIn("no region 'nope'", err)
        self.owner.kill()
        self.owner.wait()
        _, err = self.run_lend("explain", self.export, "--connect", *self.sockets, code=1)
        self.assertIn("LEND_E_PEER_DEAD", err)

    def test_a_usage_error_ends_with_2(self):
        for arguments in ((), (self.export, "more"), (self.export, "--nonsense")):
            self.run_lend("explain", *arguments, code=2)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: explain_test.py PATH-OF-LEND")
    LEND = os.path.abspath(sys.argv.pop(1))
    unittest.main()
