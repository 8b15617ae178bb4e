# SPDX-License-Identifier: Apache-2.0
"""The KV cache of an inference engine, in the layouts that engines use: one call, one ticket."""
from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from . import _abi, _errors
from ._agent import Agent, Blocks, Lease, Region, Storage, Wanted
from ._memory import External, external

Heads = Union[None, slice, range, Tuple[int, int]]


class KvCache:
    """The regions of a KV cache, in the order in which they were given. Made by :func:`kv_cache`.

    Attributes:
        regions: by name: ``"LAYER"``, or ``"LAYER.k"`` and ``"LAYER.v"`` where they are apart.
        block_count: blocks that each region has.
        block_bytes: bytes of one block, over all regions.
    """

    def __init__(self, agent: Agent, regions: Sequence[Region]):
        self.agent = agent
        self.regions: Dict[str, Region] = {region.name: region for region in regions}
        self.block_count = min(region.geometry.count for region in regions)
        self.block_bytes = sum(region.geometry.selected_bytes for region in regions)

    def __enter__(self) -> "KvCache":
        return self

    def __exit__(self, *_) -> None:
        for region in self.regions.values():
            region.__exit__()

    def _list(self) -> List[Region]:
        return list(self.regions.values())

    def grant(self, blocks: Blocks = None, **how) -> Lease:
        """Lend these blocks of all layers; as :meth:`Agent.grant`. One ticket is for all of them.
        """
        return self.agent.grant(self._list(), blocks, **how)

    def revoke_blocks(self, blocks: Blocks) -> int:
        """End every lease that touches one of these blocks in any layer; tells how many."""
        return self.agent.revoke_blocks(self._list(), blocks)

    def metadata(self) -> bytes:
        """What a peer has to know of these regions alone; as :meth:`Agent.metadata`."""
        return self.agent.metadata(self._list())

    def prepare(self, peer, direction: str = "read", **how):
        """A transfer between all of these regions and those of the same names that the peer has."""
        return peer.prepare(direction, self._list(), **how)

    def read(self, peer, ticket, remote_blocks: Any, local_blocks: Any, **how):
        """Start to read blocks of the peer's cache into ours, of all layers: :meth:`Peer.read`."""
        return peer.read(ticket, remote_blocks, self._list(), local_blocks, **how)

    def write(self, peer, ticket, remote_blocks: Any, local_blocks: Any, **how):
        """Start to write blocks of ours into the peer's cache, of all layers."""
        return peer.write(ticket, remote_blocks, self._list(), local_blocks, **how)

    def withdraw(self, timeout: float = 5.0, *, force: bool = False) -> None:
        """Take all of it back; as :meth:`Region.withdraw`, timeout for each region."""
        for region in self._list():
            region.withdraw(timeout, force=force)


