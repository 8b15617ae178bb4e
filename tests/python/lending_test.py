# SPDX-License-Identifier: Apache-2.0
"""Goal: an owner lends, a reader reads and writes, and each failure is an exception of its own.

Method: two agents in this process with NumPy memory, of which every byte is compared.
"""
import gc
import mmap
import os
import weakref
from multiprocessing import shared_memory

import numpy
import pytest

import lend


@pytest.fixture
def pair(agent):
    return agent(), agent()


def cache_of(blocks=64, numbers=1024):
    return numpy.arange(blocks * numbers, dtype="int32").reshape(blocks, numbers)


def test_blocks_are_read_where_they_are_wanted(pair):
    owner, reader = pair
    cache, mine = cache_of(), numpy.zeros((8, 1024), "int32")
    region = owner.lend(cache, name="k")
    peer = reader.connect(owner.metadata())
    local = reader.register(mine)
    record = peer.read(region.grant().ticket, [9, 3, 63], local, [0, 7, 2], remote="k").wait()
    assert (record.status, record.blocks, record.bytes) == ("LEND_OK", 3, 3 * 4096)
    assert (mine[[0, 7, 2]] == cache[[9, 3, 63]]).all() and not mine[[1, 3, 4, 5, 6]].any()


def test_blocks_are_written_where_they_are_lent(pair):
    owner, writer = pair
    cache, mine = numpy.zeros((16, 1024), "int32"), cache_of(4)
    region = owner.lend(cache, access="read,write")
    peer = writer.connect(owner.metadata())
    lease = region.grant([5, 11], access="write")
    peer.write(lease.ticket, [11, 5], writer.register(mine), [2, 3]).wait()
    assert (cache[[11, 5]] == mine[[2, 3]]).all() and not numpy.delete(cache, [5, 11], 0).any()


def test_notifications_come_behind_the_data_and_alone(pair):
    owner, reader = pair
    region = owner.lend(cache_of())
    peer = reader.connect(owner.metadata())
    local = reader.register(numpy.zeros((64, 1024), "int32"))
    peer.read(region.grant().ticket, range(64), local, range(64), notify=b"request-7").wait()
    peer.notify(b"")
    peer.notify(b"x" * 16384)
    came = [owner.receive(30) for _ in range(3)]
    assert [note.data for note in came] == [b"request-7", b"", b"x" * 16384]
    assert came[0].peer == reader.name and came[0].incarnation == reader.incarnation
    assert owner.receive() is None


def test_a_prepared_transfer_is_posted_again_and_again(pair):
    owner, reader = pair
    cache, mine = cache_of(), numpy.zeros((64, 1024), "int32")
    region = owner.lend(cache)
    peer = reader.connect(owner.metadata())
    ticket = peer.ticket(region.grant().ticket)
    with peer.prepare("read", reader.register(mine), blocks_max=4) as transfer:
        for first in range(0, 64, 4):
            numbers = numpy.arange(first, first + 4, dtype="int64")
            assert transfer.post(ticket, numbers, numbers.astype("int32"), user_data=first
                                 ).wait().user_data == first
    assert (mine == cache).all()


@pytest.mark.parametrize("numbers", [
    [1, 2, 3], (1, 2, 3), range(1, 4), numpy.array([1, 2, 3]), numpy.array([1, 2, 3], "int32"),
    numpy.array([1, 2, 3], "uint32"), numpy.array([1, 2, 3], "uint8"),
    numpy.array([1, 0, 2, 0, 3, 0])[::2], memoryview(numpy.array([1, 2, 3])).toreadonly()])
def test_block_numbers_are_taken_as_people_have_them(pair, numbers):
    owner, reader = pair
    cache, mine = cache_of(), numpy.zeros((4, 1024), "int32")
    region = owner.lend(cache)
    peer = reader.connect(owner.metadata())
    peer.read(region.grant(numbers).ticket, numbers, reader.register(mine), numbers).wait()
    assert (mine[1:] == cache[1:4]).all() and not mine[0].any()


@pytest.mark.parametrize("numbers", [[1.5], ["1"], numpy.array([1.0]), b"abc"[:0] + b"\xff" * 3,
                                     object()])
def test_what_is_no_block_number_is_refused(pair, numbers):
    region = pair[0].lend(cache_of())
    with pytest.raises((lend.Invalid, lend.OutOfRange)):
        region.grant(numbers)


