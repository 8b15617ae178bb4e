#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: the built `lend` command does what it says, tells programs so in JSON and in its exit code,
and leaves nothing behind.

Method: run it as a user does, with a temporary directory of its own that must be empty afterwards.
That its check of bytes can fail is proven by changing what the reader is told to expect.

Use: tool_test.py PATH-OF-LEND [unittest options]
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

LEND = ""
LIMIT_S = 120


def processes_of(mark):
    """The processes that have this text in their environment: every child of a run has."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                environment = file.read().split(b"\0")
            with open(f"/proc/{name}/stat", "rb") as file:
                state = file.read().rpartition(b")")[2].split()[0]
        except OSError:
            continue
        if mark.encode() in environment and state != b"Z":
            found.append(int(name))
    return found


class ToolTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="lend-test-", dir="/tmp")
        self.temporary = os.path.join(self.folder, "tmp")
        os.mkdir(self.temporary)
        self.mark = f"TMPDIR={self.temporary}"
        self.environment = dict(os.environ, TMPDIR=self.temporary)
        self.started = []

    def tearDown(self):
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate()
        left = processes_of(self.mark)
        # The thread sanitizer's own, of a process that was killed as it began.
        files = [name for name in os.listdir(self.temporary) if not name.startswith("tsan.")]
        shutil.rmtree(self.folder)
        self.assertEqual(left, [], "processes were left behind")
        self.assertEqual(files, [], "files were left behind")

    def start(self, *arguments):
        process = subprocess.Popen([LEND, *arguments], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, env=self.environment)
        self.started.append(process)
        return process

    def run_lend(self, *arguments, code=0):
        process = self.start(*arguments)
        out, err = process.communicate(timeout=LIMIT_S)
        self.assertEqual(process.returncode, code, f"{arguments}: {err}{out}")
        return out, err

    def path(self, name):
        return os.path.join(self.folder, name)

    def serve(self, *arguments):
        """Start `lend serve`, and return it when it is ready."""
        sockets = self.path("sockets")
        os.makedirs(sockets, mode=0o700, exist_ok=True)
        process = self.start("serve", "--export", self.path("export"), "--memory", "64M", "--json",
                             "--socket-directory", sockets, *arguments)
        line = process.stdout.readline()
        self.assertTrue(line, "serve is not ready: " + (process.stderr.read() if not line else ""))
        self.assertEqual(json.loads(line)["event"], "ready")
        return process

    def pull(self, *arguments, code=0):
        return self.run_lend("pull", "--import", self.path("export"), "--blocks", "256",
                             "--socket-directory", self.path("sockets"), *arguments, code=code)

    def finish(self, process, code=0):
        """The events that serve still told, when it has ended."""
        out, err = process.communicate(timeout=LIMIT_S)
        self.assertEqual(process.returncode, code, err)
        return [json.loads(line) for line in out.splitlines()]

    # The command line.

    def test_help_and_version_are_good_ends(self):
        for arguments in (["--help"], ["demo", "--help"], ["serve", "--help"], ["pull", "--help"]):
            out, _ = self.run_lend(*arguments)
            self.assertIn("Usage: lend", out)
        self.assertRegex(self.run_lend("--version")[0], r"^lend \d+\.\d+\.\d+\n$")

    def test_a_usage_error_ends_with_2_and_changes_nothing(self):
        for arguments in ([], ["unknown"], ["demo", "--blocks", "0"], ["demo", "--blocks", "x"],
                          ["demo", "--blocks", "-5"], ["demo", "--memory", "5T"],
                          ["demo", "--memory", "99999999999G"], ["demo", "--model", "GPT-2"],
                          ["demo", "--iterations", "0"], ["demo", "more"], ["demo", "--nonsense"],
                          ["serve"], ["serve", "--export", "x", "--socket-mode", "9"], ["pull"],
                          ["pull", "--import", "x", "--path"],
                          ["pull", "--import", "x", "--repeat", "99999999999999999999"]):
            with self.subTest(arguments=arguments):
                out, err = self.run_lend(*arguments, code=2)
                self.assertEqual(out, "")
                self.assertIn("lend", err)

    # The demo.

    def check_demo(self, result, model, iterations, path="local/mapped"):
        job = result["job"]
        self.assertEqual(result["model"]["name"], model)
        self.assertEqual((result["verdict"], result["failure"]), ("right", None))
        self.assertEqual(job["path"], path)
        self.assertEqual(job["pieces_wrong"], 0)
        self.assertEqual(job["bytes"], job["pieces"] * result["model"]["block_bytes"])
        self.assertEqual(job["bytes_right"], job["bytes"] * job["rounds"])
        for name in ("register_ns", "prepare_ns", "post_ns", "pull_ns", "memcpy_ns",
                     "metadata_bytes", "ticket_bytes"):
            self.assertGreater(job[name], 0, name)

        allowed = {
            "1 take back while reading": {"LEND_OK", "LEND_E_REVOKED", "LEND_E_STALE"},
            "3 abort": {"LEND_OK", "LEND_E_CANCELED"},
            "4 death": {"LEND_OK", "LEND_E_PEER_DEAD", "LEND_E_TIMEOUT"},
        }
        references = []
        for row in result["acts"]:
            self.assertEqual(row["verdict"], "right", row)
            self.assertEqual(row["repetitions"], iterations, row)
            self.assertEqual(sum(row["seen"].values()), iterations, row)
            if row["act"] == "2 bad reference":
                references.append(row["expected"])
                self.assertEqual(row["seen"], {"LEND_E_" + row["expected"]: iterations})
            elif row["done"].startswith("reader stopped"):
                self.assertLessEqual(set(row["seen"]), {"LEND_OK", "LEND_E_BUSY"}, row)
            else:
                self.assertLessEqual(set(row["seen"]), allowed[row["act"]], row)
        self.assertEqual(references, ["UNKNOWN", "OUT_OF_RANGE", "CONSUMED", "STALE", "EXPIRED"])
        self.assertEqual([row["act"][0] for row in result["acts"]], list("1222223344444"))

    def test_the_demo_is_right_and_says_so(self):
        out, err = self.run_lend("demo", "--json", "--blocks", "1000", "--memory", "256M",
                                 "--iterations", "3")
        self.check_demo(json.loads(out), "Llama-3.1-8B", 3)
        self.assertEqual(err, "")

    def test_each_path_that_the_demo_is_told_to_take_is_taken(self):
        for path in ("local/mapped", "local/served"):
            with self.subTest(path=path):
                out, _ = self.run_lend("demo", "--json", "--path", path, "--blocks", "64",
                                       "--memory", "64M", "--iterations", "1")
                self.check_demo(json.loads(out), "Llama-3.1-8B", 1, path)

    def test_a_model_with_one_tensor_a_layer_works_as_well(self):
        out, _ = self.run_lend("demo", "--json", "--model", "deepseek-r1", "--blocks", "1",
                               "--memory", "64M", "--iterations", "1")
        self.check_demo(json.loads(out), "DeepSeek-R1", 1)

    def test_the_table_has_a_verdict_for_each_act(self):
        out, _ = self.run_lend("demo", "--blocks", "64", "--memory", "64M", "--iterations", "1")
        self.assertEqual(sum(line.endswith(" right") for line in out.splitlines()), 13, out)
        self.assertNotIn("wrong ", out.replace("blocks wrong", ""))
        self.assertRegex(out, r"\npath +local/mapped\n")
        self.assertRegex(out, r"\npull beside memcpy +[\d.]+x first, [\d.]+x warm\n")

    def test_too_little_memory_is_refused_with_the_remedy(self):
        _, err = self.run_lend("demo", "--memory", "1M", code=1)
        self.assertIn("--memory", err)
        _, err = self.run_lend("demo", "--memory", "60000G", code=1)
        self.assertIn("free", err)

    def test_an_unknown_transport_is_refused_by_name(self):
        _, err = self.run_lend("demo", "--transport", "pigeon", code=1)
        self.assertIn("pigeon", err)

    def test_an_interrupted_demo_leaves_nothing_behind(self):
        process = self.start("demo", "--iterations", "100000", "--blocks", "64", "--memory", "64M")
        deadline = time.monotonic() + LIMIT_S
        while len(processes_of(self.mark)) < 3 and time.monotonic() < deadline:
            os.sched_yield()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=LIMIT_S)
        self.assertEqual(process.returncode, 1, err)

    def test_without_storage_the_demo_says_so_and_is_right_all_the_same(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 20, hard))
        try:  # no file for a cache, and so no storage; SIGXFSZ stays ignored, as Python has it
            process = subprocess.Popen(
                [LEND, "demo", "--json", "--path", "local/served", "--blocks", "64", "--memory",
                 "64M", "--iterations", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                text=True, env=self.environment, restore_signals=False)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        self.started.append(process)
        out, err = process.communicate(timeout=LIMIT_S)
        self.assertEqual(process.returncode, 0, err + out)
        self.check_demo(json.loads(out), "Llama-3.1-8B", 1, "local/served")
        self.assertIn("anonymous memory is lent", err)

    # Its halves.

    def test_pulls_are_checked_and_notified_until_the_consumer_is_done(self):
        process = self.serve("--consumers", "1")
        out, _ = self.pull("--repeat", "3", "--json", "--seed", "7", "--path", "local/served")
        rounds = json.loads(out)["rounds"]
        self.assertEqual([one["status"] for one in rounds], ["LEND_OK"] * 3)
        self.assertEqual([one["pieces"] for one in rounds], [256] * 3)
        self.assertEqual([one["pieces_wrong"] for one in rounds], [0] * 3)
        events = self.finish(process)
        notes = [event for event in events if event["event"] == "notification"]
        self.assertEqual([note["peer"] for note in notes], ["reader"] * 3)
        lease = events[-1]
        self.assertEqual((lease["event"], lease["status"]), ("lease", "LEND_E_CONSUMED"))
        self.assertEqual(lease["bytes"], sum(one["bytes"] for one in rounds))
        self.assertFalse(os.path.exists(self.path("export")))

    def test_a_pull_takes_the_best_path_or_those_that_it_is_told(self):
        process = self.serve()
        served = 0
        for arguments, path in (([], "local/mapped"),
                                (["--path", "local/served"], "local/served"),
                                (["--path", "local/served,local/mapped"], "local/mapped")):
            with self.subTest(arguments=arguments):
                out, _ = self.pull("--repeat", "2", "--json", *arguments)
                rounds = json.loads(out)["rounds"]
                self.assertEqual([one["path"] for one in rounds], [path] * 2)
                if path == "local/served":
                    served += sum(one["bytes"] for one in rounds)
        _, err = self.pull("--path", "local/carried", code=1)
        self.assertIn("local/carried", err)
        process.terminate()
        self.assertEqual(self.finish(process)[-1]["bytes"], served)

    def test_the_export_is_for_its_owner_alone(self):
        process = self.serve()
        self.assertEqual(os.stat(self.path("export")).st_mode & 0o777, 0o600)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(self.finish(process)[-1]["status"], "LEND_OK")

    def test_serving_ends_after_its_seconds(self):
        self.assertEqual(self.finish(self.serve("--seconds", "1"))[-1]["event"], "lease")

    def test_bytes_of_another_generation_are_told_apart(self):
        process = self.serve()
        with open(self.path("export"), encoding="utf-8") as file:
            export = json.load(file)
        export["generation"] += 1
        with open(self.path("export"), "w", encoding="utf-8") as file:
            json.dump(export, file)
        _, err = self.pull(code=1)
        self.assertRegex(err, rf"is of owner {process.pid} region 0 block \d+ generation 1, "
                              rf"not of owner {process.pid} generation 2")
        process.terminate()
        self.finish(process)

    def test_a_dead_owner_is_an_error(self):
        process = self.serve()
        process.kill()
        process.wait()
        _, err = self.pull(code=1)
        self.assertIn("LEND_E_PEER_DEAD", err)

    def test_a_bad_import_is_refused_with_its_cause(self):
        process = self.serve()
        with open(self.path("export"), encoding="utf-8") as file:
            export = json.load(file)
        flipped = export["ticket"][:30] + ("A" if export["ticket"][30] != "A" else "B") \
            + export["ticket"][31:]
        for change, cause in (({"format": 2}, "format 2"),
                              ({"ticket": flipped}, "LEND_E_CORRUPT"),
                              ({"ticket": 5}, "Expected string"),
                              ({"metadata": export["metadata"][:-4]}, "LEND_E_CORRUPT"),
                              ({"metadata": "*"}, "LEND_E_CORRUPT"),
                              ({"model": "GPT-2"}, "GPT-2"), ({"owner": -1}, "LEND_E_CORRUPT")):
            with self.subTest(change=change):
                with open(self.path("export"), "w", encoding="utf-8") as file:
                    json.dump(dict(export, **change), file)
                _, err = self.pull(code=1)
                self.assertIn(cause, err)
        process.terminate()
        self.finish(process)
        for text, cause in (("{", "not JSON"), ("[]", "LEND_E_CORRUPT")):
            with open(self.path("export"), "w", encoding="utf-8") as file:
                file.write(text)
            self.assertIn(cause, self.pull(code=1)[1])
        os.unlink(self.path("export"))
        self.assertIn("LEND_E_ABSENT", self.pull(code=1)[1])

    def test_more_blocks_than_are_lent_are_refused(self):
        process = self.serve()
        _, err = self.run_lend("pull", "--import", self.path("export"), "--blocks", "100000",
                               "--socket-directory", self.path("sockets"), code=1)
        self.assertIn("LEND_E_OUT_OF_RANGE", err)
        process.terminate()
        self.finish(process)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: tool_test.py PATH-OF-LEND")
    LEND = os.path.abspath(sys.argv.pop(1))
    unittest.main()
