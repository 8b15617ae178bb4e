# SPDX-License-Identifier: Apache-2.0
"""The lender's side: agents, regions, leases, storage."""
from __future__ import annotations

import ctypes
import logging
import weakref
from ctypes import byref, c_void_p
from typing import (TYPE_CHECKING, Any, Callable, Iterable, List, NamedTuple, Optional, Sequence,
                    Tuple, Union)

from . import _abi, _errors
from ._core import Core, nanoseconds, text
from ._geometry import Geometry, geometry_of
from ._library import lib, plugin
from ._memory import External, Numbers, external

if TYPE_CHECKING:
    from ._peer import Peer

_LEVELS = {1: logging.ERROR, 2: logging.WARNING, 3: logging.INFO, 4: logging.DEBUG}
_ACCESS = {"": 0, "read": _abi.ACCESS_READ, "write": _abi.ACCESS_WRITE,
           "read,write": _abi.ACCESS_READ | _abi.ACCESS_WRITE,
           "write,read": _abi.ACCESS_READ | _abi.ACCESS_WRITE}
_DMA_BUF = {None: 0, "default": _abi.AGENT_DMA_BUF_DEFAULT, "pcie": _abi.AGENT_DMA_BUF_PCIE}
_TIMES = ("connect_timeout", "transfer_timeout", "slot_rest", "spin")
_LIMITS = ("regions_max", "leases_max", "peers_max", "transfers_max", "requests_per_peer_max",
           "leases_per_peer_max", "notification_window_bytes", "local_ring_bytes",
           "bytes_per_peer_max")
_TEXTS = ("transports", "transports_required", "local_directory", "listen", "advertise",
          "ucx_devices", "ucx_transports", "ucx_library", "nixl_devices", "nixl_transports",
          "nixl_library", "verbs_devices", "secret_plugin")
_NUMBERS = ("local_mode", "local_is_abstract", "verbs_queue_pairs")

Blocks = Union[None, int, range, slice, Sequence[int], Any]


def access_bits(access: Union[str, int, None]) -> int:
    if access is None:
        return 0
    if isinstance(access, int):
        return access
    bits = _ACCESS.get(access.replace(" ", ""))
    if bits is None:
        raise _errors.invalid(f"access {access!r}: \"read\", \"write\" or \"read,write\"")
    return bits


class Notification(NamedTuple):
    """Bytes that a peer's application sent."""

    peer: str
    incarnation: bytes
    data: bytes


class RegionInfo(NamedTuple):
    """What is known of a region, our own or a peer's."""

    name: str
    id: int
    access: str
    geometry: Geometry
    address: int
    length_bytes: int
    device: Optional[int]  # the ordinal of a GPU; None: memory of the host
    tags: str
    is_withdrawn: bool
    is_suspended: bool
    life: int

    @classmethod
    def _of(cls, info: _abi.RegionInfo) -> "RegionInfo":
        names = [name for bit, name in ((1, "read"), (2, "write")) if info.access & bit]
        geometry, memory = info.geometry, info.memory
        return cls(info.name.decode(), info.id, ",".join(names),
                   Geometry(geometry.block_length_bytes, geometry.count, geometry.stride_bytes,
                            geometry.inner_stride_bytes, geometry.inner_count),
                   memory.address, memory.length_bytes,
                   memory.device if memory.kind == _abi.MEMORY_DEVICE else None,
                   info.tags.decode(), bool(info.is_withdrawn), bool(info.is_suspended), info.life)


class LeaseInfo(NamedTuple):
    """A lease, seen from its owner. Times are of CLOCK_BOOTTIME, in nanoseconds."""

    id: int
    status: str  # "LEND_OK" while it lives, else why it ended
    access: int
    consumers: int
    consumers_done: int
    region_count: int
    block_count: int
    granted_ns: int
    expires_ns: int
    ended_ns: int
    requests: int
    bytes: int
    peer: str
    last_user: str
    user_data: int

    @classmethod
    def _of(cls, info: _abi.LeaseInfo) -> "LeaseInfo":
        return cls(info.id, lib.lend_status_name(info.status).decode(), info.access,
                   info.consumer_count, info.consumers_done, info.region_count, info.block_count,
                   info.granted_ns, info.expires_ns, info.ended_ns, info.requests, info.bytes,
                   info.peer.decode(), info.last_user.decode(), info.user_data)


