# SPDX-License-Identifier: Apache-2.0
"""Goal: a program of NIXL's Python interface runs on lend: the calls that vLLM's connector makes,
in their order and with its sizes, over aborts and a peer that is restarted under its name.

Method: two real processes and NumPy memory: 64 regions of 100,000 blocks of 16 bytes, and requests
of 512 blocks in all of them (8,192 tokens): 32,768 descriptors each. Every byte is compared.
"""
import os
import pickle
import signal
import subprocess
import sys

import numpy
import pytest

try:
    from lend import nixl
    from lend.nixl import _table  # noqa: F401
except ImportError:
    pytest.skip("this build has no libnixl_capi", allow_module_level=True)

REGIONS, BLOCKS, BLOCK_BYTES, REQUEST_BLOCKS = 64, 100_000, 16, 512


class Worker:
    """One side: its caches, registered, and the table of their blocks."""

    def __init__(self, name, blocks=BLOCKS, regions=REGIONS):
        conf = nixl.nixl_agent_config(num_threads=4, capture_telemetry=True)
        self.agent = nixl.nixl_agent(name, conf)
        self.caches = numpy.zeros((regions, blocks, BLOCK_BYTES), "uint8")
        base, size = self.caches.ctypes.data, blocks * BLOCK_BYTES
        self.bases = [base + region * size for region in range(regions)]
        self.blocks, self.regions = blocks, regions
        descs = self.agent.get_reg_descs([(at, size, 0, "") for at in self.bases], "DRAM")
        self.registered = self.agent.register_memory(descs, backends=["UCX"])

    def table(self, bases=None):
        """A row for each block of each region: address, length, device."""
        rows = numpy.zeros((self.regions * self.blocks, 3), "uint64")
        step = numpy.arange(self.blocks, dtype="uint64") * numpy.uint64(BLOCK_BYTES)
        for region, base in enumerate(bases or self.bases):
            rows[region * self.blocks:(region + 1) * self.blocks, 0] = step + numpy.uint64(base)
        rows[:, 1] = BLOCK_BYTES
        return rows

    def prepare(self, name, bases=None):
        descs = self.agent.get_xfer_descs(self.table(bases), "DRAM")
        return self.agent.prep_xfer_dlist(name, descs)

    def indices(self, blocks):
        """The rows of these blocks in every region."""
        return (numpy.arange(self.regions)[:, None] * self.blocks + blocks[None, :]).ravel()


def numbers(mark, regions=REGIONS, blocks=BLOCKS):
    """What the producer's caches hold."""
    first = numpy.arange(regions * blocks, dtype="uint64").reshape(regions, blocks, 1)
    return numpy.concatenate([first, first + numpy.uint64(mark)], 2).view("uint8")


def produce(pipe, mark, *sizes):
    """The process that has the caches."""
    worker = Worker("producer", *sizes)
    worker.caches[:] = numbers(mark, worker.regions, worker.blocks)
    pipe.send((worker.agent.get_agent_metadata(), worker.bases))
    while True:
        what = pipe.recv()
        if what == "notifs":
            pipe.send(worker.agent.get_new_notifs())
        elif what == "end":
            worker.agent.deregister_memory(worker.registered)
            pipe.send(bool((worker.caches == numbers(mark, worker.regions, worker.blocks)).all()))
            return
        else:
            worker.agent.send_notif(*what)
            pipe.send(None)


def notifications(producer, wanted):
    """What the producer was told, when so much has come."""
    found = []
    while len(found) < wanted:
        for name, messages in producer.ask_plain("notifs").items():
            assert name == "consumer"
            found += messages
    return found


@pytest.fixture
def producer(other):
    def start(mark=7, *sizes):
        made = other(produce, mark, *sizes)
        made.ask_plain = lambda words: (made.pipe.send(words), made.hear())[1]
        return made

    return start