def test_each_cause_has_its_exception(pair):
    owner, reader = pair
    region = owner.lend(cache_of(), name="k")
    peer = reader.connect(owner.metadata())
    local = reader.register(numpy.zeros((64, 1024), "int32"))

    def read(ticket, blocks=(0,)):
        return peer.read(ticket, blocks, local, blocks, remote="k").wait()

    lease = region.grant(range(4))
    with pytest.raises(lend.OutOfRange, match="4"):
        read(lease.ticket, [4])
    with pytest.raises(lend.OutOfRange):
        read(lease.ticket, [64])
    with pytest.raises(lend.AccessDenied):
        peer.write(lease.ticket, [0], local, [0], remote="k")
    lease.revoke()
    with pytest.raises(lend.Revoked) as caught:
        read(lease.ticket)
    assert caught.value.record.status == "LEND_E_REVOKED" and caught.value.record.blocks == 0
    assert caught.value.status == -21 and caught.value.name == "LEND_E_REVOKED"
    once = region.grant(consumers=1)
    ticket = peer.ticket(once.ticket)
    read(ticket)
    ticket.done()
    with pytest.raises(lend.Consumed):
        read(ticket)
    with pytest.raises(lend.Corrupt):
        peer.ticket(lease.ticket[:-1] + bytes([lease.ticket[-1] ^ 1]))
    with pytest.raises(lend.Corrupt):
        reader.connect(owner.metadata()[:-2])
    with pytest.raises(lend.Absent, match="nothing"):
        peer.region("nothing")
    with pytest.raises(lend.Mismatch):
        reader.peer(owner.metadata(), tags="model=x")
    with pytest.raises(lend.Invalid):
        owner.lend(cache_of(), name="k")
    with pytest.raises(lend.BadMemory):
        owner.lend((4096, 4096, "cpu"))
    with pytest.raises(lend.Error, match="(?i)cuda|driver|device"):
        owner.lend((1 << 40, 4096, 0))


def test_a_lease_that_expired_and_a_slot_with_a_newer_life_are_told_apart(agent):
    owner, reader = agent(slot_rest=1e-9, leases_max=1), agent()
    region = owner.lend(cache_of())
    peer = reader.connect(owner.metadata())
    local = reader.register(numpy.zeros((64, 1024), "int32"))
    lease = region.grant(ttl=0.001)
    while lease.info.status == "LEND_OK":
        owner.receive(0.001)
    ticket = lease.ticket
    with pytest.raises(lend.Expired):
        peer.read(ticket, [0], local, [0]).wait()
    region.grant()
    with pytest.raises(lend.Stale):
        peer.read(ticket, [0], local, [0]).wait()


def test_leases_are_listed_renewed_and_ended_by_their_blocks(pair):
    owner, reader = pair
    region = owner.lend(cache_of())
    peer = owner.peer(reader.metadata())
    first = region.grant(range(4), user_data=7)
    second = region.grant(range(8, 12), to=peer, ttl=None)
    assert {(info.user_data, info.peer) for info in owner.leases()} == {(7, ""), (0, reader.name)}
    first.renew(60)
    assert region.revoke_blocks([3]) == 1
    assert first.info.status == "LEND_E_REVOKED" and second.info.status == "LEND_OK"
    with pytest.raises(lend.Revoked):
        first.renew(60)
    with second:
        pass
    assert owner.leases() == []


def test_a_region_is_suspended_and_resumed_elsewhere(pair):
    owner, reader = pair
    cache = cache_of()
    region = owner.lend(cache, name="k")
    peer = reader.connect(owner.metadata())
    mine = numpy.zeros((64, 1024), "int32")
    local = reader.register(mine)
    ticket = region.grant().ticket
    region.suspend(force=True)
    with pytest.raises(lend.Revoked):
        peer.read(ticket, [0], local, [0], remote="k").wait()
    moved = cache + 1
    region.resume(moved)
    with pytest.raises(lend.Stale):
        peer.read(ticket, [0], local, [0], remote="k").wait()
    peer.refresh(owner.metadata())
    peer.read(region.grant().ticket, range(64), local, range(64), remote="k").wait()
    assert (mine == moved).all() and region.info.life == 1
    region.suspend(force=True)
    with pytest.raises(lend.Invalid, match="let go"):
        region.resume()
    with pytest.raises(lend.Invalid):
        region.resume(moved[:32])
    region.resume(moved)
    raw = owner.lend((cache.ctypes.data, cache.nbytes, None), name="raw")
    raw.suspend()
    raw.resume()
    assert raw.info.life == 1


def test_paths_are_explained_and_can_be_required(pair):
    owner, reader = pair
    storage = lend.Storage(1 << 20)
    cache = numpy.frombuffer(storage.buffer, "int32").reshape(64, -1)
    cache[:] = 7
    region = owner.lend(cache, share=storage)
    peer = reader.connect(owner.metadata())
    paths = peer.explain()
    chosen = [path for path in paths if path.is_chosen]
    assert len(chosen) == 1 and chosen[0].name in peer.explain_text()
    local = reader.register(numpy.zeros_like(cache))
    record = peer.read(region.grant().ticket, [5], local, [5], paths="loopback").wait()
    assert record.path == "loopback"
    with pytest.raises(lend.NoPath):
        peer.read(region.grant().ticket, [5], local, [5], paths="tcp/served")


