# SPDX-License-Identifier: Apache-2.0
"""Goal: the four acts of `lend demo` from Python: memory taken back while it is read, bad
references, transfers given up, and deaths; no byte is wrong anywhere.

Method: two real processes with NumPy memory. When the owner acts is chance; what may come of it is
not, and every byte of a transfer that reports success is compared.
"""
import os
import signal

import numpy
import pytest

import lend

BLOCKS, NUMBERS = 256, 16384  # of int32: 64 KiB each, 16 MiB in all
ROUNDS = 6


def pattern(blocks=BLOCKS, mark=0):
    """Numbers that tell their block, and who wrote them."""
    return (numpy.arange(blocks, dtype="int32")[:, None] * 1000 + mark
            + numpy.zeros((1, NUMBERS), "int32"))


class Owner:
    """In its own process: does what it is asked for, by name."""

    def __init__(self, folder, access="read,write", **settings):
        self.agent = lend.Agent("owner", local_directory=folder, **settings)
        self.cache = pattern()
        self.region = self.agent.lend(self.cache, name="cache", access=access)
        self.leases = []

    def metadata(self):
        return self.agent.metadata()

    def grant(self, blocks=None, **how):
        self.leases.append(self.region.grant(blocks, **how))
        return self.leases[-1].ticket

    def grant_to_write(self):
        return self.grant(access="write")

    def revoke_and_rewrite(self):
        self.leases[-1].revoke()
        self.cache[:] = -1
        self.cache[:] = pattern()
        return True

    def withdraw_and_poison(self):
        self.region.withdraw(force=True)
        self.cache[:] = -1
        self.cache = pattern()
        self.region = self.agent.lend(self.cache, name="cache", access="read,write")
        return self.agent.metadata()

    def rows(self):
        return self.cache[:, 0].tolist()

    def is_whole(self):
        return bool((self.cache == self.cache[:, :1]).all())


def serve(pipe, *arguments, **settings):
    owner = Owner(*arguments, **settings)
    while True:
        try:
            name, *words = pipe.recv()
        except EOFError:
            return
        pipe.send(getattr(owner, name)(*words))


def serve_with_one_slot(pipe, folder):
    serve(pipe, folder, leases_max=1, slot_rest=1e-9)


class Reader:
    def __init__(self, agent, owner):
        self.agent, self.owner = agent(), owner
        self.mine = numpy.zeros((BLOCKS, NUMBERS), "int32")
        self.local = self.agent.register(self.mine, name="cache")
        self.connect(owner.ask("metadata"))

    def connect(self, metadata):
        self.peer = self.agent.connect(metadata, 30)

    def start(self, ticket, blocks=range(BLOCKS), **how):
        return self.peer.read(ticket, blocks, self.local, blocks, **how)

    def check(self, blocks=range(BLOCKS)):
        blocks = list(blocks)
        assert (self.mine[blocks] == pattern()[blocks]).all(), "wrong bytes in a success"


@pytest.fixture
def reader(agent, other, folder):
    return Reader(agent, other(serve, folder))


def test_act_1_memory_is_taken_back_while_it_is_read(reader):
    for turn in range(ROUNDS):
        ticket = reader.owner.ask("grant")
        transfer = reader.start(ticket)
        if turn % 2:
            reader.owner.ask("revoke_and_rewrite")
        else:
            metadata = reader.owner.ask("withdraw_and_poison")
        try:
            transfer.wait(30)
            reader.check()
        except (lend.Revoked, lend.Stale) as error:
            proven = error.record.blocks
            assert proven < BLOCKS
            reader.check(range(proven))
        if turn % 2 == 0:
            reader.peer.refresh(metadata)
    reader.start(reader.owner.ask("grant")).wait(30)
    reader.check()


def test_act_2_bad_references_are_told_apart(agent, other, folder):
    reader = Reader(agent, other(serve_with_one_slot, folder))
    owner = reader.owner
    strange = other(serve, folder)
    stranger = agent().peer(strange.ask("metadata"))
    with pytest.raises(lend.Unknown):
        reader.peer.ticket(strange.ask("grant"))
    ticket = owner.ask("grant", range(8))
    with pytest.raises(lend.OutOfRange):
        reader.start(ticket, [8]).wait(30)
    with pytest.raises(lend.OutOfRange):
        reader.peer.read(ticket, [BLOCKS], reader.local, [0])
    owner.ask("revoke_and_rewrite")
    with pytest.raises(lend.Revoked):
        reader.start(ticket, [0]).wait(30)
    owner.ask("grant")
    with pytest.raises(lend.Stale):
        reader.start(ticket, [0]).wait(30)
    owner.ask("revoke_and_rewrite")
    del stranger