class Consumer(Worker):
    def __init__(self, *sizes):
        super().__init__("consumer", *sizes)
        self.local = self.prepare("NIXL_INIT_AGENT")

    def meet(self, metadata, bases):
        self.remote_name = self.agent.add_remote_agent(metadata)
        assert self.remote_name == b"producer"
        self.remote = self.prepare(self.remote_name, bases)

    def start(self, request, theirs, ours):
        handle = self.agent.make_prepped_xfer(
            "READ", self.local, self.indices(ours), self.remote, self.indices(theirs),
            notif_msg=f"{request}:1".encode())
        assert self.agent.transfer(handle) in ("DONE", "PROC")
        return handle

    def finish(self, handle):
        state = "PROC"
        while state == "PROC":
            state = self.agent.check_xfer_state(handle)
        return state


def test_the_calls_of_vllm_with_its_sizes(producer):
    random = numpy.random.default_rng(1)
    owner = producer()
    metadata, bases = owner.hear()
    consumer = Consumer()
    consumer.meet(metadata, bases)
    agent = consumer.agent
    order = random.permutation(BLOCKS)
    for turn in range(2):
        requests = []
        for number in range(4):
            theirs = random.choice(BLOCKS, REQUEST_BLOCKS, replace=False)
            ours = order[(turn * 4 + number) * REQUEST_BLOCKS:][:REQUEST_BLOCKS]
            requests.append((consumer.start(f"r{turn}-{number}", theirs, ours), theirs, ours))
        agent.send_notif(consumer.remote_name, b"HB:r0,r1")
        consumer.agent.release_xfer_handle(requests[1][0])  # an abort: quiet from here on
        consumer.caches[:, requests[1][2]] = 0xee
        kept = 0
        for number, (handle, theirs, ours) in enumerate(requests):
            if number == 1:
                continue
            assert consumer.finish(handle) == "DONE"
            told = agent.get_xfer_telemetry(handle)
            assert told.totalBytes == REGIONS * REQUEST_BLOCKS * BLOCK_BYTES
            agent.release_xfer_handle(handle)
            wanted = (theirs[None, :] + numpy.arange(REGIONS)[:, None] * BLOCKS).astype("uint64")
            seen = consumer.caches[:, ours].view("uint64")
            assert (seen[:, :, 0] == wanted).all() and (seen[:, :, 1] == wanted + 7).all()
            kept += 1
        assert (consumer.caches[:, requests[1][2]] == 0xee).all(), "a byte landed after the abort"
        came = notifications(owner, kept + 1)
        assert b"HB:r0,r1" in came and f"r{turn}-0:1".encode() in came
    agent.release_dlist_handle(consumer.remote)
    agent.release_dlist_handle(consumer.local)
    agent.remove_remote_agent(consumer.remote_name)
    agent.deregister_memory(consumer.registered)
    assert owner.ask_plain("end")


@pytest.mark.parametrize("rows_min", [1, 1 << 30])
def test_a_peer_that_was_restarted_under_its_name_is_met_anew(producer, monkeypatch, rows_min):
    monkeypatch.setattr(nixl._table, "ROWS_MIN", rows_min)  # as runs, or looked up whole
    sizes = (1000, 4)
    old = producer(7, *sizes)
    consumer = Consumer(*sizes)
    consumer.meet(*old.hear())
    stale, blocks = consumer.remote, numpy.arange(16)
    assert consumer.finish(consumer.start("r1", blocks, blocks)) == "DONE"
    os.kill(old.process.pid, signal.SIGKILL)
    old.process.join()
    try:
        handle = consumer.start("r2", blocks, blocks)
        assert consumer.finish(handle) == "ERR"
        consumer.agent.release_xfer_handle(handle)
    except nixl.nixlError:
        pass
    new = producer(9, *sizes)
    consumer.meet(*new.hear())
    assert consumer.finish(consumer.start("r3", blocks, blocks)) == "DONE"
    assert (consumer.caches[:, blocks].view("uint64")[:, :, 1] ==
            consumer.caches[:, blocks].view("uint64")[:, :, 0] + 9).all()
    consumer.remote = stale
    with pytest.raises(nixl.nixlError):
        consumer.start("r4", blocks, blocks)
    assert new.ask_plain("end")


