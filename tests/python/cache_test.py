# SPDX-License-Identifier: Apache-2.0
"""Goal: a KV cache of any of the layouts that engines use is lent by one call under one ticket, and
every number arrives where it belongs, also between unlike layouts.

Method: caches of random numbers in NumPy, moved between two agents, and compared by NumPy's own
indices.
"""
import numpy
import pytest

import lend

LAYERS, BLOCKS, TOKENS, HEADS, DIM = 3, 8, 4, 4, 16
TAKEN = [5, 0, 6]


def values(seed):
    """By layer, K or V, block, token, head, number."""
    random = numpy.random.default_rng(seed)
    return random.integers(0, 1 << 16, (LAYERS, 2, BLOCKS, TOKENS, HEADS, DIM), "uint16")


def per_layer_kv_first(all_of):
    return {f"layers.{i}": all_of[i].copy() for i in range(LAYERS)}, {"kv_axis": 0}


def per_layer_kv_second(all_of):
    return ({f"layers.{i}": all_of[i].swapaxes(0, 1).copy() for i in range(LAYERS)},
            {"kv_axis": 1})


def k_and_v_apart(all_of):
    return {f"layers.{i}": (all_of[i, 0].copy(), all_of[i, 1].copy()) for i in range(LAYERS)}, {}


def one_tensor(all_of):
    return all_of.copy(), {"layer_axis": 0, "kv_axis": 1}


def one_tensor_of_blocks(all_of):
    return (all_of.transpose(2, 0, 1, 3, 4, 5).copy(),
            {"layer_axis": 1, "kv_axis": 2, "block_axis": 0})


LAYOUTS = [per_layer_kv_first, per_layer_kv_second, k_and_v_apart, one_tensor,
           one_tensor_of_blocks]


def by_index(tensors, layout):
    """The numbers of a cache in the order of values()."""
    if layout is k_and_v_apart:
        return numpy.stack([numpy.stack(tensors[f"layers.{i}"]) for i in range(LAYERS)])
    if layout is one_tensor:
        return tensors
    if layout is one_tensor_of_blocks:
        return tensors.transpose(1, 2, 0, 3, 4, 5)
    stacked = numpy.stack([tensors[f"layers.{i}"] for i in range(LAYERS)])
    return stacked if layout is per_layer_kv_first else stacked.swapaxes(1, 2)


@pytest.mark.parametrize("theirs", LAYOUTS)
@pytest.mark.parametrize("ours", [per_layer_kv_first, k_and_v_apart, one_tensor_of_blocks])
def test_layouts_meet(agent, ours, theirs):
    owner, reader = agent(), agent()
    source, mine = values(1), values(2)
    lent, how = theirs(source)
    cache = lend.kv_cache(owner, lent, **how)
    target, how = ours(mine)
    local = lend.kv_cache(reader, target, access=None, **how)
    peer = reader.connect(owner.metadata())
    record = local.read(peer, cache.grant(TAKEN).ticket, TAKEN, [1, 2, 7]).wait()
    assert record.bytes == 3 * cache.block_bytes == 3 * source[:, :, 0].nbytes
    mine[:, :, [1, 2, 7]] = source[:, :, TAKEN]
    assert (by_index(target, ours) == mine).all()


def test_two_ranks_read_their_heads_of_a_cache_of_one(agent):
    owner = agent()
    source = values(1)
    lent, how = per_layer_kv_first(source)
    ticket = lend.kv_cache(owner, lent, **how).grant().ticket
    for rank in range(2):
        reader = agent()
        heads = slice(2 * rank, 2 * rank + 2)
        mine = numpy.zeros_like(source[:, :, :, :, heads])
        local = lend.kv_cache(reader, mine, layer_axis=0, kv_axis=1, block_axis=2, access=None)
        row = DIM * 2 * 2  # two heads of one token: rows of this side's blocks have them all
        peer = reader.connect(owner.metadata())
        tokens = {f"layers.{i}": mine[i] for i in range(LAYERS)}
        assert len(tokens) * 2 == len(local.regions)
        for name, region in local.regions.items():
            layer, half = int(name.split(".")[1]), "kv".index(name[-1])
            assert region.geometry.selected_bytes == TOKENS * row
            theirs = owner_heads(owner, lent, name, heads)
            peer.refresh(owner.metadata())
            peer.read(theirs.grant().ticket, range(BLOCKS), region, range(BLOCKS),
                      remote=theirs.name).wait()
            assert (mine[layer, half] == source[layer, half][..., heads, :]).all()
            theirs.withdraw(force=True)
    assert ticket


def owner_heads(owner, lent, name, heads):
    """A head slice of one region, as the owner lends it to a rank."""
    layer, half = name.rsplit(".", 1)
    return lend.kv_cache(owner, {f"{layer}.of-{heads.start}": lent[layer]["kv".index(half)]},
                         head_axis=2, heads=heads).regions[f"{layer}.of-{heads.start}"]


def test_a_cache_is_taken_back_by_its_blocks_and_whole(agent):
    owner = agent()
    lent, how = one_tensor(values(1))
    with lend.kv_cache(owner, lent, tags="model=x", **how) as cache:
        assert len(cache.regions) == LAYERS * 2 and cache.block_count == BLOCKS
        first, second = cache.grant(range(4)), cache.grant(range(4, 8))
        assert cache.revoke_blocks([7]) == 1
        assert (first.info.status, second.info.status) == ("LEND_OK", "LEND_E_REVOKED")
        assert {info.tags for info in agent().peer(cache.metadata()).regions} == {"model=x"}
    assert owner.leases() == []


@pytest.mark.parametrize("how, words", [
    ({}, "needs layer_axis"), ({"layer_axis": 9}, "layer_axis 9"),
    ({"layer_axis": 0, "kv_axis": 2}, "not of extent 2"),
    ({"layer_axis": 0, "kv_axis": 1, "heads": (0, 2)}, "head_axis"),
    ({"layer_axis": 0, "kv_axis": 1, "head_axis": 4, "heads": (2, 9)}, "heads"),
])
def test_what_is_no_layout_is_refused(agent, how, words):
    with pytest.raises(lend.Invalid, match=words):
        lend.kv_cache(agent(), values(1), **how)
