# SPDX-License-Identifier: Apache-2.0
"""Lend a KV cache of NumPy's, wait until a reader has what it wants, and take it back.

    python3 owner.py | python3 reader.py

What the reader must be told goes to the standard output: lend leaves it to the application how such
bytes travel.
"""
import base64
import json
import sys

import numpy

import lend

LAYERS, BLOCKS, TOKENS, HEADS, DIM = 8, 256, 16, 8, 64


def main():
    # The engine's cache: K and V of each layer in one tensor, as many engines have it.
    tensors = {f"layers.{i}": numpy.full((2, BLOCKS, TOKENS, HEADS, DIM), i, "float16")
               for i in range(LAYERS)}
    for tensor in tensors.values():
        tensor[:] += numpy.arange(BLOCKS).reshape(BLOCKS, 1, 1, 1)

    with lend.Agent("engine-0") as agent:
        cache = lend.kv_cache(agent, tensors, kv_axis=0, tags="model=example dtype=float16")
        lease = cache.grant(range(0, BLOCKS, 2), ttl=60)
        told = {name: base64.b64encode(data).decode() for name, data in
                (("metadata", agent.metadata()), ("ticket", lease.ticket))}
        print(json.dumps(told), flush=True)

        note = agent.receive(60)  # the reader notifies us behind its data
        if note is None:
            sys.exit("owner: nobody came")
        print(f"owner: {note.peer} says: {note.data.decode()}", file=sys.stderr)

        lease.revoke()  # now the blocks may be overwritten
        for tensor in tensors.values():
            tensor[:] = 0
        cache.withdraw(5, force=True)  # and now they may be freed
    print(f"owner: {sum(tensor.nbytes for tensor in tensors.values())} bytes are ours again",
          file=sys.stderr)


main()
