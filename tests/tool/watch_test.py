#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: `lend top` and `lend metrics` tell what real agents do, name the pages of killed ones, and
come to an end with clean output whatever lies in the folder.

Method: run them beside `lend serve` and `lend pull`; and on pages written here by hand, whose
layout is that of include/lend/statistics.h. A page that this test has locked is of a live agent.

Use: watch_test.py PATH-OF-LEND [unittest options]
"""

import ctypes
import fcntl
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

LEND = ""
LIMIT_S = 120
MAGIC = int.from_bytes(b"LENDSTAT", "little")

SAMPLE = re.compile(r'^(?P<name>[a-z_]+)(?:\{(?P<labels>(?:[a-z]+="(?:\\.|[^"\\])*",?)*)\})? '
                    r'(?P<value>[0-9.]+)$')


class Path(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char * 32)] + [
        (name, ctypes.c_uint64) for name in
        ("transfers", "transfers_failed", "bytes_read", "bytes_written")]


class Lease(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in
                ("sequence", "id", "granted_ns", "expires_ns", "block_count", "requests", "bytes")
                ] + [("region_count", ctypes.c_uint32), ("access", ctypes.c_uint32),
                     ("region", ctypes.c_char * 64), ("peer", ctypes.c_char * 64),
                     ("last_user", ctypes.c_char * 64)]


class Peer(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in
                ("sequence", "id", "connected_ns", "requests", "bytes_read", "bytes_written",
                 "requests_active")] + [("name", ctypes.c_char * 64)]


class Page(ctypes.Structure):
    _fields_ = [("magic", ctypes.c_uint64), ("version", ctypes.c_uint32),
                ("bytes", ctypes.c_uint32), ("pid", ctypes.c_uint64),
                ("started_ns", ctypes.c_uint64), ("incarnation", ctypes.c_uint8 * 16),
                ("name", ctypes.c_char * 64), ("library_version", ctypes.c_char * 32),
                ("numbers", ctypes.c_uint64 * 23), ("paths", Path * 16),
                ("lease_rows", Lease * 256), ("peer_rows", Peer * 64)]


def make_page(name=b"made", incarnation=b"\x01\x23\x45\x67"):
    page = Page(magic=MAGIC, version=1, bytes=ctypes.sizeof(Page), pid=7, name=name,
                library_version=b"9.9.9")
    for at, byte in enumerate(incarnation):
        page.incarnation[at] = byte
    return page


class WatchTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="lend-test-", dir="/tmp")
        self.sockets = os.path.join(self.folder, "sockets")
        os.mkdir(self.sockets, mode=0o700)
        self.started = []
        self.held = []

    def tearDown(self):
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate()
        for file in self.held:
            file.close()
        shutil.rmtree(self.folder)

    def start(self, *arguments):
        process = subprocess.Popen([LEND, *arguments], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        self.started.append(process)
        return process

    def run_lend(self, *arguments, code=0):
        process = self.start(*arguments)
        out, err = process.communicate(timeout=LIMIT_S)
        self.assertEqual(process.returncode, code, f"{arguments}: {err}{out}")
        return out, err

    def top(self):
        out, err = self.run_lend("top", "--json", "--interval", "0.05", "--directory",
                                 self.sockets)
        self.assertEqual(err, "")
        return json.loads(out)

    def tables(self):
        out, err = self.run_lend("top", "--interval", "0.05", "--directory", self.sockets)
        self.assertEqual(err, "")
        self.assertRegex(out, r"\A[\n -~]*\Z")
        return out

    def metrics(self):
        """Every sample by its name and labels, once the whole text is seen to be in order."""
        out, err = self.run_lend("metrics", "--directory", self.sockets)
        self.assertEqual(err, "")
        samples, types, helped, current = {}, {}, set(), None
        for line in out.splitlines():
            if line.startswith("# HELP "):
                current = line.split()[2]
                self.assertNotIn(current, helped)
                helped.add(current)
            elif line.startswith("# TYPE "):
                _, _, name, types[name] = line.split()
                self.assertEqual(name, current)
                self.assertEqual(types[name], "counter" if name.endswith("_total") else "gauge")
            else:
                match = SAMPLE.match(line)
                self.assertTrue(match, line)
                self.assertEqual(match["name"], current)
                labels = re.findall(r'([a-z]+)="((?:\\.|[^"\\])*)"', match["labels"] or "")
                key = (current, frozenset(labels))
                self.assertNotIn(key, samples)
                samples[key] = float(match["value"])
        return samples

    def serve(self):
        process = self.start("serve", "--export", os.path.join(self.folder, "export"), "--memory",
                             "64M", "--json", "--socket-directory", self.sockets)
        self.assertEqual(json.loads(process.stdout.readline() or "{}").get("event"), "ready")
        return process

    def pull(self, repeat):
        return self.start("pull", "--import", os.path.join(self.folder, "export"), "--blocks",
                          "256", "--socket-directory", self.sockets, "--repeat", repeat,
                          "--path", "local/served")

    def write(self, content, name="made-01234567.stats", live=True):
        path = os.path.join(self.sockets, name)
        with open(path, "wb") as file:
            file.write(bytes(content))
        if live:
            file = open(path, "rb")
            fcntl.flock(file, fcntl.LOCK_EX)
            self.held.append(file)
        return path

    # Real agents.

    def wait_for_both(self):
        """The pages of owner and reader, when something has moved between them."""
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            agents = {agent["agent"]: agent for agent in self.top()["agents"]}
            if len(agents) == 2 and agents["reader"]["paths"] and agents["owner"]["peer_rows"]:
                return agents["owner"], agents["reader"]
        self.fail("nothing moves")

    def test_top_tells_who_holds_what_and_what_moves(self):
        server = self.serve()
        self.pull("1000000")
        owner, reader = self.wait_for_both()
        self.assertEqual((owner["state"], owner["pid"]), ("live", server.pid))
        self.assertEqual((owner["leases"], owner["regions"], owner["peers_served"]), (1, 64, 1))
        self.assertGreater(owner["bytes_served_read"], 0)
        lease, = owner["lease_rows"]
        self.assertEqual((lease["region"], lease["regions"], lease["peer"], lease["last_user"]),
                         ("layers.0.k", 64, None, "reader"))
        self.assertTrue(lease["reads"] and not lease["writes"])
        self.assertTrue(0 < lease["expires_in_s"] <= 60, lease)
        peer, = owner["peer_rows"]
        self.assertEqual(peer["peer"], "reader")
        path, = reader["paths"]
        self.assertEqual((path["path"], path["transfers_failed"]), ("local/served", 0))
        self.assertGreater(path["bytes_read"], 0)
        self.assertEqual((owner["rows_skipped"], owner["sessions_broken"]), (0, 0))

        out = self.tables()
        for title in ("AGENTS", "LEASES", "PEERS SERVED", "PATHS TAKEN"):
            self.assertIn(f"{title}\n", out)
        self.assertRegex(out, r"owner +[0-9a-f]+ +layers.0.k \+ 63 +\d+ read +any bearer reader")

    def test_metrics_count_what_was_pulled(self):
        self.serve()
        out, err = self.pull("3").communicate(timeout=LIMIT_S)
        samples = self.metrics()
        owner = {dict(labels).get("incarnation") for _, labels in samples
                 if dict(labels).get("agent") == "owner"}
        self.assertEqual(len(owner), 1, out + err)
        base = {("agent", "owner"), ("incarnation", owner.pop())}

        def value(name, *labels):
            return samples[name, frozenset(base | set(labels))]
        self.assertEqual(value("lend_served_bytes_total", ("direction", "read")),
                         3 * 256 * 32768, out + err)
        self.assertEqual(value("lend_served_bytes_total", ("direction", "write")), 0)
        self.assertEqual(value("lend_leases"), 1)
        self.assertEqual(value("lend_leases_ended_total", ("cause", "revoked")), 0)
        self.assertGreaterEqual(value("lend_requests_served_total"), 3)
        self.assertEqual(value("lend_notifications_received_total"), 3)
        self.assertGreater(value("lend_lease_oldest_seconds"), 0)
        self.assertEqual(samples["lend_statistics_files", frozenset({("state", "live")})], 1)

        told = json.loads(self.run_lend("metrics", "--json", "--directory", self.sockets)[0])
        self.assertEqual({metric["name"] for metric in told["metrics"]}
                         - {name for name, _ in samples},
                         {"lend_transfers_total", "lend_transfer_bytes_total"})

    def test_a_killed_agents_page_is_named_as_stale(self):
        server = self.serve()
        self.assertEqual(self.top()["agents"][0]["state"], "live")
        server.kill()
        server.wait()
        agent, = self.top()["agents"]
        self.assertEqual(agent["state"], "stale")
        self.assertNotIn("lease_rows", agent)
        self.assertIn(f"{agent['file']} is stale", self.tables())
        samples = self.metrics()
        self.assertEqual(samples["lend_statistics_files", frozenset({("state", "stale")})], 1)
        self.assertEqual({name for name, _ in samples}, {"lend_statistics_files"})

    def test_a_terminal_is_drawn_again_until_it_is_enough(self):
        self.serve()
        ours, theirs = pty.openpty()
        process = subprocess.Popen([LEND, "top", "--interval", "0.05", "--directory",
                                    self.sockets], stdout=theirs, stderr=subprocess.PIPE,
                                   stdin=subprocess.DEVNULL)
        self.started.append(process)
        os.close(theirs)
        seen = b""
        while seen.count(b"\x1b[H\x1b[2J") < 3:
            seen += os.read(ours, 65536)
        self.assertIn(b"LEASES", seen)
        self.assertIsNone(process.poll())
        process.terminate()
        os.close(ours)

    # Pages by hand.

    def test_names_are_made_fit_for_every_format(self):
        page = make_page(name=b'a"b\\c\n\x1b[2J\xc3\xa9')
        page.paths[0].name = b'x"\\\n'
        page.paths[0].transfers = 2**64 - 1
        page.paths[1].name = b'x"\\?'  # the same, once both are fit to print
        page.lease_rows[3].id = 2**64 - 1
        page.lease_rows[3].granted_ns = 2**64 - 1
        page.lease_rows[3].access = 0xffffffff
        page.lease_rows[3].region = b"\xff" * 64
        page.lease_rows[3].peer = b"\x00"
        page.lease_rows[3].last_user = b"u" * 64
        self.write(page, name="a_b_c___2J__-01234567.stats")
        samples = self.metrics()
        agents = {dict(labels)["agent"] for _, labels in samples if "agent" in dict(labels)}
        self.assertEqual(agents, {r'a\"b\\c??[2J??'})
        paths = [dict(labels) for name, labels in samples if name == "lend_transfers_total"]
        self.assertEqual({labels["path"] for labels in paths}, {r'x\"\\?'})
        agent, = self.top()["agents"]
        self.assertEqual(agent["agent"], 'a"b\\c??[2J??')
        lease, = agent["lease_rows"]
        self.assertEqual((lease["id"], lease["age_s"], lease["last_user"], lease["region"]),
                         ("f" * 16, 0, "u" * 63, "?" * 63))
        self.assertIn("any bearer", self.tables())

    def test_agents_of_one_name_are_told_apart(self):
        self.write(make_page(), name="made-01234567.stats")
        self.write(make_page(incarnation=b"\x01\x23\x45\x68"), name="made-01234568.stats")
        samples = self.metrics()  # which looks for doubles
        self.assertEqual(samples["lend_statistics_files", frozenset({("state", "live")})], 2)

    def test_a_row_that_is_always_being_written_is_left_out(self):
        page = make_page()
        page.lease_rows[0].id = page.lease_rows[1].id = 5
        page.lease_rows[1].sequence = 1
        page.peer_rows[2].id = 9
        page.peer_rows[2].sequence = 2**64 - 1
        self.write(page)
        agent, = self.top()["agents"]
        self.assertEqual((len(agent["lease_rows"]), len(agent["peer_rows"])), (1, 0))
        self.assertEqual(agent["rows_skipped"], 2)
        self.tables()
        self.metrics()

    def test_what_is_no_page_is_named_with_its_reason(self):
        good = bytes(make_page())
        newer, other, unfinished = make_page(), make_page(), make_page()
        newer.version, other.magic, unfinished.magic = 2, 1, 0
        causes = {"cut-00000000.stats": (good[:4000], "is cut"),
                  "short-00000000.stats": (good[:7], "is empty"),
                  "empty-00000000.stats": (b"", "is empty"),
                  "early-00000000.stats": (unfinished, "is empty"),
                  "newer-00000000.stats": (newer, "has version 2"),
                  "other-00000000.stats": (other, "is no statistics page"),
                  "ones-00000000.stats": (b"\xff" * len(good), "is no statistics page"),
                  "renamed-00000000.stats": (good, "is of another agent")}
        for name, (content, _) in causes.items():
            self.write(content, name=name, live=False)
        os.mkfifo(os.path.join(self.sockets, "pipe.stats"))
        os.mkdir(os.path.join(self.sockets, "folder.stats"))
        os.symlink("made-01234567.stats", os.path.join(self.sockets, "link.stats"))
        self.write(make_page(name=b"made"))
        self.write(b"", name="no-page.txt", live=False)
        told = self.top()
        reasons = {one["file"]: one["reason"] for one in told["unreadable"]}
        self.assertEqual(set(reasons), set(causes) | {"pipe.stats", "folder.stats", "link.stats"})
        for name, (_, cause) in causes.items():
            self.assertIn(cause, reasons[name])
        self.assertEqual([agent["agent"] for agent in told["agents"]], ["made"])
        samples = self.metrics()
        self.assertEqual(samples["lend_statistics_files", frozenset({("state", "unreadable")})],
                         len(reasons))
        self.assertIn("renamed-00000000.stats is of another agent", self.tables())

    # The command line.

    def test_a_folder_without_agents_is_no_error_but_one_that_is_not_there_is(self):
        self.assertIn("no agent", self.tables())
        self.assertEqual(self.top()["agents"], [])
        for command in ("top", "metrics"):
            _, err = self.run_lend(command, "--directory", os.path.join(self.folder, "none"),
                                   code=1)
            self.assertIn("none", err)

    def test_a_usage_error_ends_with_2(self):
        for arguments in (["top", "more"], ["top", "--interval", "0"], ["top", "--interval", "x"],
                          ["top", "--interval", "nan"], ["metrics", "more"],
                          ["metrics", "--interval", "1"]):
            out, err = self.run_lend(*arguments, code=2)
            self.assertEqual(out, "")
            self.assertIn("lend", err)
        for command in ("top", "metrics"):
            self.assertIn("Usage: lend", self.run_lend(command, "--help")[0])


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: watch_test.py PATH-OF-LEND")
    LEND = os.path.abspath(sys.argv.pop(1))
    unittest.main()
