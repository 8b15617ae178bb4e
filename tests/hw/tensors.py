# SPDX-License-Identifier: Apache-2.0
"""Goal: tensors that a framework has on a GPU are lent from where they lie, are read by another
process byte for byte, and can be freed as soon as they are withdrawn.

Method: PyTorch, in an owner and in a reader of its own, on GPU 0: a plain tensor, a view inside a
larger one, one in expandable segments (a process of their own, whose allocator is told so by the
environment), and one in pinned memory of the host. Each is lent, read in descending order into
memory that PyTorch has at the reader, compared, withdrawn and freed; the allocator must get all of
it back, and then the old ticket gets nothing. Prints a row for each.

With --stand-in memory of the CUDA driver's own takes the place of tensors. That shows that this
program works where a fake driver is all there is, and nothing of PyTorch; its rows say so.

Use: tensors.py [--stand-in]
"""
import ctypes
import gc
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time

import lend

BLOCKS, BLOCK_BYTES = 256, 65536
EXPANDABLE = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
              "PYTORCH_ALLOC_CONF": "expandable_segments:True"}
EXPANDABLE_NAME = "expandable segments" # which may be refused by local/cuda, if that says why
TAKEN_BACK = (lend.Revoked, lend.Stale)
failures = 0


def tell(name, is_good, figure):
    global failures
    failures += not is_good
    print(f"| {name} | {'passed' if is_good else 'FAILED'} | {figure} |", flush=True)


class Torch:
    """PyTorch's tensors, of 64 MiB or less."""

    def __init__(self):
        import torch
        self.torch = torch
        self.name = f"PyTorch {torch.__version__}"

    def make(self, parts, is_pinned=False):
        """The middle one of so many parts of one tensor, each of our blocks."""
        torch = self.torch
        whole = torch.randint(0, 256, (parts, BLOCKS, BLOCK_BYTES), dtype=torch.uint8,
                              device="cpu" if is_pinned else "cuda")
        whole = whole.pin_memory() if is_pinned else whole
        torch.cuda.synchronize()
        return whole.view(torch.bfloat16)[parts // 2]

    @staticmethod
    def bytes_of(tensor):
        host = tensor.cpu()
        return ctypes.string_at(host.data_ptr(), host.numel() * host.element_size())

    def held(self):
        """What the driver has given for tensors, after all that is free has gone back to it."""
        gc.collect()
        self.torch.cuda.synchronize()
        self.torch.cuda.empty_cache()
        return self.torch.cuda.memory_reserved()


class StandIn:
    """Memory of the driver's, with the CUDA array interface or as a buffer. No tensors."""

    name = "stand-in for PyTorch"

    class Memory:
        def __init__(self, call, address, parts):
            self.call, self.base, self.size = call, address, BLOCKS * BLOCK_BYTES
            self.address = address + parts // 2 * self.size
            self.__cuda_array_interface__ = {"shape": (BLOCKS, BLOCK_BYTES), "typestr": "|u1",
                                             "data": (self.address, False), "version": 3}

        def __del__(self):
            self.call("cuMemFree_v2", ctypes.c_uint64(self.base), bytes=0)

    def __init__(self):
        self.cuda, self.bytes, context = ctypes.CDLL("libcuda.so.1"), 0, ctypes.c_void_p()
        self.call("cuInit", 0)
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
        self.call("cuCtxSetCurrent", context)
        self.pinned = []

    def call(self, function, *arguments, bytes=None):
        result = getattr(self.cuda, function)(*arguments)
        if result != 0:
            raise RuntimeError(f"{function}: CUDA error {result}")
        self.bytes = self.bytes if bytes is None else bytes

    def make(self, parts, is_pinned=False):
        size, filled = BLOCKS * BLOCK_BYTES, os.urandom(BLOCKS * BLOCK_BYTES)
        if is_pinned:
            pointer = ctypes.c_void_p()
            self.call("cuMemHostAlloc", ctypes.byref(pointer), ctypes.c_size_t(size), 0)
            buffer = (ctypes.c_uint8 * size).from_address(pointer.value)
            buffer[:] = filled
            return memoryview(buffer).cast("B", (BLOCKS, BLOCK_BYTES))
        pointer = ctypes.c_uint64()
        self.call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(parts * size),
                  bytes=parts * size)
        memory = self.Memory(self.call, pointer.value, parts)
        self.call("cuMemcpyHtoD_v2", ctypes.c_uint64(memory.address), filled, ctypes.c_size_t(size))
        self.call("cuCtxSynchronize")
        return memory

    def bytes_of(self, thing):
        if isinstance(thing, memoryview):
            return bytes(thing)
        room = ctypes.create_string_buffer(thing.size)
        self.call("cuMemcpyDtoH_v2", room, ctypes.c_uint64(thing.address),
                  ctypes.c_size_t(thing.size))
        return room.raw

    def held(self):
        gc.collect()
        return self.bytes


def backwards(data):
    """The digest of its blocks, the last one first."""
    digest = hashlib.sha256()
    for block in reversed(range(BLOCKS)):
        digest.update(data[block * BLOCK_BYTES:(block + 1) * BLOCK_BYTES])
    return digest.hexdigest()


