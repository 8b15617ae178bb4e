# SPDX-License-Identifier: Apache-2.0
"""Goal: waiting is right: in event loops, in threads, when the agent is closed meanwhile, when the
interpreter ends, and when the user interrupts.

Method: transfers that cannot complete, because their owner makes no progress, and such that do;
interpreters of their own for what ends one.
"""
import asyncio
import gc
import signal
import subprocess
import sys
import threading

import numpy
import pytest

import lend

BLOCKS = 64


class Pair:
    """An owner and a reader, connected; stuck: the owner makes no progress by itself."""

    def __init__(self, agent, is_stuck=False, **reader):
        self.owner = agent(manual_progress=is_stuck)
        self.reader = agent(connect_timeout=600, transfer_timeout=600, **reader)
        self.cache = numpy.arange(BLOCKS * 1024, dtype="int32").reshape(BLOCKS, 1024)
        self.mine = numpy.zeros_like(self.cache)
        self.ticket = self.owner.lend(self.cache).grant(ttl=600).ticket
        self.peer = self.reader.peer(self.owner.metadata())
        self.local = self.reader.register(self.mine)

    def read(self, blocks=range(BLOCKS), **how):
        return self.peer.read(self.ticket, blocks, self.local, blocks, **how)


@pytest.fixture
def pair(agent):
    return Pair(agent)


@pytest.fixture
def stuck(agent):
    return Pair(agent, is_stuck=True)


def test_a_transfer_is_awaited(pair):
    async def main():
        record = await pair.read()
        assert record.status == "LEND_OK" and (pair.mine == pair.cache).all()

    asyncio.run(main())


def test_many_transfers_are_awaited_at_one_time(pair):
    async def main():
        records = await asyncio.gather(*(pair.read([block]) for block in range(BLOCKS)))
        assert [record.blocks for record in records] == [1] * BLOCKS

    asyncio.run(main())
    assert (pair.mine == pair.cache).all()
    assert not pair.reader._core.waiters and not pair.reader._core.readers


def test_a_transfer_that_fails_raises_where_it_is_awaited(pair):
    async def main():
        region = pair.owner.lend(bytearray(4096), name="other")
        pair.peer.refresh(pair.owner.metadata())
        lease = region.grant()
        lease.revoke()
        local = pair.reader.register(bytearray(4096))
        with pytest.raises(lend.Revoked):
            await pair.peer.read(lease.ticket, [0], local, [0], remote="other")

    asyncio.run(main())


def test_an_event_loop_runs_on_while_a_transfer_is_stuck(stuck):
    async def main():
        transfer = stuck.read()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(_awaiting(transfer), 0.05)
        assert not transfer.done()
        canceled = asyncio.get_running_loop().run_in_executor(None, transfer.cancel, 30)
        with pytest.raises(lend.Canceled):
            await transfer
        assert (await canceled).status == "LEND_E_CANCELED"

    asyncio.run(main())


async def _awaiting(transfer):
    return await transfer


def test_loops_of_several_threads_share_an_agent(pair):
    failures = []

    async def main():
        for turn in range(20):
            await asyncio.gather(*(pair.read([block]) for block in range(8)))

    def run():
        try:
            asyncio.run(asyncio.wait_for(main(), 60))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_under_manual_progress_transfers_are_awaited_too(agent):
    pair = Pair(agent, manual_progress=True)

    async def main():
        for _ in range(4):
            assert (await pair.read()).blocks == BLOCKS

    asyncio.run(asyncio.wait_for(main(), 60))


def test_notifications_are_awaited(pair):
    async def main():
        waiting = asyncio.ensure_future(pair.owner.receive_async())
        await asyncio.sleep(0)
        pair.peer.notify(b"hello")
        note = await asyncio.wait_for(waiting, 30)
        assert (note.peer, note.data) == (pair.reader.name, b"hello")

    asyncio.run(main())


def test_closing_an_agent_wakes_who_awaits(stuck):
    async def main():
        waiting = asyncio.ensure_future(_awaiting(stuck.read()))
        await asyncio.sleep(0)
        stuck.reader.close()
        with pytest.raises(lend.Invalid, match="closed"):
            await waiting

    asyncio.run(main())


def test_closing_an_agent_wakes_who_waits_in_a_thread(stuck):
    seen, began = [], threading.Event()
    transfer = stuck.read()

    def wait():
        began.set()
        try:
            transfer.wait()
        except lend.Error as error:
            seen.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    began.wait()
    stuck.reader.close()
    thread.join(30)
    assert len(seen) == 1 and ("closed" in str(seen[0]) or isinstance(seen[0], lend.Canceled))
    with pytest.raises(lend.Invalid, match="closed"):
        stuck.read()