def test_storage_lives_as_long_as_its_views():
    storage = lend.Storage(8192)
    array = numpy.frombuffer(storage.buffer, "uint8")
    address = storage.address
    del storage
    gc.collect()
    array[:] = 9
    with open("/proc/self/maps") as maps:
        assert any(line.startswith(f"{address:x}-") for line in maps)
    del array
    gc.collect()
    with open("/proc/self/maps") as maps:
        assert not any(line.startswith(f"{address:x}-") for line in maps)


# Who owns the memory

class Watched(numpy.ndarray):
    """An array that can be watched by a weak reference."""


def watched(shape=(64, 65536)):
    array = numpy.ones(shape, "uint8").view(Watched)
    return array, weakref.ref(array)


def test_a_tensor_that_is_dropped_while_a_peer_reads_lives_until_the_end(agent):
    owner, reader = agent(manual_progress=True), agent(manual_progress=True)
    tensor, watch = watched()
    region = owner.lend(tensor)
    ticket = region.grant(ttl=600, consumers=1).ticket
    peer = reader.peer(owner.metadata())
    mine = numpy.zeros((64, 65536), "uint8")
    transfer = peer.read(ticket, range(64), reader.register(mine), range(64))
    for _ in range(8):  # connected, asked, perhaps begun: the owner has not moved 4 MiB by now
        reader.progress()
        owner.progress()
    assert not transfer.done()
    del tensor
    gc.collect()
    with pytest.raises(lend.Busy):
        region.withdraw(0)
    assert watch() is not None
    while not transfer.done():
        owner.progress()
        reader.progress()
    assert transfer.result().bytes == mine.nbytes and mine.all()
    peer.ticket(ticket).done()
    while region.info.is_withdrawn and owner.leases():
        reader.progress()
        owner.progress()
    assert watch() is not None
    region.withdraw(5)
    gc.collect()
    assert watch() is None


def test_nobody_needs_to_keep_what_is_lent(agent):
    owner = agent()
    tensor, watch = watched((1, 4096))
    owner.lend(tensor, name="kept")
    del tensor
    gc.collect()
    assert watch() is not None
    owner.close()
    gc.collect()
    assert watch() is None


def test_an_agent_that_is_garbage_frees_its_memory_after_itself(folder):
    tensor, watch = watched((1, 4096))
    agent = lend.Agent("garbage", local_directory=folder)
    region = agent.lend(tensor)
    region.circle = [agent, tensor]
    region.circle.append(region)
    del tensor, agent, region
    gc.collect()
    gc.collect()
    assert watch() is None


def test_a_buffer_cannot_be_resized_while_it_is_lent(agent):
    owner, buffer = agent(), bytearray(4096)
    region = owner.lend(buffer)
    with pytest.raises(BufferError):
        buffer.extend(b"x")
    region.withdraw()
    buffer.extend(b"x")


def test_the_buffers_that_people_have_are_lent(agent):
    owner = agent()
    shared = shared_memory.SharedMemory(create=True, size=8192)
    try:
        with mmap.mmap(-1, 8192) as mapping:
            for thing in (bytes(4096), bytearray(4096), mapping, shared.buf,
                          memoryview(bytearray(4096))):
                region = owner.lend(thing, blocks=4)
                assert region.geometry.count == 4
                region.withdraw()
            del thing
    finally:
        shared.close()
        shared.unlink()


def test_memory_that_is_read_only_is_lent_for_reading_alone(agent):
    owner = agent()
    array = numpy.zeros((4, 4096), "uint8")
    array.setflags(write=False)
    region = owner.lend(array)
    with pytest.raises(lend.Invalid, match="read-only"):
        owner.lend(array, access="write")
    with pytest.raises(lend.Invalid, match="read-only"):
        owner.peer(owner.metadata()).prepare("read", region)


def test_ten_thousand_loans_leak_nothing(agent):
    import tracemalloc

    owner = agent(slot_rest=1e-9)
    tensor = numpy.zeros((16, 4096), "uint8")

    def loans(count):
        for _ in range(count):
            region = owner.lend(tensor)
            region.grant(range(4)).revoke()
            region.withdraw()

    def resident():
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * mmap.PAGESIZE

    loans(500)
    gc.collect()
    tracemalloc.start()
    loans(200)
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    loans(1000)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 20_000, f"{grown} bytes of Python's are left of 1000 loans"
    descriptors, memory = len(os.listdir("/proc/self/fd")), resident()
    loans(9000)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert resident() - memory < 4 << 20
    import sys
    assert sys.getrefcount(tensor) == 2
