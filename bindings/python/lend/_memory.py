# SPDX-License-Identifier: Apache-2.0
"""What people have: tensors and buffers, as an address, a shape, strides and somebody who owns it.

Asked for in this order: DLPack, the CUDA array interface, the buffer protocol, NumPy's array
interface, and the methods of a tensor of PyTorch. No library is imported for it.
"""
from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, byref, c_char_p, c_int32, c_int64, c_ssize_t
from ctypes import c_uint8, c_uint16, c_uint32, c_uint64, c_void_p, py_object
from typing import Any, NamedTuple, Optional, Tuple

from . import _abi
from ._errors import Invalid, Unsupported


class External(NamedTuple):
    """Memory that somebody else owns: where it is, how it is laid out, and what keeps it alive."""

    address: int
    shape: Tuple[int, ...]
    strides: Tuple[int, ...]  # bytes
    item_bytes: int
    kind: int  # MEMORY_SYSTEM, MEMORY_PINNED or MEMORY_DEVICE
    device: int
    is_readonly: bool
    owner: Any


def packed(shape: Tuple[int, ...], item_bytes: int) -> Tuple[int, ...]:
    """The strides of a tensor without gaps, the last dimension innermost."""
    strides, step = [], item_bytes
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))


# DLPack: the managed tensor is what keeps the memory alive.

class _DlDevice(Structure):
    _fields_ = [("type", c_int32), ("id", c_int32)]


class _DlType(Structure):
    _fields_ = [("code", c_uint8), ("bits", c_uint8), ("lanes", c_uint16)]


class _DlTensor(Structure):
    _fields_ = [("data", c_void_p), ("device", _DlDevice), ("ndim", c_int32), ("type", _DlType),
                ("shape", POINTER(c_int64)), ("strides", POINTER(c_int64)),
                ("byte_offset", c_uint64)]


class _DlManaged(Structure):
    _fields_ = [("tensor", _DlTensor), ("context", c_void_p), ("deleter", c_void_p)]


class _DlVersioned(Structure):
    _fields_ = [("major", c_uint32), ("minor", c_uint32), ("context", c_void_p),
                ("deleter", c_void_p), ("flags", c_uint64), ("tensor", _DlTensor)]


_DL_READ_ONLY, _DL_IS_COPIED = 1, 2
_DL_KINDS = {1: _abi.MEMORY_SYSTEM, 2: _abi.MEMORY_DEVICE, 3: _abi.MEMORY_PINNED,
             13: _abi.MEMORY_DEVICE}
_DL_NAMES = {b"dltensor_versioned": (_DlVersioned, c_char_p(b"used_dltensor_versioned")),
             b"dltensor": (_DlManaged, c_char_p(b"used_dltensor"))}
# With the GIL held: a deleter may touch Python's objects.
_DELETER = ctypes.PYFUNCTYPE(None, c_void_p)
_python = ctypes.pythonapi


def _prototype(name, result, *arguments):
    return ctypes.PYFUNCTYPE(result, *arguments)((name, _python))


_capsule_is_valid = _prototype("PyCapsule_IsValid", ctypes.c_int, py_object, c_char_p)
_capsule_pointer = _prototype("PyCapsule_GetPointer", c_void_p, py_object, c_char_p)
_capsule_rename = _prototype("PyCapsule_SetName", ctypes.c_int, py_object, c_char_p)


class _Managed:
    """A DLPack managed tensor that was handed to us; given back once."""

    def __init__(self, address: int, deleter: Optional[int]):
        self._address, self._deleter = address, deleter

    def __del__(self):
        deleter, self._deleter = self._deleter, None
        if deleter:
            _DELETER(deleter)(self._address)


def _dl_capsule(tensor) -> Any:
    """Its capsule: of the versioned kind where the producer knows it, and never a copy."""
    on_gpu = tensor.__dlpack_device__()[0] in (2, 13) if hasattr(tensor, "__dlpack_device__") else 0
    stream = {"stream": -1} if on_gpu else {}  # lending does not wait for what is being computed
    try:
        return tensor.__dlpack__(max_version=(1, 0), copy=False, **stream)
    except TypeError:
        return tensor.__dlpack__(**stream)


