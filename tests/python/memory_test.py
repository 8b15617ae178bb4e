# SPDX-License-Identifier: Apache-2.0
"""Goal: whatever people have is described as it lies in memory, whoever owns it is kept, and what
cannot be divided into blocks is refused by the name of its dimension.

Method: NumPy's views, of which each byte of each block is looked for where the geometry says that
it is; and producers of DLPack and of the CUDA array interface that are made here (no GPU is there).
"""
import ctypes
import gc

import numpy
import pytest

import lend
from lend import _abi, _memory
from lend._geometry import geometry_of


def places(tensor, axis):
    """Where the bytes of each block lie, by NumPy."""
    base = tensor.__array_interface__["data"][0]
    found = []
    for block in range(tensor.shape[axis]):
        part = tensor.take([block], axis)  # a copy: only its shape counts
        at = set()
        for index in numpy.ndindex(part.shape):
            index = (*index[:axis], block, *index[axis + 1:])
            first = base + sum(i * step for i, step in zip(index, tensor.strides))
            at |= set(range(first, first + tensor.itemsize))
        found.append(at)
    return found


def places_by_geometry(tensor, **how):
    memory = lend.external(tensor)
    span, geometry = geometry_of(memory, how.get("blocks"), how.get("block_axis"))
    found = []
    for block in range(geometry.count):
        at = set()
        for row in range(max(geometry.inner_count, 1)):
            first = (memory.address + block * (geometry.stride_bytes or geometry.selected_bytes)
                     + row * geometry.inner_stride_bytes)
            at |= set(range(first, first + geometry.block_length_bytes))
        assert len(at) == geometry.selected_bytes
        assert max(at) < memory.address + span
        found.append(at)
    return found


BASE = numpy.zeros((6, 4, 8, 2), "uint16")
KV = numpy.zeros((2, 6, 4, 8), "uint8")
VIEWS = {
    "as it is": (BASE, 0),
    "every second block": (BASE[::2], 0),
    "some blocks": (BASE[2:5], 0),
    "heads of each token": (BASE[:, :, 2:5], 0),
    "tokens of each block": (BASE[:, 1:3], 0),
    "heads before tokens in memory": (BASE.transpose(0, 2, 1, 3), 0),
    "blocks in the second dimension": (BASE.swapaxes(0, 1), 1),
    "K and V halves of one tensor": (KV, 1),
    "K alone": (KV[0], 0),
    "K and V in each block": (KV.transpose(1, 0, 2, 3).copy(), 0),
    "in Fortran's order": (numpy.asfortranarray(numpy.zeros((8, 4, 6), "uint8")), 2),
    "one block": (BASE[:1], 0),
    "some blocks of K and V halves": (KV[:, 2:4], 1),
    "from the end": (BASE, -4),
}


@pytest.mark.parametrize("name", VIEWS)
def test_blocks_lie_where_numpy_has_them(name):
    tensor, axis = VIEWS[name]
    assert places_by_geometry(tensor, block_axis=axis) == places(tensor, axis % tensor.ndim)


def test_a_number_of_blocks_divides_what_has_no_gaps():
    flat = numpy.zeros(4096, "uint8")
    assert [min(at) - flat.ctypes.data for at in places_by_geometry(flat, blocks=4)] == [
        0, 1024, 2048, 3072]
    assert len(places_by_geometry(flat)) == 1
    assert len(places_by_geometry(numpy.zeros((), "float64"))) == 1
    with pytest.raises(lend.Invalid, match="4096 bytes do not divide into 3"):
        places_by_geometry(flat, blocks=3)
    with pytest.raises(lend.Invalid, match="gaps"):
        places_by_geometry(flat[::2], blocks=4)
    with pytest.raises(lend.Invalid, match="not both"):
        places_by_geometry(flat, blocks=4, block_axis=0)


@pytest.mark.parametrize("tensor, axis, words", [
    (BASE[:, ::2, ::2], 0, "dimension 1 .* one distance only"),
    (BASE[::-1], 0, "dimension 0 .* not apart"),
    (numpy.broadcast_to(numpy.zeros(8), (4, 8)), 0, "dimension 0 .* stride of 0"),
    (numpy.lib.stride_tricks.as_strided(BASE, (4, 16), (8, 2)), 0, "dimension 0 .* not apart"),
    (numpy.lib.stride_tricks.as_strided(BASE, (4, 4, 16), (512, 8, 2)), 0, "dimension 1 .* less"),
    (numpy.zeros((4, 0)), 0, "dimension 1 .* empty"),
    (BASE, 4, "block_axis 4"),
    (KV[:, :, ::2], 1, "one distance only"),
])
def test_what_does_not_divide_is_refused_by_the_name_of_its_dimension(tensor, axis, words):
    with pytest.raises(lend.Invalid, match=words):
        places_by_geometry(tensor, block_axis=axis)


@pytest.mark.parametrize("kind", ["float16", "complex128", "bool", "datetime64[ns]", "V3", "S5",
                                  "U2", [("a", "i4"), ("b", "f8")], ">i4", "longdouble"])
def test_no_data_type_is_refused(agent, kind):
    tensor = numpy.zeros((8, 16), kind)
    region = agent().lend(tensor)
    assert (region.geometry.count, region.geometry.block_length_bytes) == (8, 16 * tensor.itemsize)


def test_torch_tensors_are_lent(agent):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed here")
    for tensor in (torch.zeros(8, 16), torch.zeros(8, 16, dtype=torch.bfloat16),
                   torch.zeros(8, 16, requires_grad=True)):
        region = agent().lend(tensor)
        assert region.geometry.selected_bytes == 16 * tensor.element_size()


