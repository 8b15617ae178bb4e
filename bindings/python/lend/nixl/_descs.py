# SPDX-License-Identifier: Apache-2.0
"""NIXL's lists of descriptors: ranges of memory to register, and ranges to move.

A list to move is an array of rows of three uint64 (address, length, device), so that one of six
million rows costs as much as its bytes. They travel in a form of their own; nothing is unpickled.
"""
from __future__ import annotations

import array
import struct
import zlib
from typing import Any, List, Optional

from .. import _abi, _memory
from . import _capi

_HEAD = struct.Struct("<8sHHIQ")  # magic, kind, type of memory, checksum of the rest, how many
_MAGIC = b"lendnixl"
_ROWS_MAX = 1 << 24


class _List:
    """What both kinds of lists have."""

    _kind = 0

    def __init__(self, mem_type, descs=(), is_sorted: bool = False):
        self._type = type_of(mem_type)
        self._rows: Any = array.array("Q")
        self.owners: List[Any] = []
        for desc in descs:
            self.addDesc(desc)

    def getType(self) -> int:
        return self._type

    def descCount(self) -> int:
        return len(self)

    def __len__(self) -> int:
        return self._view().nbytes // 24

    def isEmpty(self) -> bool:
        return len(self) == 0

    def _view(self) -> memoryview:
        return memoryview(self._rows).cast("B")

    def _own(self) -> array.array:
        """The rows as an array that may be changed."""
        if not isinstance(self._rows, array.array):
            own = array.array("Q")
            own.frombytes(self._view())
            self._rows = own
        return self._rows

    def __getitem__(self, index: int):
        count = len(self)
        if not -count <= index < count:
            raise IndexError(f"descriptor {index} of {count}")
        at = index % count * 24
        return struct.unpack("=QQQ", self._view()[at:at + 24])

    def __iter__(self):
        return (self[index] for index in range(len(self)))

    def addDesc(self, desc) -> None:
        address, length, device = desc[:3]
        self._own().extend((address, length, max(device, 0)))

    append = addDesc

    def index(self, desc) -> int:
        return list(self).index(tuple(desc))

    def remDesc(self, index: int) -> None:
        self[index]
        del self._own()[index * 3:index * 3 + 3]

    def clear(self) -> None:
        self._rows = array.array("Q")

    def trim(self) -> None:
        """Nothing: there is no room to give back."""

    def __eq__(self, other) -> bool:
        return (type(other) is type(self) and other._type == self._type
                and other.serialize() == self.serialize())

    __hash__ = None

    def __repr__(self) -> str:
        return (f"<{type(self).__name__} of {_capi.MEMORY_NAMES[self._type]}, "
                f"{len(self)} descriptors>")

    def print(self) -> None:
        print(repr(self), *self, sep="\n  ")

    def serialize(self) -> bytes:
        body, head = bytes(self._view()) + self._extra(), (_MAGIC, self._kind, self._type)
        checksum = zlib.crc32(body, zlib.crc32(_HEAD.pack(*head, 0, len(self))))
        return _HEAD.pack(*head, checksum, len(self)) + body

    def _extra(self) -> bytes:
        return b""

    def __reduce__(self):
        return deserialized, (self.serialize(),)


class nixlXferDList(_List):
    """Ranges to move: (address, length, device)."""

    _kind = 1

    @classmethod
    def of(cls, mem_type: int, rows: Any) -> "nixlXferDList":
        """Of an array of N x 3 uint64, which is kept."""
        made = cls(mem_type)
        made._rows = rows
        return made

    def rows(self) -> Any:
        """An array of NumPy: N x 3 uint64."""
        import numpy

        return numpy.frombuffer(self._view(), "uint64").reshape(-1, 3)

    def made(self) -> _capi.Made:
        """The same for C, as a context."""
        rows = _capi.exported(self._rows)
        return _capi.Made("create_xfer_dlist", "destroy_xfer_dlist", self._type).filled(
            lambda handle: _capi.check(_capi.capi.nixl_capi_xfer_dlist_add_rows(
                handle, rows.view.buf, len(self))))