def test_a_wait_that_is_over_ends_nothing(stuck):
    transfer = stuck.read()
    with pytest.raises(lend.Timeout, match="under way") as caught:
        transfer.wait(0.01)
    assert caught.value.record is None
    while not transfer.done():
        stuck.owner.progress(0.01)
    assert transfer.wait().blocks == BLOCKS


def test_the_deadline_of_a_transfer_is_its_own_failure(stuck):
    transfer = stuck.read(timeout=0.01)
    with pytest.raises(lend.Timeout) as caught:
        transfer.wait()
    assert caught.value.record.status == "LEND_E_TIMEOUT"


def test_a_transfer_that_is_dropped_under_way_is_given_back_later(stuck):
    stuck.read()
    gc.collect()
    assert len(stuck.reader._core.left) == 1
    transfer = stuck.read()
    while not transfer.done():
        stuck.owner.progress(0.01)
    while stuck.reader._core.left:
        stuck.owner.progress(0.01)
        stuck.reader._core.reap()
    assert (stuck.mine == stuck.cache).all()


def test_a_transfer_is_posted_by_one_thread_at_a_time(stuck):
    transfer = stuck.peer.prepare("read", stuck.local)
    ticket = stuck.peer.ticket(stuck.ticket)
    transfer.post(ticket, [0], [0])
    with pytest.raises(lend.Busy):
        transfer.post(ticket, [0], [0])
    with pytest.raises(lend.Busy):
        transfer.result()
    with transfer:
        pass


def test_threads_share_an_agent(pair):
    failures = []

    def run(blocks):
        try:
            for _ in range(50):
                mine = numpy.zeros((len(blocks), 1024), "int32")
                with pair.reader.register(mine) as local:
                    pair.peer.read(pair.ticket, blocks, local, range(len(blocks))).wait(60)
                assert (mine == pair.cache[blocks]).all()
                pair.peer.notify(b"x")
                pair.owner.receive(60)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=([i, 63 - i, 20 + i],)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_callbacks_run_and_their_failures_harm_nobody(agent, monkeypatch):
    ended, said, failures = [], [], []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: failures.append(told.exc_type))
    owner = agent(on_lease_end=ended.append, on_log=lambda *words: said.append(words))
    region = owner.lend(bytearray(4096))
    region.grant().revoke()
    while not ended:
        owner.receive(0.01)
    assert ended[0].status == "LEND_E_REVOKED"
    other = agent(on_lease_end=lambda info: 1 / 0)
    other.lend(bytearray(4096)).grant().revoke()
    other.close()
    assert failures == [ZeroDivisionError]


PROGRAM = """
import os, signal, sys, threading, numpy, lend
folder, what = sys.argv[1:]
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever was inherited
log = None if what == "interrupt" else print
owner = lend.Agent("o", local_directory=folder, manual_progress=True, on_log=log,
                   on_lease_end=lambda info: print(info.status))
reader = lend.Agent("r", local_directory=folder, on_log=log, connect_timeout=600,
                    transfer_timeout=600)
cache = numpy.zeros((64, 65536), "uint8")
region = owner.lend(cache)
lease = region.grant()
peer = reader.peer(owner.metadata())
local = reader.register(numpy.zeros_like(cache))
transfer = peer.read(lease.ticket, range(64), local, range(64))
if what == "daemon":
    began = threading.Event()
    def wait():
        began.set()
        transfer.wait()
    threading.Thread(target=wait, daemon=True).start()
    began.wait()
if what == "fork":
    child = os.fork()
    if child == 0:
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
if what == "interrupt":
    print("waiting", flush=True)
    transfer.wait()
print("end", flush=True)
"""


def interpreter(folder, what):
    return subprocess.Popen([sys.executable, "-W", "error", "-c", PROGRAM, folder, what],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("what", ["as it is", "daemon", "fork"])
def test_an_interpreter_ends_well_with_everything_open(folder, what):
    with interpreter(folder, what) as program:
        said, trouble = program.communicate(timeout=60)
    assert program.returncode == 0 and "end" in said, (program.returncode, said, trouble)
    assert "Fatal" not in trouble and ("Traceback" not in trouble or what == "daemon"), trouble
    assert said.count("LEND_E_REVOKED") == 1


def test_a_wait_can_be_interrupted(folder):
    with interpreter(folder, "interrupt") as program:
        while program.stdout.readline() != "waiting\n":
            assert program.poll() is None
        program.send_signal(signal.SIGINT)
        said, trouble = program.communicate(timeout=60)
    assert "KeyboardInterrupt" in trouble and "end" not in said
    assert program.returncode == -signal.SIGINT, (program.returncode, trouble)