# DLPack, by hand.

class Producer:
    """Something with DLPack, whose managed tensor counts how often it is given back."""

    def __init__(self, is_versioned=True, device=1, flags=0, bits=8, shape=(4, 16), strides=None,
                 major=1):
        self.bytes = (ctypes.c_uint8 * 4096)()
        self.given_back = 0
        self.asked = None
        self.is_versioned, self.device = is_versioned, device
        layout = _memory._DlVersioned if is_versioned else _memory._DlManaged
        self.managed = layout()
        if is_versioned:
            self.managed.major, self.managed.flags = major, flags
        it = self.managed.tensor
        it.data, it.ndim, it.byte_offset = ctypes.addressof(self.bytes), len(shape), 64
        it.device.type, it.device.id = device, 3
        it.type.bits, it.type.lanes = bits, 1
        self.shape = (ctypes.c_int64 * len(shape))(*shape)
        it.shape = self.shape
        if strides:
            self.strides = (ctypes.c_int64 * len(shape))(*strides)
            it.strides = self.strides

        def give_back(_):
            self.given_back += 1

        self.deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(give_back)
        self.managed.deleter = ctypes.cast(self.deleter, ctypes.c_void_p).value

    def __dlpack_device__(self):
        return self.device, 3

    def __dlpack__(self, **asked):
        if not self.is_versioned and "max_version" in asked:
            raise TypeError("unexpected keyword argument 'max_version'")
        self.asked = asked
        self.name = ctypes.c_char_p(b"dltensor_versioned" if self.is_versioned else b"dltensor")
        make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p,
                                 ctypes.c_void_p)(("PyCapsule_New", ctypes.pythonapi))
        return make(ctypes.addressof(self.managed), self.name, None)


@pytest.mark.parametrize("is_versioned", [True, False])
def test_the_managed_tensor_of_dlpack_is_given_back_once_when_nobody_uses_it(agent, is_versioned):
    producer = Producer(is_versioned)
    region = agent().lend(producer)
    gc.collect()
    assert region.info.address == ctypes.addressof(producer.bytes) + 64
    assert region.geometry.count == 4 and producer.given_back == 0
    region.withdraw()
    gc.collect()
    assert producer.given_back == 1


def test_a_dlpack_tensor_that_is_refused_is_given_back(agent):
    producer = Producer(shape=(4, 4, 4), strides=(-64, 4, 1))
    with pytest.raises(lend.Invalid, match="dimension 0"):
        agent().lend(producer)
    gc.collect()
    assert producer.given_back == 1


def test_the_flags_of_dlpack_are_honoured(agent):
    owner = agent()
    assert owner.lend(Producer(flags=1)).is_readonly
    with pytest.raises(lend.Invalid, match="read-only"):
        owner.lend(Producer(flags=1), access="write")
    with pytest.raises(lend.Unsupported, match="copy"):
        owner.lend(Producer(flags=2))
    with pytest.raises(lend.Unsupported, match="DLPack 2"):
        owner.lend(Producer(major=2))
    with pytest.raises(lend.Unsupported, match="type 7"):
        owner.lend(Producer(device=7))


def test_items_that_are_no_whole_bytes_are_lent_where_their_rows_are():
    memory = lend.external(Producer(bits=4))
    assert (memory.shape, memory.strides, memory.item_bytes) == ((4, 8), (8, 1), 1)
    with pytest.raises(lend.Unsupported, match="4 bits"):
        lend.external(Producer(bits=4, shape=(4, 3)))


def test_memory_of_a_gpu_is_asked_for_without_waiting_for_what_it_computes():
    producer = Producer(device=2)
    memory = lend.external(producer)
    assert (memory.kind, memory.device) == (_abi.MEMORY_DEVICE, 3)
    assert producer.asked["stream"] == -1
    assert lend.external(Producer(device=3)).kind == _abi.MEMORY_PINNED


# The CUDA array interface, by hand.

class OnGpu:
    def __init__(self, strides=None, is_readonly=False, device=None):
        self.__cuda_array_interface__ = {
            "shape": (4, 16), "typestr": "<f4", "data": (0x7f0000000000, is_readonly),
            "strides": strides, "version": 3}
        self.device = device


class Ordinal:
    id = 5


def test_the_cuda_array_interface_is_taken():
    memory = lend.external(OnGpu(device=Ordinal()))
    assert memory[:7] == (0x7f0000000000, (4, 16), (64, 4), 4, _abi.MEMORY_DEVICE, 5, False)
    memory = lend.external(OnGpu(strides=(128, 4), is_readonly=True))
    assert memory.strides == (128, 4) and memory.is_readonly and memory.device == 0


def test_a_pointer_with_its_bytes_and_device_is_taken():
    assert lend.external((4096, 64, None))[:7] == (4096, (64,), (1,), 1, _abi.MEMORY_SYSTEM, 0,
                                                   False)
    assert lend.external((4096, 64, "cuda:2")).device == 2
    assert lend.external((4096, 64, 0)).kind == _abi.MEMORY_DEVICE
    assert lend.external((4096, 64, -1)).kind == _abi.MEMORY_SYSTEM
    with pytest.raises(lend.Invalid, match="device"):
        lend.external((4096, 64, "tpu"))


def test_what_has_no_memory_is_refused_with_what_was_tried():
    with pytest.raises(lend.Unsupported, match="a list: buffer"):
        lend.external([1, 2, 3])