class nixlRegDList(_List):
    """Ranges to register: (address, length, device, meta)."""

    _kind = 2

    def __init__(self, mem_type, descs=(), is_sorted: bool = False):
        self._meta: List[bytes] = []
        super().__init__(mem_type, descs, is_sorted)

    def addDesc(self, desc) -> None:
        super().addDesc(desc)
        meta = desc[3] if len(desc) > 3 else b""
        self._meta.append(meta.encode() if isinstance(meta, str) else bytes(meta))

    append = addDesc

    def __getitem__(self, index: int):
        return (*super().__getitem__(index), self._meta[index])

    def remDesc(self, index: int) -> None:
        super().remDesc(index)
        del self._meta[index]

    def clear(self) -> None:
        super().clear()
        self._meta = []

    def _extra(self) -> bytes:
        return b"".join(struct.pack("<I", len(meta)) + meta for meta in self._meta)

    def made(self) -> _capi.Made:
        """The same for C, as a context."""
        def fill(handle):
            for address, length, device, meta in self:
                _capi.check(_capi.capi.nixl_capi_reg_dlist_add_desc(
                    handle, address, length, device, meta or None, len(meta)))

        return _capi.Made("create_reg_dlist", "destroy_reg_dlist", self._type).filled(fill)


def deserialized(data: bytes) -> _List:
    """A list from its bytes, which anybody may have written.

    >>> deserialized(nixlXferDList("DRAM", [(4096, 64, 0)]).serialize())[0]
    (4096, 64, 0)
    """
    data = bytes(data)
    if len(data) < _HEAD.size:
        raise _capi.nixlInvalidParamError("descriptors: the bytes are cut")
    magic, kind, mem_type, checksum, count = _HEAD.unpack_from(data)
    body = data[_HEAD.size:]
    if magic != _MAGIC or kind not in (1, 2) or mem_type >= len(_capi.MEMORY_NAMES):
        raise _capi.nixlInvalidParamError("descriptors: the bytes are of something else")
    head = _HEAD.pack(magic, kind, mem_type, 0, count)
    if (count > _ROWS_MAX or len(body) < count * 24
            or zlib.crc32(body, zlib.crc32(head)) != checksum):
        raise _capi.nixlInvalidParamError("descriptors: the bytes are cut, or flipped")
    made = (nixlXferDList if kind == 1 else nixlRegDList)(mem_type)
    made._rows.frombytes(body[:count * 24])
    at = count * 24
    for _ in range(count if kind == 2 else 0):
        length = int.from_bytes(body[at:at + 4], "little") if at + 4 <= len(body) else -1
        if length < 0 or at + 4 + length > len(body):
            raise _capi.nixlInvalidParamError("descriptors: the bytes are cut")
        made._meta.append(body[at + 4:at + 4 + length])
        at += 4 + length
    if at != len(body):
        raise _capi.nixlInvalidParamError("descriptors: there are too many bytes")
    return made


def type_of(mem_type) -> int:
    """The number of a type of memory."""
    if isinstance(mem_type, str):
        if mem_type not in _capi.MEMORY:
            raise _capi.nixlInvalidParamError(f"no type of memory {mem_type!r}")
        return _capi.MEMORY[mem_type]
    return int(mem_type)


def of_rows(kind, rows, mem_type) -> Optional[_List]:
    """A list of an array of N rows of three numbers (NumPy's, of any type of whole numbers)."""
    if len(rows.shape) != 2 or rows.shape[1] != 3:
        raise _capi.nixlInvalidParamError(f"an array of shape {rows.shape}: N x 3 is wanted")
    made = kind(mem_type)
    if rows.dtype.kind not in "iu":
        raise _capi.nixlInvalidParamError(f"an array of {rows.dtype}: whole numbers are wanted")
    if rows.dtype.itemsize != 8 or not rows.flags.c_contiguous or not rows.dtype.isnative:
        rows = rows.astype("int64" if rows.dtype.kind == "i" else "uint64", order="C")
    made._rows = rows  # kept, not copied: it is looked at when the list is used
    if kind is nixlRegDList:
        made._meta = [b""] * len(rows)
    return made


def of_tensors(kind, tensors) -> _List:
    """A list of whole tensors, of whatever library."""
    made = None
    for tensor in tensors:
        memory = _memory.external(tensor)
        count = memory.item_bytes
        for extent in memory.shape:
            count *= extent
        strides = [stride for extent, stride in zip(memory.shape, memory.strides) if extent > 1]
        packed = [stride for extent, stride in
                  zip(memory.shape, _memory.packed(memory.shape, memory.item_bytes)) if extent > 1]
        if strides != packed:
            raise _capi.nixlInvalidParamError(
                f"a tensor of shape {memory.shape} with strides {memory.strides} has gaps")
        mem_type = "VRAM" if memory.kind == _abi.MEMORY_DEVICE else "DRAM"
        made = made or kind(mem_type)
        if made._type != type_of(mem_type):
            raise _capi.nixlInvalidParamError("tensors of the host and of a GPU in one list")
        made.addDesc((memory.address, count, memory.device, b""))
        made.owners.append(memory.owner)
    if made is None:
        raise _capi.nixlInvalidParamError("no tensors")
    return made