class Lease:
    """What one peer, or any bearer of the ticket, may do with which blocks until when.

    Dropping the object ends nothing; :meth:`revoke`, the time to live, or the last consumer does.
    As a context manager it is revoked at the end.
    """

    def __init__(self, core: Core, handle: Optional[int]):
        self._core, self._handle = core, handle

    def __del__(self):
        self._core.give_back(lib.lend_lease_release, self._handle)

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *_) -> None:
        if not self._core.closed:
            self.revoke()

    @property
    def ticket(self) -> bytes:
        """The bytes (at most 256) to send to the reader with its request."""
        room = ctypes.create_string_buffer(_abi.TICKET_BYTES_MAX)
        count = _abi.c_size_t()
        self._core.call(lib.lend_ticket_export, self._handle, room, len(room), byref(count))
        return room.raw[:count.value]

    @property
    def info(self) -> LeaseInfo:
        """How it stands, and who used it."""
        info = _abi.LeaseInfo()
        self._core.call(lib.lend_lease_describe, self._handle, byref(info))
        return LeaseInfo._of(info)

    def renew(self, ttl: float) -> None:
        """Let it live for ttl seconds from now. Raises what ended it, if it has ended."""
        self._core.call(lib.lend_lease_renew, self._handle, nanoseconds(ttl))

    def revoke(self) -> None:
        """Take the blocks back: they may be overwritten when this returns.

        No write under the lease lands any more, and no read under it that was not complete reports
        success. It waits for no reader. The memory may be freed after :meth:`Region.withdraw`.
        """
        self._core.call(lib.lend_lease_revoke, self._handle)


