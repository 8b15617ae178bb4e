#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: `lend bench` measures what it says, by the path that it says, tells it in JSON that
programs can rely on, and moves right bytes; scripts/plot.py draws and tabulates that.

Method: run the built command with few rounds (--quick) once, and check the keys and the counts of
its JSON: rows, samples, and the bytes that were looked at and found right. No time is judged.

Use: bench_test.py PATH-OF-LEND PATH-OF-PLOT.PY [unittest options]
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

LEND = PLOT = ""
LIMIT_S = 240
PATHS = ["local/served", "local/mapped", "local/cross-memory"]
SECTIONS = ["setup", "post", "latency", "bandwidth", "notification", "lease"]
KEYS = {"what", "path", "direction", "measure", "block_bytes", "block_count", "samples", "beside",
        "verified_bytes", "how", "why"}
MEASURED_KEYS = KEYS | {"median_ns", "p99_ns", "percentiles_ns", "target"}
QUICK_ROUNDS, QUICK_BYTES = 2, 2 << 20
REGION_BYTES, NOTE_BYTES = 1 << 20, 64


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)


class BenchTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="lend-bench-test-"))
        cls.file = cls.folder / "bench.json"
        cls.ran = run(LEND, "bench", "--quick", "--output", str(cls.file))
        text = cls.file.read_text(encoding="utf-8") if cls.file.exists() else ""
        cls.result = json.loads(text) if text else None

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def setUp(self):
        self.assertEqual((self.ran.returncode, self.ran.stderr), (0, ""))

    def rows(self, section):
        return self.result["sections"][section]

    def check_moved(self, row, expected):
        """Of a row that moves bytes: it was done and verified, or it says why not."""
        if row["why"] is None:
            self.assertEqual(row["verified_bytes"], expected, row)
            return
        self.assertNotEqual(row["path"], "local/served", row)
        if row["direction"] != "write":  # storage can always be mapped; reading it may be forbidden
            self.assertEqual(row["path"], "local/cross-memory", row)
        self.assertIn(row["why"]["status"], ("LEND_E_NO_PATH", "LEND_E_UNSUPPORTED"), row)
        self.assertTrue(row["why"]["text"], row)
        self.assertEqual(row["verified_bytes"], 0, row)

    # What is told.

    def test_every_section_has_rows_with_the_keys_of_its_kind(self):
        self.assertEqual(list(self.result["sections"]), SECTIONS)
        for section in SECTIONS:
            for row in self.rows(section):
                expected = KEYS if row["why"] else MEASURED_KEYS
                if row["measure"] == "rate" and not row["why"]:
                    expected = expected | {"bytes_per_second"}
                self.assertEqual(set(row), expected, row)
                self.assertIn(row["measure"], ("time", "time_per_block", "rate"))
                self.assertEqual(row["samples"] > 0, row["why"] is None, row)

    def test_the_machine_and_the_settings_are_described(self):
        machine = self.result["machine"]
        for key in ("cpu", "cores", "kernel", "memory_bytes", "library", "libc", "load_average",
                    "date", "architecture"):
            self.assertTrue(machine[key], key)
        self.assertEqual(machine["kernel"], os.uname().release)
        self.assertIn("governor", machine)
        self.assertEqual((self.result["rounds"], self.result["bytes"], self.result["is_quick"]),
                         (QUICK_ROUNDS, QUICK_BYTES, True))

    def test_ratios_and_percentiles_follow_from_the_figures(self):
        for row in (row for name in SECTIONS for row in self.rows(name) if row["why"] is None):
            self.assertGreater(len(row["beside"]), 0, row)
            for beside in row["beside"]:
                times = (row["median_ns"], beside["median_ns"])
                over, under = reversed(times) if row["measure"] == "rate" else times
                self.assertAlmostEqual(beside["ratio"], over / under if under else 0, places=6)
            ladder = list(row["percentiles_ns"].values())
            self.assertEqual(ladder, sorted(ladder), row)
            self.assertEqual(row["percentiles_ns"]["50"], row["median_ns"])
            if row["target"] is not None:
                self.assertEqual(set(row["target"]), {"text", "is_met"})

    # What was measured.

    def test_setup_has_its_steps_and_targets(self):
        rows = self.rows("setup")
        self.assertEqual(len(rows), 6)
        self.assertEqual([bool(row["target"]) for row in rows],
                         [False, True, True, False, True, False])

    def test_posts_are_of_each_count_and_shape(self):
        rows = self.rows("post")
        self.assertEqual([row["block_count"] for row in rows], [1, 64, 4096, 65536] * 2)
        for row in rows:
            self.assertEqual(row["verified_bytes"], 65536 * row["block_bytes"])

    def test_small_blocks_are_verified_by_every_path_both_ways(self):
        rows = self.rows("latency")
        expected = [(size, direction, path) for size in (8, 4096, 65536)
                    for direction in ("read", "write") for path in PATHS]
        self.assertEqual([(row["block_bytes"], row["direction"], row["path"]) for row in rows],
                         expected)
        for row in rows:
            self.check_moved(row, row["block_bytes"])

    def test_scattered_blocks_are_verified_by_every_path_both_ways(self):
        sizes = (512, 4096, 16384, 65536, 262144, 1 << 20, QUICK_BYTES)
        warm = [row for row in self.rows("bandwidth") if not row["what"].endswith("first")]
        cold = [row for row in self.rows("bandwidth") if row["what"].endswith("first")]
        self.assertEqual([(row["block_bytes"], row["direction"], row["path"]) for row in warm],
                         [(size, direction, path) for size in sizes
                          for direction in ("read", "write") for path in PATHS])
        self.assertEqual([(row["block_bytes"], row["path"]) for row in cold],
                         [(size, "local/mapped") for size in sizes])
        for row in warm + cold:
            self.assertEqual(row["block_bytes"] * row["block_count"], QUICK_BYTES)
            self.check_moved(row, QUICK_BYTES)
            if row["why"] is None:
                moved = row["bytes_per_second"] * row["median_ns"] / 1e9
                self.assertAlmostEqual(moved / QUICK_BYTES, 1, places=3)

    def test_every_note_came_back_as_it_was_sent(self):
        rows = self.rows("notification")
        self.assertEqual(len(rows), 3)
        for row in rows:
            self.assertEqual(row["verified_bytes"], row["samples"] * NOTE_BYTES)
            self.assertIsNotNone(row["target"])
        self.assertEqual([len(row["beside"]) for row in rows], [1, 2, 1])

    def test_leases_end_idle_and_under_load(self):
        rows = self.rows("lease")
        self.assertEqual([row["what"] for row in rows],
                         ["grant a read lease", "revoke a read lease, idle",
                          "withdraw a region, idle"]
                         + ["revoke a read lease, under load"] * 3
                         + ["withdraw a region, under load"] * 3
                         + ["lease check, a transfer", "lease check, a block"])
        self.assertEqual([row["path"] for row in rows[3:9]], PATHS * 2)
        for row in rows[3:9]:
            self.check_moved(row, REGION_BYTES)
        for row in rows[9:]:
            self.check_moved(row, row["block_bytes"] * row["block_count"])
            self.assertTrue(row["how"])

    # The command line.

    def test_tables_go_beside_the_file(self):
        for section in SECTIONS:
            self.assertIn(f"\n{section} ", self.ran.stdout)
        self.assertIn("local/served", self.ran.stdout)

    def test_sections_are_chosen_by_name_and_json_is_printed_alone(self):
        ran = run(LEND, "bench", "--quick", "--rounds", "1", "--json", "setup", "post")
        result = json.loads(ran.stdout)
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        self.assertEqual(list(result["sections"]), ["setup", "post"])
        self.assertEqual(result["rounds"], 1)

    def test_usage_errors_end_with_2(self):
        for arguments in (["nothing"], ["--rounds", "0"], ["--bytes", "x"], ["--rounds", "9999"]):
            with self.subTest(arguments=arguments):
                ran = run(LEND, "bench", *arguments)
                self.assertEqual((ran.returncode, ran.stdout), (2, ""))
        self.assertIn("Usage: lend bench", run(LEND, "bench", "--help").stdout)

    def test_an_output_that_cannot_be_written_is_told_before_anything_is_measured(self):
        ran = run(LEND, "bench", "--quick", "--output", str(self.folder / "no" / "file"))
        self.assertEqual((ran.returncode, ran.stdout), (1, ""))
        self.assertIn("no/file", ran.stderr)

    # What the script makes of it.

    def test_the_table_has_a_line_for_every_row(self):
        ran = run(sys.executable, PLOT, str(self.file), "--table")
        lines = [line for line in ran.stdout.splitlines() if line.startswith("| ")]
        rows = sum(len(self.rows(section)) for section in SECTIONS)
        self.assertEqual(len(lines), rows + 2 * len(SECTIONS), ran.stderr)
        self.assertEqual({line.count(" |") for line in lines}, {7})

    def test_the_table_goes_between_its_marks_and_nowhere_else(self):
        page = self.folder / "page.md"
        page.write_text("above\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nbelow\n")
        for _ in range(2):
            ran = run(sys.executable, PLOT, str(self.file), "--into", str(page))
            self.assertEqual(ran.returncode, 0, ran.stderr)
        text = page.read_text()
        self.assertTrue(text.startswith("above\n<!-- bench:begin -->\nlend "), text[:99])
        self.assertTrue(text.endswith("<!-- bench:end -->\nbelow\n"), text[-99:])
        self.assertEqual((text.count("### setup"), text.count("old\n")), (1, 0))
        page.write_text("no marks\n")
        ran = run(sys.executable, PLOT, str(self.file), "--into", str(page))
        self.assertEqual((ran.returncode, page.read_text()), (1, "no marks\n"))

    def test_the_plots_are_drawn_or_the_missing_program_is_named(self):
        plots = self.folder / "plots"
        ran = run(sys.executable, PLOT, str(self.file), "--plots", str(plots))
        if shutil.which("gnuplot") is None:
            self.assertEqual(ran.returncode, 3)
            self.assertIn("gnuplot-nox", ran.stderr)
            return
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        for name, text in (("bandwidth", "local/served"), ("post", "scattered"),
                           ("revoke", "withdraw")):
            root = xml.etree.ElementTree.parse(plots / f"{name}.svg").getroot()
            self.assertIn(text, "".join(root.itertext()), name)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: bench_test.py PATH-OF-LEND PATH-OF-PLOT.PY")
    LEND, PLOT = (os.path.abspath(sys.argv.pop(1)) for _ in range(2))
    unittest.main()
