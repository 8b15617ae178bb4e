# SPDX-License-Identifier: Apache-2.0
"""Goal: agents that meet by an address, with a secret and without, lend to each other over tcp.

Method: two agents of this process that have no transport but tcp, on the loopback interface.
"""
import os

import numpy
import pytest

import lend


@pytest.fixture
def owner(agent):
    one = agent(transports="tcp", listen="127.0.0.1")
    one.cache = numpy.arange(64 * 4096, dtype="int32").reshape(64, 4096)
    one.region = one.lend(one.cache, name="cache", access="read,write")
    return one


def test_metadata_and_a_ticket_are_fetched_from_the_owner_itself(owner, agent):
    owner.attach(owner.region.grant(access="read,write").ticket)
    reader = agent(transports="tcp")
    metadata, ticket = reader.fetch(owner.address)
    peer, mine = reader.connect(metadata), numpy.zeros_like(owner.cache)
    local = reader.register(mine, name="cache")
    record = peer.read(ticket, range(64), local, range(64), notify=b"\0all\0").wait(60)
    assert (mine == owner.cache).all() and record.path.startswith("tcp")
    assert owner.receive(60).data == b"\0all\0"
    mine[:] = 7
    peer.write(ticket, [5], local, [0]).wait(60)
    assert (owner.cache[5] == 7).all() and (owner.cache[6] != 7).all()
    assert peer.info.transport == "tcp" and peer.info.status == "LEND_OK"
    with pytest.raises(lend.Absent):
        reader.address
    owner.attach(b"")
    assert reader.fetch(owner.address)[1] is None


def test_nobody_at_an_address_is_told(agent, owner):
    address = owner.address
    owner.close()
    with pytest.raises(lend.PeerDead):
        agent(transports="tcp").fetch(address)


def test_agents_with_a_secret_meet_those_that_know_it(agent):
    plugin = os.environ.get("LEND_TEST_SECRET_PLUGIN")
    if not plugin:
        pytest.skip("this build has no plugin for the secret (libsodium-dev)")

    def member(secret, **settings):
        return agent(transports="tcp", secret=secret, secret_plugin=plugin, **settings)

    secret = bytes(range(32))  # with a zero in it
    owner = member(secret, listen="127.0.0.1")
    region = owner.lend(b"x" * 4096)
    reader = member(secret)
    mine = bytearray(4096)
    peer = reader.connect(reader.fetch(owner.address)[0])
    peer.read(region.grant().ticket, [0], reader.register(mine), [0]).wait(60)
    assert mine == b"x" * 4096
    with pytest.raises(lend.AccessDenied):
        member(bytes(32)).connect(owner.metadata())
    with pytest.raises(lend.PeerDead):
        agent(transports="tcp").connect(owner.metadata())
    agent(transports="tcp", secret=bytes(32), secret_plugin=plugin).connect(
        owner.metadata(), secret=secret)
    with pytest.raises(lend.Invalid, match="secret"):
        member(b"short")
