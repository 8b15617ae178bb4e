#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: `lend info' tells what the build can do here, with the reason where it cannot.

Method: compare what it says with what Python sees of the same process, under limits and filters
that are planted for real.

Use: info_test.py PATH-OF-LEND [unittest options]
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import unittest

LEND = ""
LIMIT_S = 120


class InfoTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="lend-test-", dir="/tmp")
        self.addCleanup(self.folder.cleanup)

    def tell(self, *arguments, wrapper=(), **options):
        done = subprocess.run([*wrapper, LEND, "info", *arguments], capture_output=True, text=True,
                              timeout=LIMIT_S, **options)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def tell_json(self, *arguments, **options):
        return json.loads(self.tell("--json", "--directory", self.folder.name, *arguments,
                                    **options))

    def test_every_row_has_a_value_and_a_meaning(self):
        sections = self.tell_json()
        self.assertRegex(sections.pop("version"), r"^\d+\.\d+\.\d+$")
        self.assertEqual(list(sections), ["build", "memory kinds", "transports", "rdma",
                                          "paths", "plugins", "limits", "kernel", "memory"])
        for section in sections.values():
            for name, row in section.items():
                self.assertTrue(row["value"] and row["meaning"], name)
        self.assertEqual(os.listdir(self.folder.name), [])

    def test_the_table_has_the_same_rows(self):
        table = self.tell("--directory", self.folder.name)
        for name in ("system", "local/served", "RLIMIT_MEMLOCK", "pidfd", "NUMA nodes"):
            self.assertIn(f"\n{name} ", table)

    def test_limits_are_those_of_the_process(self):
        def plant():
            resource.setrlimit(resource.RLIMIT_NOFILE, (123, 456))
        row = self.tell_json(preexec_fn=plant)["limits"]["RLIMIT_NOFILE"]
        self.assertEqual(row["value"], "123 (hard 456)")

    def test_a_transport_that_does_not_open_says_why(self):
        missing = os.path.join(self.folder.name, "missing")
        told = json.loads(self.tell("--json", "--directory", missing))
        self.assertEqual(told["transports"]["local"]["value"], "does not open")
        self.assertRegex(told["transports"]["local"]["meaning"], r"missing.*\(LEND_E_\w+\)")
        self.assertEqual(told["paths"]["local/served"]["value"], "no")
        self.assertIn("No such file", told["memory"]["socket folder"]["meaning"])

    def test_ucx_is_told_with_its_version_and_transports_or_what_is_missing(self):
        row = self.tell_json()["transports"]["libucp"]
        if row["value"] == "no":
            self.assertIn("libucp", row["meaning"])
            return
        self.assertRegex(row["value"], r"^UCX \d+\.\d+")
        self.assertRegex(row["meaning"], r"^/\S*libucp\.so\S*, with (\w+,)*self")
        self.assertNotIn("TWO COPIES", row["meaning"])

    def test_rdma_devices_are_those_of_the_kernel_or_what_is_missing(self):
        rows = self.tell_json()["rdma"]
        try:
            devices = sorted(os.listdir("/sys/class/infiniband"))
        except FileNotFoundError:
            devices = []
        if rows["libibverbs"]["value"] == "no":
            self.assertIn("libibverbs", rows["libibverbs"]["meaning"])
        elif not devices:
            self.assertRegex(rows["libibverbs"]["meaning"], r"modprobe ib_uverbs|rdma link add")
        self.assertIn("peer memory", rows)
        for device in devices if rows["libibverbs"]["value"] == "yes" else []:
            for row in ("", ":1", ":1 GIDs", " windows 2B", " on-demand paging", " dma-buf"):
                self.assertIn(device + row, rows)

    def test_nixl_is_told_as_nvidias_or_what_is_missing(self):
        rows = self.tell_json()["transports"]
        if rows["NIXL"]["value"] == "no":
            self.assertIn("nixl_library", rows["NIXL"]["meaning"])
            self.assertEqual(rows["nixl"]["value"], "does not open")
        else:
            self.assertTrue(rows["NIXL"]["value"].startswith("NVIDIA's"))
        self.assertIn(rows["libnixl_capi.so"]["value"], ("no", "lend's own", "NVIDIA's", "a stub"))

    def test_what_is_named_is_nvidias_only_if_it_is(self):
        row = self.tell_json("--nixl-library", "libc.so.6")["transports"]["NIXL"]
        self.assertEqual(row["value"], "unknown")
        self.assertIn("libc.so.6 is not NVIDIA's", row["meaning"])
        library = os.environ.get("LEND_TEST_NIXL")
        if not library:
            self.skipTest("LEND_TEST_NIXL names no libnixl_capi.so of NVIDIA's")
        row = self.tell_json("--nixl-library", library)["transports"]["NIXL"]
        self.assertRegex(row["value"], r"^NVIDIA's( \d+\.\d+\.\d+)?$")
        self.assertIn(os.path.realpath(library), os.path.realpath(row["meaning"].split(",")[0]))

    def test_plugins_are_there_or_the_reason_is_told(self):
        for name, row in self.tell_json()["plugins"].items():
            self.assertIn(row["value"], ("yes", "no"), name)
            if row["value"] == "no":
                self.assertRegex(row["meaning"], r"\(LEND_E_\w+\)$")

    def test_a_machine_without_the_driver_says_which_file_it_lacks(self):
        row = self.tell_json()["memory kinds"]["device"]
        if "is there" in row["meaning"]:
            self.skipTest("this machine has the driver's library")
        self.assertIn("libcuda.so.1", row["meaning"])


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: info_test.py PATH-OF-LEND")
    LEND = os.path.abspath(sys.argv.pop(1))
    unittest.main()