def test_tables_are_the_runs_that_they_were_made_of(monkeypatch):
    table, random = nixl._table, numpy.random.default_rng(3)
    for turn in range(60):
        parts = []
        for _ in range(random.integers(1, 8)):
            part = numpy.empty((random.integers(1, 40), 3), "uint64")
            first, step = int(random.integers(1 << 20, 1 << 40)), int(random.integers(-99, 99))
            part[:, 0] = (first + numpy.arange(len(part)) * step).astype("uint64")
            part[:, 1], part[:, 2] = random.integers(1, 5), random.integers(0, 2)
            parts.append(part)
        rows = numpy.concatenate(parts)
        for at_once in (1 << 15, 7, 3, 2, 1):
            monkeypatch.setattr(table, "_STEP", at_once)
            runs = table.runs_of(rows)
            assert len(runs.hulls()) <= 2 * len(parts)
            assert (runs.take(numpy.arange(len(rows))) == rows).all()
            # Registered in parts of 1000 bytes, on a grid that rows may cross.
            cut = runs.cut(lambda row: (row[0] // 1000 * 1000, 1000)
                           if (row[0] + row[1] - 1) // 1000 == row[0] // 1000 else None)
            if cut is None:
                ends = rows[:, 0] + rows[:, 1] - numpy.uint64(1)
                assert (ends // numpy.uint64(1000) != rows[:, 0] // numpy.uint64(1000)).any()
                continue
            assert (cut.take(numpy.arange(len(rows))) == rows).all()
            for address, length, _ in cut.hulls():
                assert (address + length - 1) // 1000 == address // 1000
    rows[0, 1] = 0
    assert table.runs_of(rows) is None


def test_tables_over_several_registrations_are_moved_and_holes_are_found(pair, monkeypatch):
    monkeypatch.setattr(nixl._table, "ROWS_MIN", 64)
    one, two = pair
    source, target = numpy.arange(65536, dtype="uint8"), numpy.zeros(65536, "uint8")
    for first in range(0, 65536, 16384):
        if first != 32768:
            one.register_memory([(source.ctypes.data + first, 16384, 0, "")], "DRAM")
    two.register_memory(target)
    name = two.add_remote_agent(one.get_agent_metadata())

    def table_of(memory, step=64):
        rows = numpy.full((1024, 3), step, "uint64")
        rows[:, 0] = memory.ctypes.data + numpy.arange(1024) * step
        rows[:, 2] = 0
        return rows

    local = two.prep_xfer_dlist("", table_of(target), "DRAM")
    with pytest.raises(nixl.nixlError):
        two.prep_xfer_dlist(name, table_of(source), "DRAM")
    rows = table_of(source)
    remote = two.prep_xfer_dlist(name, numpy.concatenate([rows[:512], rows[768:]]), "DRAM")
    few = two.prep_xfer_dlist(name, rows[[5, 900]], "DRAM")  # not as runs
    assert isinstance(remote._rows, nixl._table.Runs) and not isinstance(few._rows,
                                                                         nixl._table.Runs)

    def read(ours, side, theirs):
        handle = two.make_prepped_xfer("READ", local, ours, side, theirs)
        state = two.transfer(handle)
        while state == "PROC":
            state = two.check_xfer_state(handle)
        assert state == "DONE"

    read(numpy.array([3, 1]), remote, [511, 512])
    read([9], few, [1])
    seen, wanted = target.reshape(-1, 64), source.reshape(-1, 64)
    assert (seen[[3, 1, 9]] == wanted[[511, 768, 900]]).all()
    for wrong in ([-1], [768], []):
        with pytest.raises(nixl.nixlError):
            two.make_prepped_xfer("READ", local, wrong, remote, wrong)
    with pytest.raises(nixl.nixlError):
        two.make_prepped_xfer("READ", remote, [0], local, [0])
    two.release_dlist_handle(remote)
    with pytest.raises(nixl.nixlError):
        two.make_prepped_xfer("READ", local, [0], remote, [0])


@pytest.fixture
def pair():
    one, two = nixl.nixl_agent("one"), nixl.nixl_agent("two")
    return one, two


def test_whole_tensors_are_moved_without_preparation(pair):
    one, two = pair
    source, target = numpy.arange(4096, dtype="int32"), numpy.zeros(4096, "int32")
    one.register_memory(source)
    registered = two.register_memory([target])
    name = two.add_remote_agent(one.get_agent_metadata())
    two.make_connection(name)
    assert two.check_remote_metadata("one") and not two.check_remote_metadata("three")
    descs = one.get_xfer_descs(source)
    assert two.check_remote_metadata("one", descs)
    told = two.deserialize_descs(one.get_serialized_descs(descs))
    assert told == descs
    handle = two.initialize_xfer("READ", two.get_xfer_descs([target]), told, name, b"done-1")
    state = two.transfer(handle)
    while state == "PROC":
        state = two.check_xfer_state(handle)
    assert state == "DONE" and (source == target).all()
    while not one.check_remote_xfer_done("two", b"done"):
        pass
    assert not one.check_remote_xfer_done("two", b"done")
    assert two.query_xfer_backend(handle) == "UCX" and two.estimate_xfer_cost(handle)[0] >= 0
    with pytest.raises(nixl.nixlError):
        two.get_xfer_telemetry(handle)  # it was not asked for
    handle.release()
    two.deregister_memory(registered)


def test_a_registered_tensor_lives_until_it_is_deregistered(pair):
    import gc
    import weakref

    class Watched(numpy.ndarray):
        pass

    tensor = numpy.zeros(4096, "uint8").view(Watched)
    watch = weakref.ref(tensor)
    registered = pair[0].register_memory([tensor])
    descs = pair[0].get_reg_descs([desc for desc in registered], "DRAM")
    del tensor, registered
    gc.collect()
    assert watch() is not None
    pair[0].deregister_memory(descs)
    gc.collect()
    assert watch() is None


def test_agents_in_two_directions_are_told_apart_by_names_of_both_kinds(pair):
    one, two = pair
    one.add_remote_agent(two.get_agent_metadata())
    for name, message in (("two", b"by text"), (b"two", "of text"), ("two", b"")):
        one.send_notif(name, message)
    came = []
    while len(came) < 3:
        came += two.get_new_notifs().get("one", [])
    assert came == [b"by text", b"of text", b""]
    with pytest.raises(nixl.nixlError):
        one.send_notif("nobody", b"x")
    one.remove_remote_agent("two")
    with pytest.raises(nixl.nixlError):
        one.remove_remote_agent(b"two")


def test_lists_hold_what_was_put_into_them():
    rows = numpy.array([[4096, 64, 0], [8192, 64, 1]], "uint64")
    of_rows = nixl.nixlXferDList("DRAM")
    for row in rows:
        of_rows.addDesc(tuple(int(number) for number in row))
    agent = nixl.nixl_agent("lists")
    listed = agent.get_xfer_descs(rows, "DRAM")
    assert listed == of_rows and len(listed) == listed.descCount() == 2
    assert listed[1] == (8192, 64, 1) and listed[-1] == listed[1] and listed.index(
        (8192, 64, 1)) == 1
    assert agent.get_xfer_descs([(4096, 64, 0), (8192, 64, 1)], "cpu") == listed
    assert agent.get_xfer_descs(rows.astype("int32"), "DRAM") == listed
    assert agent.get_xfer_descs(rows[:, ::-1][:, ::-1], "DRAM") == listed
    listed.remDesc(0)
    assert list(listed) == [(8192, 64, 1)] and rows[0, 0] == 4096
    listed.clear()
    assert listed.isEmpty() and listed.getType() == 0
    registered = agent.get_reg_descs([(4096, 64, 0, "file"), (8192, 64, -1, b"")], "DRAM")
    assert list(registered) == [(4096, 64, 0, b"file"), (8192, 64, 0, b"")]
    for wrong in ([(1, 2, 3)], numpy.zeros((2, 4), "uint64"), numpy.zeros((2, 3))):
        with pytest.raises(nixl.nixlError):
            agent.get_xfer_descs(wrong, None if isinstance(wrong, list) else "DRAM")
    with pytest.raises(nixl.nixlError, match="gaps"):
        agent.get_xfer_descs(numpy.zeros((4, 4))[:, ::2])


def test_descriptors_from_elsewhere_are_checked_and_nothing_is_unpickled():
    agent = nixl.nixl_agent("wary")
    descs = agent.get_reg_descs([(4096, 64, 0, "a"), (8192, 64, 0, "bc")], "DRAM")
    told = agent.get_serialized_descs(descs)
    assert agent.deserialize_descs(told) == descs
    assert pickle.loads(pickle.dumps(descs)) == descs  # whoever trusts his pickles may have them
    for end in range(len(told)):
        with pytest.raises(nixl.nixlError):
            agent.deserialize_descs(told[:end])
    for place in range(len(told)):
        for bit in range(8):
            flipped = bytearray(told)
            flipped[place] ^= 1 << bit
            with pytest.raises(nixl.nixlError):
                agent.deserialize_descs(bytes(flipped))
    with pytest.raises(nixl.nixlError):
        agent.deserialize_descs(pickle.dumps(descs))
    with pytest.raises(nixl.nixlError):
        agent.deserialize_descs(told + b"x")


def test_what_is_wrong_is_an_exception_of_nixls(pair):
    one, two = pair
    with pytest.raises(nixl.nixlError, match="READ or WRITE"):
        two.initialize_xfer("COPY", nixl.nixlXferDList("DRAM"), nixl.nixlXferDList("DRAM"), "one")
    with pytest.raises(nixl.nixlError):
        two.prep_xfer_dlist("nobody", [(4096, 64, 0)], "DRAM")
    with pytest.raises(nixl.nixlError):
        two.register_memory([(4096, 64, 0, "")], "DRAM")
    with pytest.raises(nixl.nixlError):
        two.create_backend("GDS")
    with pytest.raises(nixl.nixlError):
        two.add_remote_agent(one.get_agent_metadata()[:-1])
    with pytest.raises(nixl.nixlError, match="no backend"):
        two.register_memory([(4096, 64, 0, "")], "DRAM", backends=["GDS"])
    memory = numpy.zeros(4096, "uint8")
    two.register_memory(memory)
    side = two.prep_xfer_dlist("", [(memory.ctypes.data, 64, 0)], "DRAM")
    with pytest.raises(nixl.nixlError):
        two.make_prepped_xfer("READ", side, [0], side, [1 << 31])
    with pytest.raises(nixl.nixlError, match="31 bits"):
        two.make_prepped_xfer("READ", side, numpy.array([0]), side, numpy.array([1 << 32]))
    assert two.get_plugin_mem_types("GDS") == [] and two.get_backend_params("GDS") == {}


def test_requests_of_an_agent_that_is_gone_do_no_harm():
    agent = nixl.nixl_agent("brief")
    memory = numpy.zeros(4096, "uint8")
    agent.register_memory(memory)
    side = agent.prep_xfer_dlist("", [(memory.ctypes.data, 64, 0)], "DRAM")
    agent._close()
    with pytest.raises(nixl.nixlError, match="over"):
        side.release()
    with pytest.raises(nixl.nixlError, match="over"):
        agent.get_new_notifs()


PROGRAM = """
import lend.nixl.shim
from nixl._api import nixl_agent, nixl_agent_config
from nixl._bindings import nixlXferTelemetry
import nixl
agent = nixl_agent("shimmed", nixl_agent_config(backends=["UCX", "GDS"]))
memory = bytearray(4096)
agent.register_memory(memory)
print(nixl.nixl_agent is nixl_agent, len(agent.get_agent_metadata()) > 0, nixlXferTelemetry())
"""


def test_a_program_of_nixl_runs_after_one_line():
    done = subprocess.run([sys.executable, "-W", "error", "-c", PROGRAM], capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.startswith("True True"), done.stderr
    assert "Traceback" not in done.stderr
