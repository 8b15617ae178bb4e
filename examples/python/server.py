# SPDX-License-Identifier: Apache-2.0
"""A server and clients with asyncio: who asks by a UNIX socket is lent the blocks that he asks for.

    python3 server.py           runs a server and four clients, each in a process of its own

A lease is for its client alone, ends when he says done, or dies, and nothing here sleeps or polls.
"""
import asyncio
import base64
import json
import os
import sys
import tempfile

import lend

BLOCKS, BLOCK_BYTES, CLIENTS = 1024, 16384, 4


async def serve(path, ready, ended):
    tensor = bytearray(BLOCKS * BLOCK_BYTES)
    for block in range(BLOCKS):
        tensor[block * BLOCK_BYTES:(block + 1) * BLOCK_BYTES] = bytes([block % 251]) * BLOCK_BYTES
    agent = lend.Agent("server")
    region = agent.lend(tensor, blocks=BLOCKS, name="tensor")
    served = 0

    async def meet(reader, writer):
        asked = json.loads(await reader.readline())
        client = agent.peer(base64.b64decode(asked["metadata"]))
        with region.grant(asked["blocks"], to=client, ttl=30, consumers=1) as lease:
            answer = {"metadata": base64.b64encode(agent.metadata()).decode(),
                      "ticket": base64.b64encode(lease.ticket).decode()}
            writer.write(json.dumps(answer).encode() + b"\n")
            await reader.read()  # until the client hangs up
        writer.close()

    async with await asyncio.start_unix_server(meet, path):
        ready.set()
        while served < CLIENTS:
            note = await agent.receive_async()
            served += 1
            print(f"server: {note.peer} has {note.data.decode()}")
    await ended.wait()
    region.withdraw(10, force=True)
    agent.close()


async def fetch(path, number):
    wanted = list(range(number, BLOCKS, 7 * CLIENTS))
    agent = lend.Agent(f"client-{number}")
    mine = bytearray(len(wanted) * BLOCK_BYTES)
    local = agent.register(mine, blocks=len(wanted))
    reader, writer = await asyncio.open_unix_connection(path)
    asked = {"metadata": base64.b64encode(agent.metadata()).decode(), "blocks": wanted}
    writer.write(json.dumps(asked).encode() + b"\n")
    told = {name: base64.b64decode(text)
            for name, text in json.loads(await reader.readline()).items()}
    peer = agent.peer(told["metadata"])
    ticket = peer.ticket(told["ticket"])
    record = await peer.read(ticket, wanted, local, range(len(wanted)), remote="tensor",
                             notify=f"{len(wanted)} blocks".encode())
    ticket.done()
    right = all(mine[place * BLOCK_BYTES] == block % 251 == mine[(place + 1) * BLOCK_BYTES - 1]
                for place, block in enumerate(wanted))
    writer.close()
    if not right or record.bytes != len(mine):
        sys.exit(f"client {number}: wrong bytes")


async def main():
    if len(sys.argv) > 1:
        await fetch(sys.argv[1], int(sys.argv[2]))
        return
    with tempfile.TemporaryDirectory(prefix="lend-example-") as folder:
        path, ready, ended = os.path.join(folder, "socket"), asyncio.Event(), asyncio.Event()
        server = asyncio.ensure_future(serve(path, ready, ended))
        await ready.wait()
        clients = [await asyncio.create_subprocess_exec(sys.executable, __file__, path, str(number))
                   for number in range(CLIENTS)]
        codes = [await client.wait() for client in clients]
        ended.set()
        if any(codes):
            server.cancel()
            sys.exit(f"clients ended with {codes}")
        await server
        print(f"{CLIENTS} clients were served")


asyncio.run(main())
