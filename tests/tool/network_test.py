#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: what the built `lend` command does between machines is what it says: an owner that listens,
a reader that asks it, a secret that both need, two hosts for the demonstration and the benchmark;
and nothing is left behind.

Method: run it as a user does. Owner and reader are processes of this machine, joined by the
loopback device over both IPv4 and IPv6, or by the two hosts that the command makes. What the kernel
or this user's rights do not give is skipped, with the reason.

Use: network_test.py PATH-OF-LEND PATH-OF-SECRET-PLUGIN PATH-OF-ETCD-PLUGIN [unittest options]
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

LEND = PLUGIN = ETCD = ""
LIMIT_S = 300
ROWS_OF_THE_ACTS = {"1 take back while reading": 1, "2 bad reference": 5, "3 abort": 2,
                    "4 death": 6}
NETWORK_ROWS = ["one large block"] + ["scattered blocks"] * 3 + [
    "one small block, there and back"] * 2 + [
    "many peers at once", "memory of the owner for one of many peers",
    "notification during a full pull"]


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False


def network_of(process):
    """The network namespace of a process; None: it is gone."""
    try:
        return os.readlink(f"/proc/{process}/ns/net")
    except OSError:
        return None


def networks_of(temporary):
    """Those of the processes that have this temporary directory."""
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                if f"TMPDIR={temporary}".encode() in file.read().split(b"\0"):
                    found.add(network_of(name))
        except OSError:
            continue
    return found - {None}


class NetworkTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="lend-test-", dir="/tmp")
        self.temporary = os.path.join(self.folder, "tmp")
        os.mkdir(self.temporary)
        self.environment = dict(os.environ, TMPDIR=self.temporary)
        self.started = []

    def tearDown(self):
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate()
        # The thread sanitizer's own, of a process that was killed as it began.
        left = [name for name in os.listdir(self.temporary) if not name.startswith("tsan.")]
        shutil.rmtree(self.folder)
        self.assertEqual(left, [], "files were left behind")

    def path(self, name):
        return os.path.join(self.folder, name)

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

    def serve(self, *arguments, listen="127.0.0.1"):
        """Start `lend serve`; it and its address when it is ready."""
        process = self.start("serve", "--listen", listen, "--memory", "64M", "--json",
                             "--socket-directory", self.sockets(), *arguments)
        line = process.stdout.readline()
        self.assertTrue(line, "serve is not ready: " + (process.stderr.read() if not line else ""))
        event = json.loads(line)
        self.assertEqual(event["event"], "ready")
        return process, event["address"]

    def sockets(self):
        folder = self.path("sockets")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        return folder

    def pull(self, *arguments, code=0):
        return self.run_lend("pull", "--blocks", "256", "--transport", "tcp", "--json", *arguments,
                             code=code)

    def finish(self, process, code=0):
        out, err = process.communicate(timeout=LIMIT_S)
        self.assertEqual(process.returncode, code, err)
        return [json.loads(line) for line in out.splitlines()]

    def secret(self, name, text="0123456789abcdef0123456789abcdef\n", mode=0o600):
        path = self.path(name)
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    # An owner that listens.

    def check_pull(self, listen, start):
        owner, address = self.serve("--consumers", "1", listen=listen)
        self.assertRegex(address, start)
        told = json.loads(self.pull("--from", address, "--repeat", "3")[0])
        self.assertEqual([(row["path"], row["status"], row["pieces_wrong"])
                          for row in told["rounds"]], [("tcp/served", "LEND_OK", 0)] * 3)
        events = self.finish(owner)
        self.assertEqual([event["event"] for event in events], ["notification"] * 3 + ["lease"])
        self.assertEqual(events[-1]["status"], "LEND_E_CONSUMED")

    def test_a_reader_pulls_from_an_owner_that_listens(self):
        self.check_pull("127.0.0.1", r"^127\.0\.0\.1:\d+$")

    def test_a_reader_pulls_over_ipv6(self):
        if not has_ipv6():
            self.skipTest("this machine has no IPv6")
        self.check_pull("[::1]:0", r"^\[::1\]:\d+$")

    def test_people_are_told_the_command_of_the_reader(self):
        process = self.start("serve", "--listen", "127.0.0.1", "--memory", "64M", "--consumers",
                             "1", "--socket-directory", self.sockets())
        process.stdout.readline()
        line = process.stdout.readline()
        self.assertRegex(line, r"^listening on (\S+): lend pull --from \1\n$")
        self.pull("--from", line.split()[-1])
        self.assertEqual(process.wait(LIMIT_S), 0)

    def test_a_file_is_written_beside_it_where_one_is_wanted(self):
        owner, address = self.serve("--consumers", "2", "--export", self.path("export"))
        self.pull("--from", address)
        self.pull("--import", self.path("export"))
        self.finish(owner)
        self.assertFalse(os.path.exists(self.path("export")))

    def test_on_one_machine_the_better_path_is_taken(self):
        owner, address = self.serve("--consumers", "1")
        told = json.loads(self.run_lend("pull", "--from", address, "--blocks", "256", "--json",
                                        "--socket-directory", self.sockets())[0])
        self.assertIn(told["rounds"][0]["path"], ("local/mapped", "local/served"))
        self.finish(owner)

    def test_a_reader_waits_for_an_owner_that_is_not_there_yet(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = "127.0.0.1:%d" % probe.getsockname()[1]
        reader = self.start("pull", "--from", address, "--wait", "60", "--blocks", "256",
                            "--transport", "tcp", "--json")
        owner, told = self.serve("--consumers", "1", listen=address)
        self.assertEqual(told, address)
        out, err = reader.communicate(timeout=LIMIT_S)
        self.assertEqual((reader.returncode, err), (0, ""))
        self.assertEqual(json.loads(out)["rounds"][0]["status"], "LEND_OK")
        self.finish(owner)

    def test_nobody_and_nonsense_are_told_apart(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0)) # and does not listen
            _, err = self.pull("--from", "127.0.0.1:%d" % probe.getsockname()[1], code=1)
        self.assertIn("LEND_E_PEER_DEAD", err)
        _, err = self.pull("--from", "localhost", code=1)
        self.assertIn("LEND_E_INVALID", err)

    def test_explain_asks_the_owner_too(self):
        owner, address = self.serve()
        told = json.loads(self.run_lend("explain", "--from", address, "--connect", "--json",
                                        "--transport", "tcp")[0])
        taken = {path["path"] for region in told["regions"] for path in region["paths"]
                 if path["is_chosen"]}
        self.assertEqual(taken, {"tcp/served"})
        owner.terminate()
        self.finish(owner)

    def test_an_address_of_another_machine_cannot_be_listened_at(self):
        _, err = self.run_lend("serve", "--listen", "192.0.2.1", "--memory", "64M", code=1)
        self.assertIn("192.0.2.1", err)

    def test_usage_errors_end_with_2(self):
        for arguments in (["serve"], ["serve", "--directory", "etcd://127.0.0.1:1"],
                          ["serve", "--advertise", "127.0.0.1", "--export", "file"],
                          ["serve", "--transport", "tcp", "--export", "file"], ["pull"],
                          ["pull", "--import", "file", "--from", "127.0.0.1:1"],
                          ["pull", "--from", "127.0.0.1:1", "--name", "owner"],
                          ["explain"], ["explain", "file", "--from", "127.0.0.1:1"],
                          ["demo", "--hosts", "3"], ["bench", "--hosts", "0"],
                          ["bench", "--hosts", "2", "post"], ["bench", "--transport", "local"]):
            with self.subTest(arguments=arguments):
                out, err = self.run_lend(*arguments, code=2)
                self.assertEqual(out, "")
                self.assertIn("lend " + arguments[0], err)

    # A secret.

    def test_a_secret_that_others_may_read_is_refused_with_the_remedy(self):
        for mode in (0o640, 0o604, 0o620):
            path = self.secret("secret", mode=mode)
            _, err = self.run_lend("serve", "--listen", "127.0.0.1", "--secret-file", path, code=1)
            self.assertIn(f"chmod 600 {path}", err)
            self.assertIn("LEND_E_ACCESS", err)

    def test_a_secret_that_is_none_is_refused(self):
        for text in ("", "short\n", "x" * 65 + "\n", "x" * 200):
            path = self.secret("secret", text)
            _, err = self.run_lend("serve", "--listen", "127.0.0.1", "--secret-file", path, code=1)
            self.assertIn("16 .. 64", err)
            self.assertNotIn("xxxx", err)
        _, err = self.run_lend("serve", "--listen", "127.0.0.1", "--secret-file",
                               self.path("missing"), code=1)
        self.assertIn("/dev/urandom", err)
        _, err = self.run_lend("serve", "--listen", "127.0.0.1", "--secret-file", self.folder,
                               code=1)
        self.assertIn("is not a file", err)

    def test_only_who_has_the_secret_pulls(self):
        if not PLUGIN:
            self.skipTest("this build has no plugin for secrets")
        right = ("--secret-file", self.secret("right"), "--secret-plugin", PLUGIN)
        wrong = ("--secret-file", self.secret("wrong", "another secret, as long\n"),
                 "--secret-plugin", PLUGIN)
        owner, address = self.serve("--consumers", "1", *right)
        for arguments in ((), wrong):
            out, err = self.pull("--from", address, *arguments, code=1)
            self.assertEqual(out, "")
            self.assertRegex(err, r"secret.*\(LEND_E_(ACCESS|PEER_DEAD)\)") # it tells us nothing
        told = json.loads(self.pull("--from", address, *right)[0])
        self.assertEqual(told["rounds"][0]["status"], "LEND_OK")
        self.finish(owner)

    def test_a_secret_without_its_plugin_is_an_error(self):
        _, err = self.run_lend("serve", "--listen", "127.0.0.1", "--memory", "64M",
                               "--secret-file", self.secret("secret"), "--secret-plugin",
                               self.path("missing.so"), code=1)
        self.assertIn("LEND_E_ABSENT", err)

    # A directory.

    def etcd(self):
        """Start a real etcd; its URL when it answers."""
        if not ETCD or shutil.which("etcd") is None:
            self.skipTest("no etcd on this machine, or no plugin for it in this build")
        with socket.create_server(("127.0.0.1", 0)) as one, \
                socket.create_server(("127.0.0.1", 0)) as other:
            clients, peers = (f"http://127.0.0.1:{s.getsockname()[1]}" for s in (one, other))
        process = subprocess.Popen(
            ["etcd", "--data-dir", self.path("etcd"), "--listen-client-urls", clients,
             "--advertise-client-urls", clients, "--listen-peer-urls", peers,
             "--initial-advertise-peer-urls", peers, "--initial-cluster", f"default={peers}"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.started.append(process)
        for line in process.stdout:
            if "ready to serve client requests" in line:
                break
        threading.Thread(target=process.stdout.read, daemon=True).start()
        return clients.replace("http", "etcd")

    def test_a_reader_finds_an_owner_by_its_name(self):
        url = self.etcd()
        at = ("--directory", url, "--directory-plugin", ETCD)
        reader = self.start("pull", *at, "--name", "alpha", "--wait", "60", "--blocks", "256",
                            "--transport", "tcp", "--json")
        owner, _ = self.serve("--consumers", "1", "--name", "alpha", *at)
        out, err = reader.communicate(timeout=LIMIT_S)
        self.assertEqual((reader.returncode, err), (0, ""))
        self.assertEqual(json.loads(out)["rounds"][0]["status"], "LEND_OK")
        events = self.finish(owner)
        self.assertEqual(events[-1]["status"], "LEND_E_CONSUMED")
        _, err = self.pull(*at, "--name", "alpha", code=1) # it took its entry back
        self.assertIn("LEND_E_ABSENT", err)

    def test_a_directory_that_does_not_answer_is_told(self):
        if not ETCD:
            self.skipTest("this build has no plugin for etcd")
        _, err = self.pull("--directory", "etcd://127.0.0.1:1", "--directory-plugin", ETCD, code=1)
        self.assertIn("127.0.0.1", err)
        self.assertRegex(err, r"LEND_E_(NO_PATH|TIMEOUT)")

    # Two hosts.

    def run_hosts(self, *arguments):
        """Skips where two hosts cannot be made."""
        process = self.start(*arguments, "--hosts", "2")
        out, err = process.communicate(timeout=LIMIT_S)
        if process.returncode == 1 and ("LEND_E_ACCESS" in err or "iproute2" in err):
            self.skipTest(err.strip())
        self.assertEqual((process.returncode, err), (0, ""))
        return out

    def test_the_demonstration_stands_on_two_hosts(self):
        told = json.loads(self.run_hosts("demo", "--iterations", "2", "--memory", "192M",
                                         "--blocks", "256", "--json"))
        self.assertEqual((told["verdict"], told["failure"]), ("right", None))
        job = told["job"]
        self.assertEqual((job["path"], job["pieces_wrong"]), ("tcp/served", 0))
        self.assertEqual(job["bytes_right"], job["bytes"] * job["rounds"])
        rows = [row["act"] for row in told["acts"]]
        self.assertEqual({act: rows.count(act) for act in rows}, ROWS_OF_THE_ACTS)
        for row in told["acts"]:
            self.assertEqual((row["verdict"], row["repetitions"]), ("right", 2), row)
        cut = told["acts"][-1]
        self.assertEqual(cut["done"], "link cut")
        self.assertLessEqual(set(cut["seen"]), {"LEND_E_PEER_DEAD", "LEND_OK"})

    def test_the_demonstration_runs_over_tcp_on_one_host_too(self):
        told = json.loads(self.run_lend("demo", "--transport", "tcp", "--iterations", "1",
                                        "--memory", "192M", "--blocks", "64", "--json")[0])
        self.assertEqual((told["verdict"], told["job"]["path"]), ("right", "tcp/served"))

    def test_the_hosts_are_no_part_of_this_machine(self):
        before = os.listdir("/sys/class/net")
        self.run_hosts("demo", "--iterations", "1", "--memory", "192M", "--blocks", "64", "--json")
        self.assertEqual(os.listdir("/sys/class/net"), before)

    def test_a_demonstration_that_is_ended_in_any_way_leaves_no_host(self):
        for number in (signal.SIGINT, signal.SIGKILL):
            process = self.start("demo", "--hosts", "2", "--iterations", "1000", "--memory", "192M",
                                 "--blocks", "64")
            deadline = time.monotonic() + LIMIT_S
            while not (networks := networks_of(self.environment["TMPDIR"]) - {network_of("self")}):
                if process.poll() is not None:
                    err = process.stderr.read()
                    if "LEND_E_ACCESS" in err or "iproute2" in err:
                        self.skipTest(err.strip())
                self.assertLess(time.monotonic(), deadline)
            process.send_signal(number)
            process.communicate(timeout=LIMIT_S)
            while networks & {network_of(name) for name in os.listdir("/proc") if name.isdigit()}:
                self.assertLess(time.monotonic(), deadline, "a host was left behind")
            for name in os.listdir(self.temporary): # nobody can do that for who was killed
                self.assertEqual(number, signal.SIGKILL, name)
                shutil.rmtree(os.path.join(self.temporary, name))

    def check_bench(self, text):
        told = json.loads(text)
        self.assertEqual(list(told["sections"]), ["network"])
        rows = told["sections"]["network"]
        self.assertEqual([row["what"] for row in rows], NETWORK_ROWS)
        for row in rows:
            self.assertEqual((row["path"], row["why"]), ("tcp/served", None), row)
            self.assertIsNotNone(row["target"], row)
            if row["measure"] == "bytes":
                self.assertGreaterEqual(row["bytes"], 0)
                continue
            self.assertEqual(len(row["beside"]), 2 if row["what"] == NETWORK_ROWS[-1] else 1, row)
            self.assertGreater(row["median_ns"], 0)
            if row["block_count"] > 0:
                self.assertEqual(row["verified_bytes"], row["block_bytes"] * row["block_count"])

    def test_the_benchmark_measures_over_the_loopback_device(self):
        self.check_bench(self.run_lend("bench", "--transport", "tcp", "--quick", "--json")[0])

    def test_the_benchmark_measures_between_two_hosts(self):
        self.check_bench(self.run_hosts("bench", "--quick", "--json"))


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit("usage: network_test.py PATH-OF-LEND PATH-OF-SECRET-PLUGIN PATH-OF-ETCD-PLUGIN")
    LEND = os.path.abspath(sys.argv.pop(1))
    PLUGIN, ETCD = (sys.argv.pop(1) for _ in range(2))
    unittest.main()
