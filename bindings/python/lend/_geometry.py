# SPDX-License-Identifier: Apache-2.0
"""How a tensor divides into blocks: worked out from its shape and strides."""
from __future__ import annotations

from typing import NamedTuple, Optional, Tuple, Union

from . import _abi
from ._errors import Invalid
from ._memory import External


class Geometry(NamedTuple):
    """How blocks lie in a region, in bytes.

    Row ``r`` of block ``b`` is the ``block_length_bytes`` bytes at
    ``b * stride_bytes + r * inner_stride_bytes``.

    >>> Geometry(block_length_bytes=4096, count=16)
    Geometry(block_length_bytes=4096, count=16, stride_bytes=0, inner_stride_bytes=0, inner_count=1)
    """

    block_length_bytes: int
    count: int
    stride_bytes: int = 0
    inner_stride_bytes: int = 0
    inner_count: int = 1

    @property
    def selected_bytes(self) -> int:
        """Bytes that a transfer moves of each block."""
        return self.block_length_bytes * max(self.inner_count, 1)

    def _c(self) -> _abi.Geometry:
        return _abi.Geometry(block_length_bytes=self.block_length_bytes,
                             stride_bytes=self.stride_bytes, count=self.count,
                             inner_stride_bytes=self.inner_stride_bytes,
                             inner_count=self.inner_count)


class _Run(NamedTuple):
    """Bytes in a row, or rows of them: what dimensions fold into."""

    length: int
    row_stride: int
    row_count: int


def _fold(memory: External, axes) -> _Run:
    """Fold dimensions into one run of bytes and at most one stride, innermost first.

    The order in memory is what counts, not that of the dimensions: a block is moved as it lies.
    """
    length, row_stride, row_count = memory.item_bytes, 0, 1
    for axis in sorted(axes, key=lambda axis: memory.strides[axis]):
        extent, stride = memory.shape[axis], memory.strides[axis]
        if extent == 1:
            continue
        if stride < length:
            raise Invalid(_why(memory, axis, "which is less than the bytes that it steps over"))
        if row_count == 1 and stride == length:
            length *= extent
        elif row_count == 1:
            row_stride, row_count = stride, extent
        elif stride == row_stride * row_count:
            row_count *= extent
        else:
            raise Invalid(_why(memory, axis, f"and a block may have rows at one distance only, "
                                             f"which is {row_stride} bytes here"))
    return _Run(length, row_stride, row_count)


def _why(memory: External, axis: int, what: str) -> str:
    return (f"dimension {axis} of shape {memory.shape} has a stride of {memory.strides[axis]} "
            f"bytes, {what}")


def _whole(memory: External, count: Optional[int]) -> Geometry:
    """The tensor as one block, or cut into so many equal ones."""
    run = _fold(memory, range(len(memory.shape)))
    if count is None:
        return Geometry(run.length, 1, 0, run.row_stride, run.row_count)
    if run.row_count > 1:
        raise Invalid(f"shape {memory.shape} with strides {memory.strides} has gaps: it can be "
                      "divided along one of its dimensions (block_axis), not into a number of "
                      "blocks")
    if count < 1 or run.length % count:
        raise Invalid(f"{run.length} bytes do not divide into {count} blocks")
    return Geometry(run.length // count, count)


def _along(memory: External, axis: int) -> Geometry:
    dimensions = len(memory.shape)
    if not -dimensions <= axis < dimensions:
        raise Invalid(f"block_axis {axis}, and the shape is {memory.shape}")
    axis %= dimensions
    run = _fold(memory, (other for other in range(dimensions) if other != axis))
    count, stride = memory.shape[axis], memory.strides[axis]
    if count > 1:
        covers_rows = stride >= run.row_stride * (run.row_count - 1) + run.length
        interleaves = (run.row_count > 1 and stride >= run.length
                       and run.row_stride >= stride * (count - 1) + run.length)
        if not covers_rows and not interleaves:
            raise Invalid(_why(memory, axis, "and so its blocks are not apart from each other"))
    else:
        stride = 0
    return Geometry(run.length, count, stride, run.row_stride, run.row_count)


def geometry_of(memory: External, blocks: Union[int, Geometry, None],
                block_axis: Optional[int]) -> Tuple[int, Geometry]:
    """The bytes from the first to the last of a tensor, and how they divide into blocks.

    >>> from lend._memory import external
    >>> geometry_of(external(memoryview(bytes(64)).cast("B", (4, 2, 8))), None, 0)[1][:3]
    (16, 4, 16)
    """
    for axis, extent in enumerate(memory.shape):
        if extent == 0:
            raise Invalid(f"dimension {axis} of shape {memory.shape} is empty")
    for axis, extent in enumerate(memory.shape):
        if extent > 1 and memory.strides[axis] <= 0:
            raise Invalid(_why(memory, axis, "and so its elements are not apart from each other"))
    span = memory.item_bytes + sum((extent - 1) * stride for extent, stride in
                                   zip(memory.shape, memory.strides) if extent > 1)
    if isinstance(blocks, Geometry):
        return span, blocks
    if blocks is not None and block_axis is not None:
        raise Invalid("either blocks, a number, or block_axis, a dimension; not both")
    if blocks is None and block_axis is None and len(memory.shape) > 1:
        block_axis = 0
    if block_axis is not None:
        return span, _along(memory, block_axis)
    return span, _whole(memory, blocks)
