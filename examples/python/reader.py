# SPDX-License-Identifier: Apache-2.0
"""Pull scattered blocks of the cache that owner.py lends, and check every number.

    python3 owner.py | python3 reader.py
"""
import base64
import json
import sys

import numpy

import lend

LAYERS, ROOM, TOKENS, HEADS, DIM = 8, 64, 16, 8, 64


def main():
    told = {name: base64.b64decode(text) for name, text in json.loads(input()).items()}
    wanted = numpy.random.default_rng(7).permutation(128)[:32] * 2  # the even ones are lent

    # Our own cache is smaller, and has K and V of all layers in one tensor.
    mine = numpy.zeros((ROOM, LAYERS, 2, TOKENS, HEADS, DIM), "float16")
    with lend.Agent("reader-0") as agent:
        local = lend.kv_cache(agent, mine, layer_axis=1, kv_axis=2, block_axis=0, access=None)
        peer = agent.connect(told["metadata"], tags="model=example dtype=float16")
        places = numpy.arange(len(wanted))
        record = local.read(peer, told["ticket"], wanted, places, notify=b"thank you").wait(60)
        print(f"reader: {record.blocks} blocks, {record.bytes} bytes, by {record.path}")

        try:
            local.read(peer, told["ticket"], [1], [0]).wait(60)
            sys.exit("reader: an odd block is not lent, and came all the same")
        except lend.Error as error:  # OutOfRange; or Revoked, if the owner was faster
            print(f"reader: {type(error).__name__}: {error}")
        del peer

    layers = numpy.arange(LAYERS).reshape(1, LAYERS, 1, 1, 1, 1)
    right = (mine[:len(wanted)] == wanted.reshape(-1, 1, 1, 1, 1, 1) + layers).all()
    print(f"reader: every number is {'right' if right else 'WRONG'}")
    sys.exit(0 if right else 1)


main()