def _whole_bytes(shape, strides, bits):
    """Shape, strides in bytes and bytes of an item, for items of any number of bits."""
    if bits % 8 == 0:
        return shape, tuple(stride * bits // 8 for stride in strides), bits // 8
    if not shape or strides[-1] != 1 or shape[-1] * bits % 8 or any(
            stride * bits % 8 for stride in strides[:-1]):
        raise Unsupported(f"items of {bits} bits whose rows are no whole bytes")
    outer = tuple(stride * bits // 8 for stride in strides[:-1])
    return (*shape[:-1], shape[-1] * bits // 8), (*outer, 1), 1


def _from_dlpack(tensor) -> External:
    capsule = _dl_capsule(tensor)
    for name, (layout, used) in _DL_NAMES.items():
        if _capsule_is_valid(capsule, name):
            break
    else:
        raise Unsupported("a DLPack capsule of a kind that is not known, or used before")
    address = _capsule_pointer(capsule, name)
    managed = layout.from_address(address)
    if layout is _DlVersioned and managed.major != 1:
        raise Unsupported(f"DLPack {managed.major}.{managed.minor}; 1 is known")
    _capsule_rename(capsule, used)
    owner = _Managed(address, managed.deleter)
    flags = managed.flags if layout is _DlVersioned else 0
    if flags & _DL_IS_COPIED:
        raise Unsupported("DLPack gives a copy of it: lend the original")
    it = managed.tensor
    if it.device.type not in _DL_KINDS:
        raise Unsupported(f"memory of a device of DLPack type {it.device.type}")
    shape = tuple(it.shape[i] for i in range(it.ndim))
    strides = (tuple(it.strides[i] for i in range(it.ndim)) if it.strides else packed(shape, 1))
    shape, strides, item_bytes = _whole_bytes(shape, strides, it.type.bits * it.type.lanes)
    kind = _DL_KINDS[it.device.type]
    return External((it.data or 0) + it.byte_offset, shape, strides, item_bytes, kind,
                    it.device.id if kind == _abi.MEMORY_DEVICE else 0,
                    bool(flags & _DL_READ_ONLY), owner)


# The array interfaces: a dict; the object itself keeps the memory alive.

def _from_interface(tensor, interface, kind) -> External:
    address, is_readonly = interface["data"]
    shape = tuple(interface["shape"])
    item_bytes = int(interface["typestr"][2:])
    strides = interface.get("strides")
    strides = tuple(strides) if strides else packed(shape, item_bytes)
    return External(int(address or 0), shape, strides, item_bytes, kind,
                    _ordinal(tensor) if kind == _abi.MEMORY_DEVICE else 0, bool(is_readonly),
                    tensor)


def _ordinal(tensor) -> int:
    """Of which GPU: the CUDA array interface itself does not say."""
    device = getattr(tensor, "device", None)
    for value in (getattr(device, "id", None), getattr(device, "index", None), device):
        if isinstance(value, int):
            return value
    if hasattr(tensor, "__dlpack_device__"):
        return int(tensor.__dlpack_device__()[1])
    return 0


def _from_cuda_interface(tensor) -> External:
    return _from_interface(tensor, tensor.__cuda_array_interface__, _abi.MEMORY_DEVICE)


def _from_array_interface(tensor) -> External:
    return _from_interface(tensor, tensor.__array_interface__, _abi.MEMORY_SYSTEM)


# The buffer protocol: the export is held, so that a bytearray is not resized nor a mmap closed.

class _PyBuffer(Structure):
    _fields_ = [("buf", c_void_p), ("obj", c_void_p), ("len", c_ssize_t), ("itemsize", c_ssize_t),
                ("readonly", ctypes.c_int), ("ndim", ctypes.c_int), ("format", c_char_p),
                ("shape", POINTER(c_ssize_t)), ("strides", POINTER(c_ssize_t)),
                ("suboffsets", POINTER(c_ssize_t)), ("internal", c_void_p)]


_buffer_get = _prototype("PyObject_GetBuffer", ctypes.c_int, py_object, POINTER(_PyBuffer),
                         ctypes.c_int)
_buffer_release = _prototype("PyBuffer_Release", None, POINTER(_PyBuffer))
_STRIDES = 0x0010 | 0x0008  # PyBUF_STRIDES, which implies PyBUF_ND


class _Export:
    """A buffer that was asked for, until it is given back."""

    def __init__(self, exporter):
        self.view = _PyBuffer()
        self._is_held = False
        _buffer_get(exporter, byref(self.view), _STRIDES)
        self._is_held = True

    def __del__(self):
        if self._is_held:
            self._is_held = False
            _buffer_release(byref(self.view))


def _from_buffer(exporter) -> External:
    export = _Export(exporter)
    view = export.view
    if view.suboffsets:
        raise Unsupported("a buffer of pointers to pointers")
    shape = tuple(view.shape[i] for i in range(view.ndim))
    strides = tuple(view.strides[i] for i in range(view.ndim)) if view.strides else packed(
        shape, view.itemsize)
    return External(view.buf or 0, shape, strides, view.itemsize, _abi.MEMORY_SYSTEM, 0,
                    bool(view.readonly), export)


def _from_methods(tensor) -> External:
    """A tensor of PyTorch that the protocols do not take: one with a gradient, of a new dtype."""
    device = tensor.device
    if device.type not in ("cpu", "cuda"):
        raise Unsupported(f"memory of a device of type {device.type}")
    item_bytes = tensor.element_size()
    is_gpu = device.type == "cuda"
    return External(tensor.data_ptr(), tuple(tensor.shape),
                    tuple(step * item_bytes for step in tensor.stride()), item_bytes,
                    _abi.MEMORY_DEVICE if is_gpu else _abi.MEMORY_SYSTEM,
                    (device.index or 0) if is_gpu else 0, False, tensor)


def _from_numbers(numbers) -> External:
    """(pointer, bytes, device): device is None, "cpu", the ordinal of a GPU, or "cuda:N"."""
    pointer, count, device = numbers
    if isinstance(device, str) and device.startswith("cuda"):
        device = int(device.partition(":")[2] or 0)
    if device in (None, "cpu") or device == -1:
        kind, ordinal = _abi.MEMORY_SYSTEM, 0
    elif isinstance(device, int) and device >= 0:
        kind, ordinal = _abi.MEMORY_DEVICE, device
    else:
        raise Invalid(f"device {device!r}: None, \"cpu\", an ordinal, or \"cuda:N\" is wanted")
    return External(int(pointer), (int(count),), (1,), 1, kind, ordinal, False, None)


_WAYS = (("__dlpack__", _from_dlpack), ("__cuda_array_interface__", _from_cuda_interface),
         ("", _from_buffer), ("__array_interface__", _from_array_interface),
         ("data_ptr", _from_methods))


def external(thing: Any) -> External:
    """Describe what a person has. No byte of it is looked at.

    >>> external(bytearray(8)).shape
    (8,)
    """
    if isinstance(thing, External):
        return thing
    if isinstance(thing, tuple) and len(thing) == 3:
        return _from_numbers(thing)
    reasons = []
    for attribute, way in _WAYS:
        if attribute and not hasattr(thing, attribute):
            continue
        try:
            return way(thing)
        except (BufferError, TypeError, ValueError, RuntimeError, Unsupported) as error:
            reasons.append(f"{attribute or 'buffer'}: {error}")
    raise Unsupported(f"no memory to be had of a {type(thing).__name__}: {'; '.join(reasons)}")


class Numbers:
    """Block numbers where C can read them: no copy of an array of int32 or int64."""

    __slots__ = ("address", "count", "bits", "keep")

    def __init__(self, blocks: Any):
        dtype = getattr(blocks, "dtype", None)
        bits = _CHARACTERS.get(getattr(dtype, "char", None))
        if bits and dtype.isnative:  # NumPy's, at less cost than by what follows
            try:
                self.keep = _CHAR.from_buffer(blocks)
                self.address, self.count, self.bits = _address(self.keep), blocks.size, bits
                return
            except (TypeError, ValueError):
                pass  # read-only, with gaps, or empty
        try:
            view = memoryview(blocks)
        except TypeError:
            view = memoryview(_listed(blocks))
        if view.format not in _CHARACTERS or not view.c_contiguous:
            view = memoryview(_copied(view))
        self.bits = _CHARACTERS[view.format]
        self.count = view.nbytes // view.itemsize
        if view.readonly:
            self.keep = _Export(view)
            self.address = self.keep.view.buf
        elif self.count:
            self.keep = _CHAR.from_buffer(view)
            self.address = _address(self.keep)
        else:
            self.keep, self.address = None, None


_CHAR, _address = ctypes.c_char, ctypes.addressof
# Whole numbers by NumPy's characters and the buffer protocol's; C's long is the machine's.
_LONG_BITS = ctypes.sizeof(ctypes.c_long) * 8
_CHARACTERS = {"i": 32, "I": 32, "q": 64, "Q": 64, "l": _LONG_BITS, "L": _LONG_BITS}


def _listed(blocks):
    """An array of what has no buffer: a number, a range, a list, a tensor of the host's."""
    import array

    if hasattr(blocks, "__dlpack__") or hasattr(blocks, "data_ptr"):
        found = external(blocks)
        code = {4: "i", 8: "q"}.get(found.item_bytes)
        if found.kind != _abi.MEMORY_DEVICE and code and len(found.shape) == 1:
            step = found.strides[0] if found.shape[0] > 1 else found.item_bytes
            if step == found.item_bytes:
                raw = (ctypes.c_char * (found.shape[0] * step)).from_address(found.address)
                raw.owner = found.owner
                return memoryview(raw).cast("B").cast(code)
        raise Invalid("block numbers of a tensor have to be int32 or int64, contiguous, in the "
                      "memory of the host")
    if isinstance(blocks, int):
        blocks = (blocks,)
    try:
        return array.array("q", blocks)
    except TypeError:
        raise Invalid(f"block numbers: {type(blocks).__name__} is neither numbers nor an array of "
                      "int32 or int64") from None


def _copied(view: memoryview):
    import array

    if view.format not in tuple("bBhHiIlLqQ"):
        raise Invalid(f"block numbers of format {view.format!r}: whole numbers are wanted")
    return array.array("q", view.tolist())
