#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: the main job and the four acts hold with memory of a GPU, by each of its paths, and the
command says what it misses where there is no GPU.

Method: run `lend demo --memory cuda` on the fake CUDA driver, which has to be called fake in what
is told. Owner and reader are processes, are killed and stopped, and all bytes are checked on the
memory of the (fake) device. `lend serve' and `lend pull' after it.

Use: cuda_demo_test.py PATH-OF-LEND FOLDER-OF-THE-FAKE-LIBCUDA LIBLEND [unittest options]
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

LEND, FAKE, LIBRARY = "", "", ""
DEVICE = "fake GPU 0 of lend's tests"
LIMIT_S = 300
SMALL = ("--memory", "64M", "--blocks", "256")


class CudaDemoTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="lend-test-", dir="/tmp")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.environment = dict(os.environ, LD_LIBRARY_PATH=FAKE)

    def run_lend(self, *arguments, code=0):
        done = subprocess.run([LEND, *arguments], capture_output=True, text=True, timeout=LIMIT_S,
                              env=self.environment)
        self.assertEqual(done.returncode, code, done.stderr + done.stdout)
        return done.stdout, done.stderr

    def run_demo(self, kind, *arguments):
        return json.loads(self.run_lend("demo", "--json", "--memory", kind, *SMALL, *arguments)[0])

    def check_demo(self, told, kind, path, iterations, otherwise):
        job = told["job"]
        self.assertEqual((told["verdict"], told["failure"]), ("right", None))
        self.assertEqual((job["memory"], job["device"], job["path"]), (kind, DEVICE, path))
        self.assertEqual(job["pieces_wrong"], 0)
        self.assertEqual(job["bytes_right"], job["bytes"] * job["rounds"])
        self.assertEqual([row["act"][0] for row in told["acts"]], list("1222223344444"))
        for row in told["acts"]:
            self.assertEqual((row["verdict"], row["wrong"]), ("right", 0), row)
            self.assertEqual(row["repetitions"], iterations, row)
            # A read may end before its way was chosen, and a write has its own.
            self.assertLessEqual(set(row["paths"]), {path, otherwise, "none"}, row)

    def test_each_path_of_a_gpus_memory_is_taken_and_right(self):
        for path in ("local/cuda", "local/staged"):
            with self.subTest(path=path):
                told = self.run_demo("cuda", "--path", path, "--iterations", "5")
                self.check_demo(told, "cuda", path, 5, "local/staged")

    def test_the_gpu_copies_by_itself_unless_told_otherwise(self):
        out, _ = self.run_lend("demo", "--memory", "cuda", *SMALL, "--iterations", "1")
        self.assertRegex(out, r"\npath +local/cuda\n")
        self.assertRegex(out, rf"\nmemory +cuda: {DEVICE}\n")
        self.assertRegex(out, r"\nchecked .* 0 blocks wrong\n")
        self.assertEqual(sum(line.endswith(" right") for line in out.splitlines()), 13, out)

    def test_pinned_memory_is_served(self):
        told = self.run_demo("pinned", "--iterations", "2")
        self.check_demo(told, "pinned", "local/served", 2, "local/served")

    def test_without_a_driver_the_remedy_is_told(self):
        (self.folder / "libcuda.so.1").write_text("no library")
        self.environment["LD_LIBRARY_PATH"] = str(self.folder)
        out, err = self.run_lend("demo", "--memory", "cuda", code=1)
        self.assertEqual(out, "")
        for word in ("libcuda.so.1", "NVIDIA's driver", "install it", "--memory host"):
            self.assertIn(word, err)

    def test_a_driver_that_is_too_old_is_told(self):
        (self.folder / "libcuda.so.1").symlink_to(LIBRARY)
        self.environment["LD_LIBRARY_PATH"] = str(self.folder)
        _, err = self.run_lend("demo", "--memory", "cuda", *SMALL, code=1)
        self.assertIn("libcuda.so.1 has no cuInit: it takes a driver of CUDA 11.0 or later", err)

    def test_what_the_driver_says_is_told(self):
        for fails, words in (
                ("cuInit=100", ("no GPU 0", "cuInit says CUDA_ERROR_NO_DEVICE (100)",
                                "nvidia-smi")),
                ("cuMemAlloc=2", ("fake GPU 0", "gives no", "MiB", "(2)", "less --memory")),
                ("cuMemcpyHtoD=700", ("fake GPU 0", "cuMemcpyHtoD says", "(700)"))):
            with self.subTest(fails=fails):
                self.environment["LEND_FAKE_CUDA_FAIL"] = fails
                out, err = self.run_lend("demo", "--memory", "cuda", *SMALL, code=1)
                self.assertEqual(out, "")
                for word in words:
                    self.assertIn(word, err)

    def test_a_kind_that_is_none_is_a_usage_error(self):
        for arguments in (("demo", "--memory", "rocm"), ("pull", "--from", "x", "--memory", "64M")):
            self.assertIn("--memory", self.run_lend(*arguments, code=2)[1])

    def test_each_half_takes_a_gpus_memory_alone(self):
        export = str(self.folder / "export")
        process = subprocess.Popen(
            [LEND, "serve", "--export", export, "--memory", "cuda", "--memory", "64M", "--json",
             "--socket-directory", str(self.folder)], stdout=subprocess.PIPE, text=True,
            env=self.environment)
        try:
            self.assertEqual(json.loads(process.stdout.readline())["event"], "ready")
            for kind, path in (("cuda", "local/cuda"), ("host", "local/staged")):
                out, _ = self.run_lend("pull", "--json", "--import", export, "--memory", kind,
                                       "--blocks", "256", "--socket-directory", str(self.folder))
                pulled, = json.loads(out)["rounds"]
                self.assertEqual((pulled["status"], pulled["pieces_wrong"], pulled["path"]),
                                 ("LEND_OK", 0, path))
        finally:
            process.terminate()
            process.communicate(timeout=LIMIT_S)
        self.assertEqual(process.returncode, 0)


if __name__ == "__main__":
    LEND, FAKE, LIBRARY = (os.path.abspath(path) for path in sys.argv[1:4])
    unittest.main(argv=sys.argv[:1] + sys.argv[4:])
