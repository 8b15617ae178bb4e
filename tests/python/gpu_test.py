# SPDX-License-Identifier: Apache-2.0
"""Goal: memory of a GPU that Python has by pointer or by the CUDA array interface is lent,
moved both ways, and stale once it was freed.

Method: a program of its own on a CUDA driver: the fake one of the tests, which is no GPU and proves
nothing of one; and the machine's, where it has a GPU.
"""
import ctypes
import os
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys, lend

cuda = ctypes.CDLL("libcuda.so.1")

def call(name, *arguments):
    result = getattr(cuda, name)(*arguments)
    assert result == 0, (name, result)

call("cuInit", 0)
context, pointer = ctypes.c_void_p(), ctypes.c_uint64()
call("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
call("cuCtxPushCurrent_v2", context)
BYTES, BLOCKS = 1 << 20, 64
call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(BYTES))
filled = bytes(block % 251 for block in range(BLOCKS) for _ in range(BYTES // BLOCKS))
call("cuMemcpyHtoD_v2", pointer, filled, ctypes.c_size_t(BYTES))

class Tensor:
    __cuda_array_interface__ = {"shape": (BLOCKS, BYTES // BLOCKS), "typestr": "|u1", "version": 3,
                                "data": (pointer.value, False)}

with lend.Agent("owner") as owner, lend.Agent("reader") as reader:
    tensor = owner.lend(Tensor(), name="tensor", access="read,write")
    raw = owner.lend((pointer.value, BYTES, "cuda:0"), blocks=BLOCKS, name="raw")
    assert tensor.info.device == 0 and tensor.geometry[:2] == raw.geometry[:2]
    try:
        owner.lend((pointer.value, BYTES, "cuda:1"))
        sys.exit("another device was taken")
    except lend.Error as error:
        print(type(error).__name__, error)
    mine = bytearray(BYTES)
    local, peer = reader.register(mine, blocks=BLOCKS), reader.connect(owner.metadata())
    record = peer.read(raw.grant().ticket, range(BLOCKS), local, range(BLOCKS), remote="raw").wait()
    assert mine == filled and "staged" in record.path, record
    mine[:] = bytes(BYTES)
    behind = raw.grant(stream=0).ticket
    peer.read(behind, range(BLOCKS), local, range(BLOCKS), remote="raw").wait()
    assert mine == filled
    try:
        tensor.grant(stream=0, access="read,write")
        sys.exit("a stream was taken for a write lease")
    except lend.Error as error:
        print(type(error).__name__, error)
    mine[:BYTES // BLOCKS] = b"w" * (BYTES // BLOCKS)
    ticket = tensor.grant(access="read,write").ticket
    peer.write(ticket, [9], local, [0], remote="tensor").wait()
    mine[:] = bytes(BYTES)
    peer.read(ticket, [9], local, [1], remote="tensor").wait()
    size = BYTES // BLOCKS
    assert mine[size:2 * size] == b"w" * size and not any(mine[2 * size:])
    call("cuMemFree_v2", pointer)
    try:
        peer.read(ticket, [9], local, [0], remote="tensor").wait()
        sys.exit("freed memory was read")
    except lend.Stale as error:
        print("Stale", error)
    tensor.withdraw(force=True)
    raw.withdraw(force=True)
    del peer
with lend.Agent("owner") as owner:
    storage = lend.Storage(8192, device=0)
    assert owner.lend(storage, blocks=2).info.device == 0
    pinned = lend.Storage(8192, pinned=True)
    pinned.buffer[:] = bytes(8192)
    owner.lend(pinned.buffer)
print("moved")
"""


def run(**environment):
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True,
                          timeout=120, env=os.environ | environment)
    assert done.returncode == 0 and "moved" in done.stdout, done.stdout + done.stderr


def test_memory_of_a_fake_gpu_is_moved():
    fake = os.environ.get("LEND_TEST_FAKE_CUDA")
    if not fake:
        pytest.skip("this build has no fake CUDA driver")
    run(LD_LIBRARY_PATH=os.path.dirname(fake))


def test_memory_of_a_real_gpu_is_moved():
    try:
        count, cuda = ctypes.c_int(), ctypes.CDLL("libcuda.so.1")
        has_gpu = cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0
    except OSError:
        has_gpu = False
    if not has_gpu or count.value == 0:
        pytest.skip("no GPU with a CUDA driver on this machine")
    run()
