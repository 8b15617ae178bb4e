# SPDX-License-Identifier: Apache-2.0
"""What the Python package costs beside C: a line for each row of docs/bench.md's table of Python.

    PYTHONPATH=bindings/python LEND_LIBRARY=build/liblend.so.0 \\
        LEND_NIXL_LIBRARY=build/compat/nixl/libnixl_capi.so.0 python3 bench/python/calls.py

Each figure is the median of its rounds. "beside C" is what Python adds: the time of the call less
the time that the library itself says it took, or less that of the same call made by hand with
arguments that are ready. Both agents are in this process, so that nothing of it is another's.
"""
import ctypes
import statistics
import sys
import time

import numpy

import lend
from lend._library import lib

MICRO, MILLI = 1e3, 1e6


def median(rounds, function):
    """Nanoseconds of one call, in the middle of so many."""
    taken = []
    for _ in range(rounds):
        begin = time.perf_counter_ns()
        function()
        taken.append(time.perf_counter_ns() - begin)
    return statistics.median(taken)


def of_many(function, calls=2000, rounds=21):
    """Nanoseconds of one call, of so many in a row."""
    def row():
        for _ in range(calls):
            function()

    return median(rounds, row) / calls


def say(what, value, unit, target=""):
    print(f"{what:<64} {value:>10.2f} {unit:<3} {target}")


class Pair:
    def __init__(self, blocks, block_bytes=64):
        self.owner, self.reader = lend.Agent("bench-owner"), lend.Agent("bench-reader")
        self.cache = numpy.zeros((blocks, block_bytes), "uint8")
        self.mine = numpy.zeros_like(self.cache)
        self.region = self.owner.lend(self.cache, name="cache")
        self.local = self.reader.register(self.mine, name="cache")
        self.peer = self.reader.connect(self.owner.metadata())
        self.ticket = self.peer.ticket(self.region.grant(ttl=3600).ticket)


def calls():
    """One call each, beside the same function of C with arguments that are ready."""
    pair = Pair(1024)
    numbers = numpy.arange(16, dtype="int32")
    transfer = pair.peer.prepare("read", pair.local)
    transfer.post(pair.ticket, numbers, numbers).wait()
    bare = of_many(lambda: lib.lend_version())
    say("a call of C by ctypes, of no arguments: the floor", bare / MICRO, "us")
    python = of_many(transfer.done)
    in_c = c_loop(lib.lend_transfer_test, transfer._handle)
    say("transfer.done(), beside C", (python - in_c) / MICRO, "us", "under 3")
    lease = pair.region.grant(ttl=3600)
    revoke = of_many(lease.revoke)  # the second and later ones change nothing
    say("lease.revoke() of an ended lease", revoke / MICRO, "us", "under 3")
    posts, inside = [], []
    for _ in range(2000):
        begin = time.perf_counter_ns()
        transfer.post(pair.ticket, numbers, numbers)
        posts.append(time.perf_counter_ns() - begin)
        inside.append(transfer.wait().post_ns)
    added = statistics.median(a - b for a, b in zip(posts, inside))
    say("transfer.post() of 16 blocks, beside C", added / MICRO, "us", "under 3")
    say("transfer.post() of 16 blocks, in C", statistics.median(inside) / MICRO, "us")
    waits = median(500, lambda: transfer.post(pair.ticket, numbers, numbers).wait())
    say("post and wait of 16 blocks, in all", waits / MICRO, "us")


def c_loop(function, *arguments):
    """The same by ctypes with arguments that are converted: what is not Python's own code."""
    ready = [ctypes.c_void_p(argument) for argument in arguments]
    return of_many(lambda: function(*ready)) - of_many(lambda: lib.lend_version())


def numbers_as_arrays():
    """A transfer of 80,000 blocks."""
    pair = Pair(80_000)
    for kind in ("int32", "int64"):
        order = numpy.random.default_rng(1).permutation(80_000).astype(kind)
        transfer = pair.peer.prepare("read", pair.local, blocks_max=80_000)
        added = []
        for _ in range(20):
            begin = time.perf_counter_ns()
            transfer.post(pair.ticket, order, order)
            took = time.perf_counter_ns() - begin
            added.append(took - transfer.wait().post_ns)
        say(f"post of 80,000 blocks as NumPy's {kind}, beside C",
            statistics.median(added) / MILLI, "ms", "under 1")