class Region:
    """Memory made known to an agent, addressed in blocks by number.

    The agent keeps what owns the memory alive until :meth:`withdraw` or :meth:`close` has returned,
    or the agent is closed, whether or not anybody keeps this object or the tensor.
    """

    def __init__(self, agent: "Agent", handle: Optional[int], name: Optional[str],
                 geometry: Geometry, is_readonly: bool):
        self._agent, self._core, self._handle = agent, agent._core, handle
        self.name = name
        self.geometry = geometry
        self._has_owner = False  # while it is suspended: its memory was somebody's
        self.is_readonly = is_readonly  # no read goes there, though the kernel would allow it
        self.id = self._core.plain(lib.lend_region_id, handle)

    def __repr__(self) -> str:
        return (f"<lend.Region {self.name or self.id}: {self.geometry.count} blocks of "
                f"{self.geometry.selected_bytes} bytes>")

    def __enter__(self) -> "Region":
        return self

    def __exit__(self, *_) -> None:
        if self._handle is not None and not self._core.closed:
            self.withdraw(force=True)

    @property
    def info(self) -> RegionInfo:
        """What the agent knows of it."""
        info = _abi.RegionInfo()
        self._core.call(lib.lend_region_describe, self._handle, byref(info))
        return RegionInfo._of(info)

    def grant(self, blocks: Blocks = None, *, access: Union[str, int] = "read",
              to: Optional["Peer"] = None,
              ttl: Optional[float] = 30.0, consumers: int = 0, user_data: int = 0,
              stream: Optional[int] = None) -> Lease:
        """Lend blocks of this region; see :meth:`Agent.grant`.

        >>> with Agent("engine-2", transports="loopback") as agent:
        ...     region = agent.lend(bytearray(65536), blocks=16)
        ...     region.grant([3, 1, 4], ttl=5).info.block_count
        3
        """
        return self._agent.grant([self], blocks, access=access, to=to, ttl=ttl,
                                 consumers=consumers, user_data=user_data, stream=stream)

    def revoke_blocks(self, blocks: Blocks) -> int:
        """End every lease that touches one of these blocks, and tell how many those were."""
        return self._agent.revoke_blocks([self], blocks)

    def withdraw(self, timeout: float = 5.0, *, force: bool = False) -> None:
        """End all access, give the region back, and let go of the memory.

        When this has returned no peer reaches the memory, and no transfer of ours touches it: it
        may be freed, and this object is of no more use.

        Args:
            timeout: how long to wait, in seconds.
            force: end the leases on it first, as revoked; else wait for them to end by themselves.

        Raises:
            Busy: the time is over; the message names a holder. The region stays withdrawn, nothing
                new begins on it, and the memory must stay. Call again, or with force.

        >>> import lend
        >>> with Agent("engine-3", transports="loopback") as agent:
        ...     buffer = bytearray(4096)
        ...     region = agent.lend(buffer)
        ...     lease = region.grant()
        ...     try:
        ...         region.withdraw(0)
        ...     except lend.Busy:
        ...         region.withdraw(force=True)
        ...     lease.info.status, buffer.extend(b"ours again")
        ('LEND_E_REVOKED', None)
        """
        mode = _abi.WITHDRAW_FORCE if force else _abi.WITHDRAW_DRAIN
        self._end(lib.lend_region_withdraw, mode, timeout)
        self.close()

    def suspend(self, timeout: float = 5.0, *, force: bool = False) -> None:
        """As :meth:`withdraw`, for a while: id, name and geometry stay, and the owner may move or
        free the memory; :meth:`resume` lends it again."""
        mode = _abi.WITHDRAW_FORCE if force else _abi.WITHDRAW_DRAIN
        self._end(lib.lend_region_suspend, mode, timeout)
        owner = self._core.holders.pop(self._handle, None)
        self._has_owner = self._has_owner or bool(owner and owner[0] is not None)

    def _end(self, function, mode: int, timeout: float) -> None:
        reason: List[Optional[_errors.Busy]] = [None]

        def look(wait_ns):
            try:
                self._core.call(function, self._handle, mode, wait_ns)
                return True
            except _errors.Busy as error:
                reason[0] = error
                return None

        if not self._core.in_slices(nanoseconds(timeout), look):
            raise reason[0] or _errors.Busy("somebody still uses the region")

    def resume(self, thing: Any = None) -> None:
        """Lend a suspended region again, as a newer life of it.

        Args:
            thing: memory of the same length and layout; None: where it was, which only those can
                say who lent a pointer: of all else :meth:`suspend` has let go.
        """
        memory, owner = None, None
        if thing is not None:
            found = external(thing)
            memory = _described(found, geometry_of(found, self.geometry, None)[0])
            owner = (found.owner, None)
        elif self._has_owner:
            raise _errors.invalid("the memory was let go of: say which it is now")
        self._core.call(lib.lend_region_resume, self._handle, byref(memory) if memory else None,
                        -1, 0)
        if owner is not None:
            self._core.holders[self._handle] = owner
            self._has_owner = owner[0] is not None

    def close(self) -> None:
        """Give the region back, and let go of the memory. Raises Busy while anybody uses it."""
        if self._handle is None:
            return
        self._core.call(lib.lend_region_deregister, self._handle)
        handle, self._handle = self._handle, None
        self._core.holders.pop(handle, None)