def kv_cache(agent: Agent, tensors: Union[Mapping[str, Any], Any], *,
             block_axis: Optional[int] = None, kv_axis: Optional[int] = None,
             layer_axis: Optional[int] = None, head_axis: Optional[int] = None,
             heads: Heads = None, access: Union[str, int, None] = "read",
             tags: Optional[str] = None, share: Optional[Storage] = None) -> KvCache:
    """Lend a KV cache.

    Args:
        tensors: ``{layer: tensor}``, ``{layer: (k, v)}`` where K and V are tensors of their own, or
            one tensor for all layers, whose dimension layer_axis numbers them.
        block_axis: the dimension that numbers the blocks; usual: the first that none of the others
            is.
        kv_axis: the dimension, of extent 2, that tells K from V. They become regions of their own,
            ``"LAYER.k"`` and ``"LAYER.v"``, whatever their order in memory: both sides need not
            have the same.
        head_axis, heads: lend a slice of the heads alone (a slice, a range, or first and end), for
            a peer with another number of tensor-parallel ranks.
        access, tags, share: as :meth:`Agent.lend`. None: for our own transfers alone.

    Axes are those of the tensors as given. Regions are registered all, or none.

    >>> cache = memoryview(bytearray(2 * 8 * 64)).cast("B", (2, 8, 4, 16))
    >>> with Agent("engine-1", transports="loopback") as agent:
    ...     cache = kv_cache(agent, {"layers.0": cache}, kv_axis=0)
    ...     (sorted(cache.regions), cache.block_count, cache.block_bytes)
    (['layers.0.k', 'layers.0.v'], 8, 128)
    """
    wanted: List[Wanted] = []
    # Parts of one tensor may lie between one another, and their ranges overlap.
    is_cut = kv_axis is not None or layer_axis is not None or heads is not None
    flags = _abi.REGION_ALLOW_OVERLAP if is_cut else 0
    for name, tensor in _layers(tensors, layer_axis):
        for suffix, part in _halves(tensor, kv_axis):
            taken = [axis for axis in (kv_axis, layer_axis, head_axis) if axis is not None]
            dimensions = len(part.shape)
            axis = block_axis
            if axis is None:
                axis = next((axis for axis in range(dimensions)
                             if axis not in [other % dimensions for other in taken]), 0)
            wanted.append(Wanted(_sliced(part, head_axis, heads), f"{name}{suffix}", None, axis,
                                 access, tags, share, flags))
    if not wanted:
        raise _errors.invalid("a cache without layers")
    return KvCache(agent, agent.lend_all(wanted))


def _axis_of(memory: External, axis: int, name: str) -> int:
    if not -len(memory.shape) <= axis < len(memory.shape):
        raise _errors.invalid(f"{name} {axis}, and the shape is {memory.shape}")
    return axis % len(memory.shape)


def _part(memory: External, axis: int, first: int, count: int) -> External:
    """Some of a dimension; the number of dimensions stays."""
    shape = (*memory.shape[:axis], count, *memory.shape[axis + 1:])
    return memory._replace(address=memory.address + first * memory.strides[axis], shape=shape)


def _layers(tensors, layer_axis):
    if isinstance(tensors, Mapping):
        if layer_axis is not None:
            raise _errors.invalid("layer_axis is for one tensor of all layers")
        for name, tensor in tensors.items():
            if isinstance(tensor, tuple) and len(tensor) == 2:
                yield f"{name}.k", external(tensor[0])
                yield f"{name}.v", external(tensor[1])
            else:
                yield name, external(tensor)
        return
    if layer_axis is None:
        raise _errors.invalid("one tensor for all layers needs layer_axis")
    memory = external(tensors)
    axis = _axis_of(memory, layer_axis, "layer_axis")
    for layer in range(memory.shape[axis]):
        yield f"layers.{layer}", _part(memory, axis, layer, 1)


def _halves(memory: External, kv_axis):
    if kv_axis is None:
        yield "", memory
        return
    axis = _axis_of(memory, kv_axis, "kv_axis")
    if memory.shape[axis] != 2:
        raise _errors.invalid(f"kv_axis {kv_axis} of shape {memory.shape} is not of extent 2")
    yield ".k", _part(memory, axis, 0, 1)
    yield ".v", _part(memory, axis, 1, 1)


def _sliced(memory: External, head_axis, heads: Heads) -> External:
    if heads is None:
        return memory
    if head_axis is None:
        raise _errors.invalid("heads need head_axis")
    axis = _axis_of(memory, head_axis, "head_axis")
    chosen = range(*heads.indices(memory.shape[axis])) if isinstance(heads, slice) else (
        heads if isinstance(heads, range) else range(*heads))
    if chosen.step != 1 or not chosen or chosen[0] < 0 or chosen[-1] >= memory.shape[axis]:
        raise _errors.invalid(f"heads {heads} of {memory.shape[axis]}: some that follow each other "
                              "are wanted")
    return _part(memory, axis, chosen[0], len(chosen))