# The reader: an order a line on standard input, an answer a line on standard output.

def obey(agent, framework, order):
    tensor = framework.make(1, order["is_pinned"])
    local = agent.register(tensor)
    peer = agent.connect(bytes.fromhex(order["metadata"]))
    start = time.monotonic_ns()
    try:
        record = peer.read(bytes.fromhex(order["ticket"]), range(BLOCKS - 1, -1, -1), local,
                           range(BLOCKS), remote="tensor", paths=order["path"]).wait(30)
        return {"status": "LEND_OK", "path": record.path, "ns": time.monotonic_ns() - start,
                "digest": hashlib.sha256(framework.bytes_of(tensor)).hexdigest()}
    except lend.Error as error:
        return {"status": type(error).__name__, "why": str(error)}
    finally:
        local.withdraw(force=True)
        peer.forget()


def read_on_order(framework, folder):
    with lend.Agent("reader", local_directory=folder) as agent:
        for line in sys.stdin:
            print(json.dumps(obey(agent, framework, json.loads(line))), flush=True)


class Reader:
    def __init__(self, options, folder):
        self.process = subprocess.Popen(
            [sys.executable, __file__, *options, "reader", folder], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True)

    def ask(self, **order):
        print(json.dumps(order), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the reader's process has ended")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


# The owner.

def lend_once(agent, framework, reader, parts, is_pinned, path):
    """Lend, let it be read, withdraw; what was read, the old ticket, and when."""
    tensor = framework.make(parts, is_pinned)
    wanted = backwards(framework.bytes_of(tensor))
    flags = lend.REGION_SHARE_DEVICE if path == "local/cuda" else 0
    region = agent.lend(tensor, name="tensor", flags=flags)
    order = {"metadata": agent.metadata().hex(), "ticket": region.grant().ticket.hex(),
             "path": path, "is_pinned": is_pinned}
    answer = reader.ask(**order)
    region.withdraw(force=True)
    if answer["status"] != "LEND_OK":
        raise RuntimeError(f"{answer['status']}: {answer['why']}")
    if answer["digest"] != wanted:
        raise RuntimeError("wrong bytes")
    if path is not None and answer["path"] != path:
        raise RuntimeError(f"it went by {answer['path']}")
    return answer, order


def check(agent, framework, reader, what, parts, is_pinned=False, path=None):
    name = f"{framework.name}, {what}" + (f", {path}" if path else "")
    try:
        before = framework.held()
        answer, order = lend_once(agent, framework, reader, parts, is_pinned, path)
        after = framework.held()
        late = reader.ask(**order)["status"]
        is_good = after == before and late in (kind.__name__ for kind in TAKEN_BACK)
        missing = "" if is_pinned else f", {after - before} bytes are missing"
        tell(name, is_good, f"{BLOCKS * BLOCK_BYTES / answer['ns']:.2f} GB/s by {answer['path']}; "
             f"freed after the withdraw{missing}; then {late}")
    except (lend.Error, RuntimeError, OSError) as error:
        is_refused = what == EXPANDABLE_NAME and isinstance(error, lend.Unsupported)
        told = f"{type(error).__name__}: {error}".replace("\n", " ").replace("|", "/")
        tell(name, is_refused, f"refused: {told}" if is_refused else told)


def lend_tensors(framework, options, checks):
    framework.make(1) # what the framework has for itself is not ours to count
    with tempfile.TemporaryDirectory(prefix="lend-hw-") as folder:
        reader = Reader(options, folder)
        with lend.Agent("owner", local_directory=folder) as agent:
            for arguments in checks:
                check(agent, framework, reader, *arguments)
        reader.close()


def lend_expandable(options):
    """The allocator of the process is of one kind."""
    done = subprocess.run([sys.executable, __file__, *options, "expandable"],
                          env=os.environ | EXPANDABLE)
    if done.returncode not in (0, 1):
        tell(EXPANDABLE_NAME, False, f"the owner's process ended with {done.returncode}")
    return done.returncode


def main(arguments):
    options = [word for word in arguments if word.startswith("--")]
    words = [word for word in arguments if not word.startswith("--")]
    framework = StandIn() if "--stand-in" in options else Torch()
    if words and words[0] == "reader":
        return read_on_order(framework, words[1])
    if words == ["expandable"]:
        lend_tensors(framework, options, [(EXPANDABLE_NAME, 4, False, "local/staged"),
                                          (EXPANDABLE_NAME, 4, False, "local/cuda")])
        return failures > 0
    lend_tensors(framework, options, [
        ("plain tensor", 1, False, "local/cuda"), ("plain tensor", 1, False, "local/staged"),
        ("view inside a larger tensor", 3, False, "local/cuda"),
        ("view inside a larger tensor", 3, False, "local/staged"),
        ("pinned tensor", 1, True)])
    if "--stand-in" in options: # the driver's own memory has no segments that expand
        return failures > 0
    return failures > 0 or lend_expandable(options) != 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