class Storage:
    """Memory that lend allocates: zeroed, of whole pages, fastest to be read on the same host.

    ``storage.buffer`` is a writable memoryview of it, for ``numpy.frombuffer`` and its like. Lend a
    part of it with ``agent.lend(array, share=storage)``: peers on this host may then map the file
    behind it, the whole of it, for reading. It is freed when nobody has the buffer any more.

    With ``pinned=True`` the CUDA driver allocates host memory that is locked for every GPU, and
    with ``device=N`` memory of a GPU, which has no buffer: lend the storage itself.
    ``storage.note`` is a line that says what it was made of, and why of nothing better.

    >>> storage = Storage(4096)
    >>> storage.buffer.nbytes
    4096
    """

    def __init__(self, length_bytes: int, *, huge_pages: bool = False,
                 numa_node: Optional[int] = None, name: Optional[str] = None,
                 pinned: bool = False, device: Optional[int] = None):
        desc, handle, error = _abi.StorageDesc(), c_void_p(), _abi.Error()
        desc.length_bytes, desc.name = length_bytes, text(name)
        if huge_pages:
            desc.flags |= _abi.STORAGE_HUGE_PAGES
        if numa_node is not None:
            desc.flags |= _abi.STORAGE_ON_NODE
            desc.numa_node = numa_node
        if pinned or device is not None:
            desc.kind = _abi.MEMORY_PINNED if device is None else _abi.MEMORY_DEVICE
            desc.device = device or 0
        self.device = device
        status = lib.lend_storage_create(byref(desc), byref(handle), byref(error))
        if status < 0:
            raise _errors.made(status, error)
        self._handle = handle.value
        self.address: int = lib.lend_storage_address(handle)
        self.length_bytes: int = lib.lend_storage_length_bytes(handle)
        self.note: str = lib.lend_storage_note(handle).decode()
        if device is not None:
            self._bytes = None
            weakref.finalize(self, lib.lend_storage_destroy, self._handle).atexit = False
            self.__cuda_array_interface__ = {"shape": (self.length_bytes,), "typestr": "|u1",
                                             "data": (self.address, False), "version": 3}
            return
        bytes_there = (ctypes.c_char * self.length_bytes).from_address(self.address)
        # Whoever has a view of it has this object of ctypes, and that ends the storage.
        weakref.finalize(bytes_there, lib.lend_storage_destroy, self._handle).atexit = False
        self._bytes = bytes_there

    @property
    def buffer(self) -> memoryview:
        """All of it, as bytes."""
        if self._bytes is None:
            raise _errors.Unsupported("memory of a GPU has no buffer: lend the storage itself")
        return memoryview(self._bytes).cast("B")

    def _describe(self, found: External, span: int, desc: _abi.RegionDesc) -> None:
        error = _abi.Error()
        offset = found.address - self.address
        if offset < 0:
            raise _errors.invalid("the memory is not in this storage")
        status = lib.lend_storage_describe(self._handle, offset, span, byref(desc), byref(error))
        if status < 0:
            raise _errors.made(status, error)


def _described(found: External, span: int) -> _abi.Memory:
    memory, error = _abi.Memory(), _abi.Error()
    if found.kind == _abi.MEMORY_DEVICE:
        status = lib.lend_memory_device(found.address, span, found.device, byref(memory),
                                        byref(error))
    else:
        describe = (lib.lend_memory_pinned if found.kind == _abi.MEMORY_PINNED
                    else lib.lend_memory_system)
        status = describe(found.address, span, byref(memory), byref(error))
    if status < 0:
        raise _errors.made(status, error)
    return memory


class Wanted(NamedTuple):
    """One region to register, of several in one call."""

    thing: Any
    name: Optional[str] = None
    blocks: Union[int, Geometry, None] = None
    block_axis: Optional[int] = None
    access: Union[str, int, None] = "read"
    tags: Optional[str] = None
    share: Optional[Storage] = None
    flags: int = 0


