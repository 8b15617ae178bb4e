# SPDX-License-Identifier: Apache-2.0
"""Lend memory that you own to other processes, move blocks of it, and take it back safely.

    import lend, numpy

    cache = numpy.zeros((64, 16, 8, 128), "float16")           # blocks, tokens, heads, numbers
    agent = lend.Agent("engine-0")
    region = agent.lend(cache, name="layers.0.k")
    lease = region.grant(range(8), ttl=30)
    send_somehow(agent.metadata(), lease.ticket)

and elsewhere, in another process or on another machine:

    mine = numpy.zeros_like(cache)
    agent = lend.Agent("reader-0")
    peer = agent.connect(metadata)
    local = agent.register(mine, name="layers.0.k")
    record = peer.read(ticket, [3, 1, 4], local, [0, 1, 2]).wait()      # or: await peer.read(...)

The owner takes the blocks back with ``lease.revoke()``, and the memory with ``region.withdraw()``.
Every failure is a :class:`lend.Error` of a class of its own, with the library's message.
"""
from ._abi import (REGION_ALLOW_OVERLAP, REGION_ALLOW_UNFENCED, REGION_PREFER_CROSS_MEMORY,
                   REGION_SHARE_DEVICE)
from ._agent import (Agent, Lease, LeaseInfo, Notification, Region, RegionInfo, Storage, Wanted)
from ._cache import KvCache, kv_cache
from ._errors import (AccessDenied, Absent, BadMemory, Busy, Canceled, Consumed, Corrupt, Device,
                      Error, Expired, Forked, Invalid, Limit, Mismatch, NoMemory, NoPath,
                      OutOfRange, Overlap, PeerDead, Revoked, Stale, System, Timeout, Unknown,
                      Unsupported, Version)
from ._geometry import Geometry
from ._library import __version__
from ._memory import External, external
from ._peer import Path, Peer, PeerInfo, Record, Ticket, Transfer

__all__ = [
    "__version__", "Absent", "AccessDenied", "Agent", "BadMemory", "Busy", "Canceled",
    "Consumed", "Corrupt", "Device", "Error", "Expired", "external", "External", "Forked",
    "Geometry", "Invalid", "kv_cache", "KvCache", "Lease", "LeaseInfo", "Limit", "Mismatch",
    "NoMemory", "NoPath", "Notification", "OutOfRange", "Overlap", "Path", "Peer", "PeerDead",
    "PeerInfo", "Record", "Region", "REGION_ALLOW_OVERLAP", "REGION_ALLOW_UNFENCED",
    "REGION_PREFER_CROSS_MEMORY", "REGION_SHARE_DEVICE", "RegionInfo", "Revoked", "Stale",
    "Storage", "System", "Ticket", "Timeout", "Transfer", "Unknown", "Unsupported", "Version",
    "Wanted",
]
