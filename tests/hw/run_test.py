# SPDX-License-Identifier: Apache-2.0
"""Goal: the hardware tests are a run that tells the truth: what passed, what failed, what is
missing and how it can be had, and what was left out by whom.

Method: run.sh on the fake driver, with the programs of this build and with those that it builds
itself; then with programs, Pythons and sanitizers that are scripts and do what is to be told of.

Use: run_test.py GPU ACTS BATTERY LIBLEND [unittest options]
"""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
RUN, PAGE = ROOT / "tests/hw/run.sh", ROOT / "docs/hardware.md"
BUILT = []
HEAD = "echo '# fake GPU 0 of nobody'; echo '| one thing | passed | 1 |'"
# Takes a sanitizer's options, up to what it is to run.
SANITIZER = """while [ "${1#--}" != "$1" ]; do
    [ "$1" != --log-file ] || log=$2
    shift 2
done
"""
LIMIT_S = 500


class RunTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="lend-test-", dir="/tmp")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.environment = dict(os.environ, LEND_HW_TORCH="no", LEND_HW_SANITIZER="no")

    def script(self, name, text):
        path = self.folder / name
        path.write_text("#!/bin/sh\n" + text + "\n")
        path.chmod(0o755)
        return str(path)

    def run_hw(self, *programs, code=0, **environment):
        """Its table, as a result and a figure by the test's name, and all that it says."""
        page = PAGE.read_bytes()
        done = subprocess.run(["sh", RUN, *programs], capture_output=True, text=True,
                              timeout=LIMIT_S, env=self.environment | environment)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        self.assertEqual(PAGE.read_bytes(), page, "a fake driver's table was kept")
        rows = [[cell.strip() for cell in line.strip("|").split("|")]
                for line in done.stdout.splitlines() if line.startswith("|")]
        return {row[0]: row[1:] for row in rows[2:]}, done.stdout + done.stderr

    def run_scripts(self, code=0, gpu=HEAD, acts="echo '| an act | passed | 2 |'", battery="true",
                    **environment):
        return self.run_hw(self.script("gpu", gpu), self.script("acts", acts),
                           self.script("battery", battery), "/no/library", code=code, **environment)

    def test_all_of_it_passes_on_a_fake_driver_that_is_called_fake(self):
        sanitizer = self.script("sanitizer", SANITIZER + 'echo ERROR SUMMARY: 0 >"$log"; "$@"')
        rows, said = self.run_hw(*BUILT, LEND_HW_TORCH="stand-in", LEND_HW_SANITIZER=sanitizer)
        self.assertEqual({row[0] for row in rows.values()}, {"passed"}, said)
        self.assertIn("fake GPU 0 of lend's tests, driver of CUDA", said)
        self.assertIn("its figures mean nothing, and nothing is kept", said)
        for path in ("local/cuda", "local/staged"):
            self.assertEqual(sum(name.startswith("demo, ") and name.endswith(path)
                                 for name in rows), 14, said)
            self.assertIn(f"stand-in for PyTorch, view inside a larger tensor, {path}", rows)
        self.assertEqual(sum("under compute-sanitizer" in name for name in rows), 3)
        for path in ("local/cuda", "local/staged"):
            self.assertRegex(rows[f"conformance battery, {path}, two processes"][1],
                             r"^[1-9]\d\d tests passed, 0 failed, 0 left out$")

    def test_what_the_driver_refuses_is_a_failure_of_its_rows_alone(self):
        rows, said = self.run_hw(BUILT[0], self.script("acts", "true"),
                                 self.script("battery", "true"), BUILT[3], code=1,
                                 LEND_FAKE_CUDA_FAIL="cuIpcGetMemHandle=801",
                                 LEND_HW_TORCH="stand-in")
        for name, (result, figure) in rows.items():
            is_left_out = name == "compute-sanitizer"
            is_refused = name.endswith(", local/cuda")  # by an IPC handle
            self.assertEqual(result, "left out" if is_left_out else
                             "FAILED" if is_refused else "passed", said)
            self.assertEqual("cuIpcGetMemHandle" in figure, is_refused, said)

    def test_chunks_that_nobody_may_open_are_a_failure_of_their_rows_alone(self):
        rows, said = self.run_hw(BUILT[0], self.script("acts", "true"),
                                 self.script("battery", "true"), BUILT[3], code=1,
                                 LEND_FAKE_CUDA_FAIL="cuMemExportToShareableHandle=801")
        for kind, is_chunks in (("chunks side by side", True), ("memory of a pool", False),
                                ("storage of lend's, a GPU's", True)):
            result, figure = rows[f"{kind}: read by local/cuda"]
            self.assertEqual(result, "FAILED" if is_chunks else "passed", said)
            self.assertEqual("cuMemExportToShareableHandle" in figure, is_chunks, said)
            self.assertEqual(rows[f"{kind}: written by local/staged"][0], "passed", said)

    def test_memory_that_cannot_be_had_is_a_failure_that_tells_the_remedy(self):
        rows, _ = self.run_hw(BUILT[0], self.script("acts", "true"),
                              self.script("battery", "true"), BUILT[3], code=1,
                              LEND_FAKE_CUDA_FAIL="cuMemPoolCreate=801")
        self.assertEqual(rows["memory of a pool"],
                         ["FAILED", "cuMemPoolCreate: CUDA error 801: it takes a driver of CUDA "
                          "11.2 or later, and a GPU with pools that descriptors may tell of"])
        self.assertEqual({row[0] for row in rows.values()}, {"passed", "left out", "FAILED"})

    def test_a_battery_tells_which_test_failed_first_and_why(self):
        test = "test_region_with_a_live_lease_is_busy"
        rows, said = self.run_hw(self.script("gpu", HEAD), self.script("acts", "true"), BUILT[2],
                                 "/no/library", code=1, LEND_TEST=test,
                                 LEND_FAKE_CUDA_FAIL="cuIpcGetMemHandle=801")
        self.assertEqual(rows["conformance battery, local/staged, two processes"],
                         ["passed", "1 tests passed, 0 failed, 0 left out"], said)
        result, figure = rows["conformance battery, local/cuda, two processes"]
        self.assertEqual(result, "FAILED")
        self.assertIn("0 tests passed, 1 failed, 0 left out; " + test, figure)
        self.assertIn("cuIpcGetMemHandle", figure)

    def test_it_builds_what_it_runs(self):
        rows, said = self.run_hw(CFLAGS="-O0", LEND_HW_TORCH="stand-in")
        self.assertEqual(rows.pop("compute-sanitizer"), ["left out", "LEND_HW_SANITIZER=no"])
        self.assertEqual({row[0] for row in rows.values()}, {"passed"}, said)
        self.assertGreater(len(rows), 40)

    def test_what_is_missing_is_a_failure_that_tells_the_remedy(self):
        python = self.script("python", "echo No module named torch >&2; exit 1")
        rows, _ = self.run_scripts(code=1, LEND_HW_TORCH="", PYTHON=python,
                                   LEND_HW_SANITIZER="no-such-sanitizer")
        for name, words in (("tensors of PyTorch", ("No module named torch", "pip install torch",
                                                    "PYTHON", "LEND_HW_TORCH=no")),
                            ("compute-sanitizer", ("no no-such-sanitizer", "CUDA toolkit",
                                                   "LEND_HW_SANITIZER"))):
            self.assertEqual(rows[name][0], "FAILED")
            for word in words:
                self.assertIn(word, rows[name][1])

    def test_what_is_left_out_is_told(self):
        rows, _ = self.run_scripts()
        self.assertEqual(rows["tensors of PyTorch"], ["left out", "LEND_HW_TORCH=no"])
        self.assertEqual(rows["compute-sanitizer"], ["left out", "LEND_HW_SANITIZER=no"])

    def test_a_program_that_dies_is_a_failure(self):
        rows, _ = self.run_scripts(code=1, acts="kill -9 $$")
        self.assertEqual(rows["one thing"], ["passed", "1"])
        self.assertEqual(rows["the demo"][0], "FAILED")
        self.assertIn("it ended with 137", rows["the demo"][1])

    def test_a_program_that_hangs_is_a_failure(self):
        rows, _ = self.run_scripts(code=1, acts="sleep 1000", LEND_HW_SECONDS="0.1")
        self.assertEqual(rows["the demo"][0], "FAILED")
        self.assertIn("it ended with 124", rows["the demo"][1])

    def test_a_row_that_failed_is_told_once_and_ends_the_run_badly(self):
        rows, _ = self.run_scripts(code=1, acts="echo '| an act | FAILED | why |'; exit 1")
        self.assertEqual(rows["an act"], ["FAILED", "why"])
        self.assertNotIn("the demo", rows)

    def test_what_a_sanitizer_finds_is_a_failure(self):
        sanitizer = self.script("sanitizer", SANITIZER + '''"$@"
echo "========= COMPUTE-SANITIZER" >"$log"
echo "========= Invalid read of size 4 bytes" >>"$log"
exit 99''')
        rows, _ = self.run_scripts(code=1, LEND_HW_SANITIZER=sanitizer)
        result, figure = rows["the demo, once more under compute-sanitizer (memcheck)"]
        self.assertEqual(result, "FAILED")
        self.assertIn("ended with 99", figure)
        self.assertIn("Invalid read of size 4", figure)

    def test_without_a_driver_nothing_is_told_to_have_run(self):
        (self.folder / "libcuda.so.1").write_text("no library")
        rows, said = self.run_hw(*BUILT, code=2, LD_LIBRARY_PATH=str(self.folder))
        self.assertEqual(rows, {})
        self.assertIn("there is no NVIDIA driver to test on", said)


if __name__ == "__main__":
    BUILT = [os.path.abspath(path) for path in sys.argv[1:5]]
    unittest.main(argv=sys.argv[:1] + sys.argv[5:])