def test_act_3_a_read_that_was_given_up_is_quiet(reader):
    for turn in range(ROUNDS):
        transfer = reader.start(reader.owner.ask("grant"))
        record = transfer.cancel(30)
        assert record.status in ("LEND_E_CANCELED", "LEND_OK")
        if record.status == "LEND_OK":
            reader.check()
        reader.mine[:] = -7
        reader.peer.read(reader.owner.ask("grant", range(1)), [0], reader.local, [0]).wait(30)
        assert (reader.mine[1:] == -7).all(), "a byte landed after the cancel"


def test_act_3_a_write_that_was_given_up_is_quiet(reader):
    ticket = reader.owner.ask("grant", None)
    with pytest.raises(lend.AccessDenied):
        reader.peer.write(ticket, [0], reader.local, [0]).wait(30)
    ticket = reader.owner.ask("grant_to_write")
    for turn in range(1, ROUNDS):
        reader.mine[:] = pattern(mark=turn)
        transfer = reader.peer.write(ticket, range(BLOCKS), reader.local, range(BLOCKS))
        record = transfer.cancel(30)
        assert record.status in ("LEND_E_CANCELED", "LEND_OK")
        before = reader.owner.ask("rows")
        reader.mine[:] = -7
        reader.peer.write(ticket, [0], reader.local, [0]).wait(30)
        after = reader.owner.ask("rows")
        assert after[0] == -7 and after[1:] == before[1:], "a byte landed after the cancel"
        if record.status == "LEND_OK":
            assert after[1:] == pattern(mark=turn)[1:, 0].tolist()
            assert reader.owner.ask("is_whole")


def test_act_4_an_owner_that_is_killed_is_an_error_in_time(agent, other, folder):
    for turn in range(3):
        reader = Reader(agent, other(serve, folder))
        transfer = reader.start(reader.owner.ask("grant"), timeout=20)
        os.kill(reader.owner.process.pid, signal.SIGKILL)
        try:
            transfer.wait(30)
            reader.check()
        except (lend.PeerDead, lend.Timeout) as error:
            assert error.record.status in ("LEND_E_PEER_DEAD", "LEND_E_TIMEOUT")


def read_until_killed(pipe, folder, metadata):
    agent = lend.Agent("reader", local_directory=folder)
    mine = numpy.zeros((BLOCKS, NUMBERS), "int32")
    local, peer = agent.register(mine, name="cache"), agent.connect(metadata, 30)
    pipe.send("connected")
    ticket = pipe.recv()
    while True:
        peer.read(ticket, range(BLOCKS), local, range(BLOCKS)).wait(30)
        pipe.send("read")


def test_act_4_what_a_killed_reader_held_comes_back(agent, other, folder):
    owner = agent("owner-here")
    tensor = pattern()
    for turn in range(3):
        region = owner.lend(tensor, name="cache")
        reader = other(read_until_killed, folder, owner.metadata())
        assert reader.hear() == "connected"
        lease = region.grant(consumers=1)
        reader.pipe.send(lease.ticket)
        assert reader.hear() == "read"
        os.kill(reader.process.pid, signal.SIGKILL)
        region.withdraw(30)  # waits for the lease, which the death of its one consumer ends
        assert lease.info.status == "LEND_E_CONSUMED"
        assert (tensor == pattern()).all()


def child_of_a_fork(agent, region):
    """The status that the child of a fork ends with."""
    try:
        agent.metadata()
        return 1
    except lend.Forked:
        pass
    try:
        region.grant()
        return 2
    except lend.Forked:
        pass
    with lend.Agent("of-the-child", transports="loopback") as own:
        own.lend(bytearray(4096))
    agent.close()
    return 42


def test_the_child_of_a_fork_is_told_and_the_parent_goes_on(agent):
    owner, reader = agent(), agent()
    region = owner.lend(pattern(4))
    child = os.fork()
    if child == 0:
        try:
            os._exit(child_of_a_fork(owner, region))
        finally:
            os._exit(3)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 42
    mine = numpy.zeros((4, NUMBERS), "int32")
    peer = reader.connect(owner.metadata())
    peer.read(region.grant().ticket, range(4), reader.register(mine), range(4)).wait(30)
    assert (mine == pattern(4)).all()
