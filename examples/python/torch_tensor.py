# SPDX-License-Identifier: Apache-2.0
"""Lend a tensor of PyTorch's, of a GPU if there is one, and read it from a second agent.

    python3 torch_tensor.py
"""
import sys

import lend

try:
    import torch
except ImportError:
    print("SKIP: PyTorch is not installed here")
    sys.exit(77)


def main():
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tensor = torch.arange(64 * 16 * 128, device=device).to(torch.bfloat16).reshape(64, 16, 128)
    mine = torch.zeros_like(tensor, device="cpu")
    with lend.Agent("owner") as owner, lend.Agent("reader") as reader:
        region = owner.lend(tensor, name="kv")
        peer, local = reader.connect(owner.metadata()), reader.register(mine, name="kv")
        record = peer.read(region.grant().ticket, torch.tensor([7, 3]), local, [0, 1]).wait(60)
        print(f"{record.bytes} bytes of {device} memory, by {record.path}")
        region.withdraw(force=True)
        del peer
    if not torch.equal(mine[:2], tensor[[7, 3]].cpu()):
        sys.exit("wrong numbers")


main()