class Agent:
    """An endpoint that lends memory and moves blocks. One in a process is usual.

    Args:
        name: 1 to 63 printable bytes, which its user chooses.
        transports, transports_required: names with commas between, such as ``"local,tcp"``.
        listen, advertise: where transport tcp listens: ``"ADDRESS:PORT"``, numeric.
        local_directory, local_mode, local_is_abstract: of the socket of transport local.
        secret, secret_plugin: 16 to 64 bytes that this agent shares with its peers.
        ucx_devices, nixl_devices, verbs_devices and their like: see the C header agent.h.
        manual_progress: no thread: progress is made in :meth:`progress` and in calls that wait.
        statistics: False: no statistics page.
        allow_cross_memory, seal_networks, never_forks: see LEND_AGENT_ALLOW_CROSS_MEMORY, ...
        dma_buf: how memory of GPUs is exported to NICs, "default" or "pcie"; None: as is found
            to work.
        on_log: called as ``on_log(level, text)`` with a level of :mod:`logging`; True: the logger
            ``lend``. None: silence.
        on_lease_end: called once for each lease that ended, with a :class:`LeaseInfo`.
        limits: regions_max, leases_max, peers_max, transfers_max, requests_per_peer_max,
            leases_per_peer_max, notification_window_bytes, local_ring_bytes, bytes_per_peer_max;
            and in seconds connect_timeout, transfer_timeout, slot_rest, spin.

    All methods may be called from any thread. After a fork the child's copy raises
    :class:`lend.Forked`. At the end of the interpreter agents are closed by themselves.

    >>> with Agent("engine-0", transports="loopback") as agent:
    ...     region = agent.lend(bytearray(65536), blocks=16, name="layers.0.k")
    ...     with region.grant(range(4), ttl=30) as lease:
    ...         ticket = lease.ticket
    ...     region.withdraw()
    >>> len(ticket) <= 256
    True
    """

    def __init__(self, name: str, *, secret: Optional[bytes] = None, manual_progress: bool = False,
                 statistics: bool = True, allow_cross_memory: bool = False,
                 seal_networks: bool = False, never_forks: bool = False,
                 dma_buf: Optional[str] = None,
                 on_log: Union[None, bool, Callable] = None,
                 on_lease_end: Optional[Callable[[LeaseInfo], None]] = None, **settings):
        config = _abi.AgentConfig()
        config.name = text(name)
        if dma_buf not in _DMA_BUF:
            raise _errors.invalid(f"dma_buf {dma_buf!r}: \"default\", \"pcie\" or None")
        config.flags = (manual_progress * _abi.AGENT_MANUAL_PROGRESS
                        | (not statistics) * _abi.AGENT_NO_STATISTICS
                        | allow_cross_memory * _abi.AGENT_ALLOW_CROSS_MEMORY
                        | seal_networks * _abi.AGENT_SEAL_NETWORKS
                        | never_forks * _abi.AGENT_NEVER_FORKS | _DMA_BUF[dma_buf])
        if secret is not None:
            config.secret, config.secret_bytes = bytes(secret), len(secret)
        config.secret_plugin = text(plugin("lend-secret.so"))
        for key, value in settings.items():
            if key in _TEXTS:
                setattr(config, key, text(value))
            elif key in _LIMITS or key in _NUMBERS:
                setattr(config, key, value)
            elif key in _TIMES:
                setattr(config, f"{key}_ns", nanoseconds(value))
            else:
                raise TypeError(f"Agent() has no argument {key!r}")
        keep = []
        if on_log:
            log = logging.getLogger("lend").log if on_log is True else on_log
            config.on_log = _abi.ON_LOG(lambda _, level, words: log(
                _LEVELS.get(level, logging.DEBUG), words.decode(errors="replace")))
            keep.append(config.on_log)
        if on_lease_end:
            config.on_lease_end = _abi.ON_LEASE_END(
                lambda _, info: on_lease_end(LeaseInfo._of(info.contents)))
            keep.append(config.on_lease_end)
        self._core = Core(config, keep)
        self.name = name

    def __repr__(self) -> str:
        return f"<lend.Agent {self.name}{' (closed)' if self._core.closed else ''}>"

    def __enter__(self) -> "Agent":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __del__(self):
        if hasattr(self, "_core"):
            self._core.close()

    def close(self) -> None:
        """End the agent: leases are revoked, transfers end as canceled, and memory is let go of.

        Waits for calls of other threads that are under way. Not from a callback. Closing twice is
        no error.
        """
        self._core.close()

    @property
    def incarnation(self) -> bytes:
        """16 bytes that no other agent has had or will have."""
        room = (ctypes.c_uint8 * _abi.INCARNATION_BYTES)()
        self._core.plain(lib.lend_agent_incarnation, self._core.handle, room)
        return bytes(room)

    # Lending

    def lend(self, thing: Any, *, name: Optional[str] = None,
             blocks: Union[int, Geometry, None] = None, block_axis: Optional[int] = None,
             access: Union[str, int, None] = "read", tags: Optional[str] = None,
             share: Optional[Storage] = None, flags: int = 0) -> Region:
        """Lend a tensor or a buffer. The memory stays its owner's, and is verified here.

        Args:
            thing: what has DLPack, the CUDA array interface, the buffer protocol (NumPy, bytearray,
                mmap, shared memory), or ``(pointer, bytes, device)`` with None, ``"cpu"``, the
                ordinal of a GPU or ``"cuda:N"`` for a device. Of any data type.
            name: for peers to find it by.
            blocks: a number of equal blocks, or a :class:`Geometry` in bytes.
            block_axis: the dimension that numbers the blocks. Usual: 0 where there are two or more
                dimensions, else the whole is one block.
            access: what may be granted to peers: ``"read"``, ``"write"``, ``"read,write"``.
            tags: pairs ``key=value`` with spaces between, which peers may ask for.
            share: the :class:`Storage` that the memory is of, whose file peers may then map.
            flags: of lend_region_flag.

        Raises:
            Invalid: the tensor does not divide so; the dimension is named. Or memory that is
                read-only is to be written to.
            BadMemory: it is not mapped, or of another device; with the first bad address.
            Overlap: the range overlaps another region in part.
        """
        return self.lend_all([Wanted(thing, name, blocks, block_axis, access, tags, share,
                                     flags)])[0]

    def register(self, thing: Any, *, name: Optional[str] = None,
                 blocks: Union[int, Geometry, None] = None,
                 block_axis: Optional[int] = None) -> Region:
        """Make memory of ours known for our own transfers, as :meth:`lend`; peers get nothing."""
        return self.lend(thing, name=name, blocks=blocks, block_axis=block_axis, access=None)

    def lend_all(self, wanted: Iterable[Wanted]) -> List[Region]:
        """Lend several, all or none, with one look at the kernel's list of mappings."""
        wanted = list(wanted)
        descs = (_abi.RegionDesc * max(len(wanted), 1))()
        handles = (c_void_p * max(len(wanted), 1))()
        filled = [self._fill(desc, one) for desc, one in zip(descs, wanted)]
        core = self._core
        core.call(lib.lend_region_register, core.handle, descs, len(wanted), handles, None)
        core.holders.update(zip(handles, (holder for _, holder, _ in filled)))
        return [Region(self, handle, one.name, geometry, is_readonly)
                for handle, one, (geometry, _, is_readonly) in zip(handles, wanted, filled)]

    @staticmethod
    def _fill(desc: _abi.RegionDesc, one: Wanted) -> Tuple[Geometry, Any, bool]:
        found = external(one.thing)
        access = access_bits(one.access)
        if found.is_readonly and access & _abi.ACCESS_WRITE:
            raise _errors.invalid("the memory is read-only, and cannot be lent for writing")
        span, geometry = geometry_of(found, one.blocks, one.block_axis)
        desc.struct_size = ctypes.sizeof(desc)
        desc.memory = _described(found, span)
        desc.geometry = geometry._c()
        desc.access, desc.flags = access, one.flags
        desc.name, desc.tags = text(one.name), text(one.tags)
        if one.share is not None:
            one.share._describe(found, span, desc)
        return geometry, (found.owner, one.share), found.is_readonly

    # Leases

    def grant(self, regions: Sequence[Region], blocks: Blocks = None, *,
              access: Union[str, int] = "read", to: Optional["Peer"] = None,
              ttl: Optional[float] = 30.0, consumers: int = 0, user_data: int = 0,
              stream: Optional[int] = None) -> Lease:
        """Lend the same blocks of several regions under one lease, with one ticket.

        Args:
            blocks: numbers (a range, a list, an array of int32 or int64, in which nothing is
                copied); None: all blocks.
            to: the :class:`Peer` that it is for; None: whoever bears the ticket.
            ttl: seconds until it ends by itself; None: it does not, which needs a peer.
            consumers: after so many :meth:`Ticket.done` it ends; 0: they are not counted.
            stream: a CUDA stream that still writes the blocks, which are a GPU's
                (``torch.cuda.current_stream().cuda_stream``; 0: the default stream): reads wait
                until what it has to do now is over. For ``access="read"`` alone.

        Raises:
            OutOfRange: a block that a region does not have; with its position.
            AccessDenied: a region was not lent for this access.
            Revoked: a region is withdrawn.
            Limit: leases_max, or every free slot still rests.
        """
        block_set, keep = _set_of(regions, blocks)
        desc, handle = _abi.GrantDesc(), c_void_p()
        desc.access = access_bits(access)
        desc.sets, desc.set_count = ctypes.pointer(block_set), 1
        desc.consumer_count, desc.user_data = consumers, user_data
        desc.peer = to._handle if to is not None else None
        desc.time_to_live_ns = nanoseconds(ttl) if ttl is not None else 0
        if stream is not None:
            desc.flags, desc.stream = _abi.GRANT_AFTER_STREAM, stream
        self._core.call(lib.lend_lease_grant, self._core.handle, byref(desc), byref(handle))
        del keep
        return Lease(self._core, handle.value)

    def revoke_blocks(self, regions: Sequence[Region], blocks: Blocks = None) -> int:
        """End every lease that touches one of these blocks, as an engine does that evicts them.
        Tells how many those were."""
        block_set, keep = _set_of(regions, blocks)
        count = ctypes.c_uint32()
        self._core.call(lib.lend_lease_revoke_blocks, self._core.handle, byref(block_set),
                        byref(count))
        del keep
        return count.value

    def leases(self) -> List[LeaseInfo]:
        """Who holds what, since when: every lease that lives."""
        count, room = ctypes.c_uint32(), 64
        while True:
            infos = (_abi.LeaseInfo * room)()
            infos[0].struct_size = ctypes.sizeof(_abi.LeaseInfo)
            self._core.call(lib.lend_lease_list, self._core.handle, infos, room, byref(count))
            if count.value <= room:
                return [LeaseInfo._of(infos[i]) for i in range(count.value)]
            room = count.value + 64

    # Peers

    def metadata(self, regions: Optional[Sequence[Region]] = None) -> bytes:
        """What peers need to know of this agent, to be carried to them by whatever way there is.

        It holds no right to anything: that takes a ticket.

        Args:
            regions: tell of these alone; None: of all.
        """
        desc = _abi.ExportDesc()
        handles = None
        if regions is not None:
            handles = _handles(regions)
            desc.flags, desc.regions = _abi.EXPORT_PARTIAL, handles
            desc.region_count = len(regions)
        count, room = _abi.c_size_t(), ctypes.create_string_buffer(4096)
        while True:
            try:
                self._core.call(lib.lend_metadata_export_with, self._core.handle, byref(desc), room,
                                len(room), byref(count))
                return room.raw[:count.value]
            except _errors.Invalid:
                if count.value <= len(room):
                    raise
                room = ctypes.create_string_buffer(count.value + 1024)

    def peer(self, metadata: bytes, *, tags: Optional[str] = None, secret: Optional[bytes] = None,
             prefault: bool = False) -> "Peer":
        """Make a peer known, from its metadata; nothing is connected yet. See :meth:`connect`."""
        from ._peer import Peer

        desc, handle = _abi.ImportDesc(), c_void_p()
        desc.flags = _abi.IMPORT_PREFAULT if prefault else 0
        desc.tags = text(tags)
        if secret is not None:
            desc.secret, desc.secret_bytes = bytes(secret), len(secret)
        metadata = bytes(metadata)
        self._core.call(lib.lend_peer_import_with, self._core.handle, metadata, len(metadata),
                        byref(desc), byref(handle))
        return Peer(self, handle.value)

    def connect(self, metadata: bytes, timeout: float = 5.0, **conditions) -> "Peer":
        """Make a peer known from its metadata, and connect to it.

        Args:
            timeout: seconds; at most the agent's connect_timeout.
            tags: pairs ``key=value`` that every region of the peer must carry.
            secret: that of the peer, where it is not ours.
            prefault: touch files that are mapped from it at once.

        Raises:
            Corrupt, Version: the metadata was cut or flipped, or is of a later release.
            Mismatch: its tags are not as wanted.
            NoPath: no transport of ours reaches it.
            PeerDead, Timeout: it is not there any more, or does not answer.

        >>> with Agent("owner-1") as owner, Agent("reader-1") as reader:
        ...     region = owner.lend(bytearray(4096), name="weights", tags="model=x")
        ...     peer = reader.connect(owner.metadata(), tags="model=x")
        ...     peer.name, [info.name for info in peer.regions]
        ('owner-1', ['weights'])
        """
        peer = self.peer(metadata, **conditions)
        peer.connect(timeout)
        return peer

    def fetch(self, address: str, timeout: float = 5.0) -> Tuple[bytes, Optional[bytes]]:
        """Ask the agent that listens at ``"ADDRESS:PORT"`` for its metadata and attachment."""
        found = ctypes.POINTER(_abi.Found)()
        self._core.call(lib.lend_fetch, self._core.handle, text(address), nanoseconds(timeout),
                        byref(found))
        it = found.contents
        told = ctypes.string_at(it.metadata, it.metadata_bytes)
        attached = (ctypes.string_at(it.attachment, it.attachment_bytes) if it.attachment
                    else None)
        lib.lend_found_release(found)
        return told, attached

    def attach(self, attachment: bytes) -> None:
        """Give bytes of the application, such as a ticket, to whoever fetches our metadata."""
        self._core.call(lib.lend_agent_attach, self._core.handle, bytes(attachment),
                        len(attachment))

    @property
    def address(self) -> str:
        """Where it listens, for :meth:`fetch`. Raises Absent if it does not."""
        room = ctypes.create_string_buffer(128)
        self._core.call(lib.lend_agent_address, self._core.handle, room, len(room))
        return room.value.decode()

    # Notifications

    def receive(self, timeout: float = 0.0) -> Optional[Notification]:
        """Take the next notification of any peer; None if none came in timeout seconds.

        >>> with Agent("owner-2") as owner, Agent("reader-2") as reader:
        ...     reader.connect(owner.metadata()).notify(b"hello")
        ...     owner.receive(30).data
        b'hello'
        """
        came = self._core.in_slices(nanoseconds(timeout), self._core.receive)
        return Notification(*came) if came else None

    async def receive_async(self) -> Notification:
        """Wait for the next notification in an event loop of asyncio."""
        import asyncio

        loop, core = asyncio.get_running_loop(), self._core
        while True:
            future = core.watch(loop, None)
            try:
                came = core.receive(0)
                if came is None and core.is_manual:
                    came = core.plain(core.drive, lambda: core.receive(0))
                if came:
                    return Notification(*came)
                await core.pause(future)
            finally:
                core.unwatch(loop, None, future)

    # Progress

    def fileno(self) -> int:
        """A descriptor that is readable when a transfer has completed or a notification has come
        since the last :meth:`clear`. asyncio does this by itself: ``await`` a transfer."""
        return self._core.plain(lib.lend_agent_fd, self._core.handle)

    def clear(self) -> None:
        """Make the descriptor unreadable until the next event: then look, for what you wait for."""
        self._core.plain(lib.lend_agent_clear, self._core.handle)

    def progress(self, timeout: float = 0.0) -> bool:
        """Make progress on this thread, and wait at most timeout seconds for some to make."""
        def look(wait_ns):
            try:
                self._core.call(lib.lend_agent_progress, self._core.handle, wait_ns)
                return True
            except _errors.Timeout:
                return None

        return bool(self._core.in_slices(nanoseconds(timeout), look))


def _handles(regions: Sequence[Region]):
    return (c_void_p * max(len(regions), 1))(*[region._handle for region in regions])


def _set_of(regions: Sequence[Region], blocks: Blocks):
    """The set for C, and what has to live until it was used."""
    block_set = _abi.BlockSet()
    handles = _handles(regions)
    block_set.regions, block_set.region_count = handles, len(regions)
    if isinstance(blocks, slice) and regions:
        blocks = range(*blocks.indices(regions[0].geometry.count))
    if blocks is None:
        return block_set, handles
    if isinstance(blocks, range) and blocks.step == 1 and len(blocks) and blocks.start >= 0:
        block_set.first, block_set.count = blocks.start, len(blocks)
        return block_set, handles
    numbers = Numbers(blocks)
    if numbers.count == 0:
        raise _errors.invalid("no blocks")
    block_set.blocks, block_set.count = numbers.address, numbers.count
    block_set.index_bits = numbers.bits
    return block_set, (handles, numbers)