def first_request_by_blocks():
    """64 regions of 100,000 blocks: from the peer's metadata to a request that is posted."""
    layers = {f"layers.{i}": numpy.zeros((100_000, 64), "uint8") for i in range(64)}
    mine = {name: numpy.zeros((100_000, 64), "uint8") for name in layers}
    rounds = []
    for _ in range(5):
        with lend.Agent("bench-owner") as owner, lend.Agent("bench-reader") as reader:
            cache = lend.kv_cache(owner, layers)
            local = lend.kv_cache(reader, mine, access=None)
            metadata, ticket = owner.metadata(), cache.grant(ttl=60).ticket
            blocks = numpy.random.default_rng(1).permutation(100_000)[:512].astype("int32")
            begin = time.perf_counter_ns()
            peer = reader.connect(metadata)
            transfer = local.read(peer, ticket, blocks, blocks)
            rounds.append(time.perf_counter_ns() - begin)
            transfer.wait()
            del peer, transfer
    say("first request, 6.4 million table entries, by blocks", statistics.median(rounds) / MILLI,
        "ms", "under 5")


def first_request_by_nixl():
    """The same by NIXL's interface: tables of rows, looked up."""
    from lend import nixl

    regions, blocks, size = 64, 100_000, 64
    caches = [numpy.zeros((regions, blocks, size), "uint8") for _ in range(2)]

    def table(cache):
        rows = numpy.empty((regions * blocks, 3), "uint64")
        rows[:, 0] = numpy.arange(regions * blocks, dtype="uint64") * numpy.uint64(size)
        rows[:, 0] += numpy.uint64(cache.ctypes.data)
        rows[:, 1], rows[:, 2] = size, 0
        return rows

    steps = {}
    for _ in range(3):
        owner, reader = nixl.nixl_agent("bench-o"), nixl.nixl_agent("bench-r")
        for agent, cache in zip((owner, reader), caches):
            agent.register_memory([(cache[i].ctypes.data, blocks * size, 0, "")
                                   for i in range(regions)], "DRAM")
        metadata, tables = owner.get_agent_metadata(), [table(cache) for cache in caches]
        local = reader.prep_xfer_dlist("NIXL_INIT_AGENT", reader.get_xfer_descs(tables[1], "DRAM"))
        picked = (numpy.arange(regions)[:, None] * blocks + numpy.arange(512)).ravel()
        picked = picked.astype("int32")
        marks = [time.perf_counter_ns()]
        name = reader.add_remote_agent(metadata)
        marks.append(time.perf_counter_ns())
        descs = reader.get_xfer_descs(tables[0], "DRAM")
        remote = reader.prep_xfer_dlist(name, descs)
        marks.append(time.perf_counter_ns())
        request = reader.make_prepped_xfer("READ", local, picked, remote, picked, b"r:1")
        state = reader.transfer(request)
        marks.append(time.perf_counter_ns())
        while state == "PROC":
            state = reader.check_xfer_state(request)
        assert state == "DONE"
        for what, begin, end in zip(("add_remote_agent", "prep_xfer_dlist", "make and transfer"),
                                    marks, marks[1:]):
            steps.setdefault(what, []).append(end - begin)
        steps.setdefault("in all", []).append(marks[-1] - marks[0])
        del request, remote, local, owner, reader, agent
    for what, taken in steps.items():
        say(f"first request, 6.4 million table entries, by NIXL: {what}",
            statistics.median(taken) / MILLI, "ms", "under 200" if what == "in all" else "")


def main():
    chosen = sys.argv[1:]
    for row in (calls, numbers_as_arrays, first_request_by_blocks, first_request_by_nixl):
        if not chosen or row.__name__ in chosen:
            row()


if __name__ == "__main__":
    main()
