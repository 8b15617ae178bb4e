#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a stranger can do to a process that has a worker of UCX: on loopback alone, and to processes
that this script has started.

    tests/ucx/strangers.py BUILD/tests/ucx_worker [TRIES]

Each try starts a process, finds the port on which UCX listens in it, connects, and sends random
frames of UCX's tcp (a greeting that UCX's tcp wants, then a header with a random kind and length,
then random bytes). Prints how many of the processes that ended. It proves no more than its first
line says: that the network behind a worker of UCX has to be trusted.
"""
import os
import pathlib
import random
import signal
import socket
import struct
import subprocess
import sys
import time

GREETING = struct.pack("<Q", 0xCAFEBABE12345678)
CONNECTIONS, FRAMES, PATIENCE_S = 8, 64, 2.0


def port_of(pid):
    """Of the socket on which that process listens on 127.0.0.1, or on every address."""
    inodes = set()
    for link in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        target = os.readlink(link)
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    for line in pathlib.Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and fields[9] in inodes:
            return int(fields[1].rpartition(":")[2], 16)
    return None


def frames(chance):
    blob = bytearray(GREETING)
    for _ in range(FRAMES):
        length = chance.randrange(0, 256)
        blob += struct.pack("<BI", chance.randrange(0, 32), length) + chance.randbytes(length)
    return bytes(blob)


def harass(port, chance):
    for _ in range(CONNECTIONS):
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as stranger:
                stranger.sendall(frames(chance))
                stranger.settimeout(0.2)
                stranger.recv(4096)
        except OSError:
            pass


def end_of(worker):
    """How it ended by itself; None if it did not."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if worker.poll() is not None:
            return worker.returncode
        try:
            worker.wait(0.1)
        except subprocess.TimeoutExpired:
            pass
    return None


def attempt(program, chance):
    environment = dict(os.environ, UCX_LOG_LEVEL="fatal", UCX_HANDLE_ERRORS="none")
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, env=environment) as worker:
        try:
            said = worker.stdout.readline().decode()
            if said != "ready\n":
                print(said.strip())
                sys.exit(77)
            harass(port_of(worker.pid), chance)
            return end_of(worker)
        finally:
            worker.kill()


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    tries = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    seed = int(os.environ.get("LEND_SEED", random.randrange(1 << 32)))
    chance = random.Random(seed)
    ends = {}
    for _ in range(tries):
        end = attempt(sys.argv[1], chance)
        ends[end] = ends.get(end, 0) + 1
    died = tries - ends.get(None, 0)
    print(f"{died} of {tries} processes died of random frames (LEND_SEED={seed})")
    for end, count in sorted(ends.items(), key=lambda pair: -pair[1]):
        what = "went on" if end is None else (
            signal.Signals(-end).name if end < 0 else f"exit status {end}")
        print(f"  {count:3} {what}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
