# SPDX-License-Identifier: Apache-2.0
"""The reader's side: peers, tickets, transfers."""
from __future__ import annotations

import ctypes
import threading
from ctypes import byref, c_void_p
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Union

from . import _abi, _errors
from ._agent import Region, RegionInfo
from ._core import Core, nanoseconds, text
from ._library import lib
from ._memory import Numbers

_DIRECTIONS = {"read": _abi.READ, "write": _abi.WRITE}
_post, _test = lib.lend_transfer_post, lib.lend_transfer_test
_PENDING, _OK = _abi.PENDING, _abi.OK

Regions = Union[Region, Sequence[Region]]
Remote = Union[None, str, int, Sequence[Union[str, int]]]


class Record(NamedTuple):
    """How a transfer ended."""

    status: str  # "LEND_OK", or why it failed
    bytes: int  # proven: all on success, else those of the leading blocks
    blocks: int  # proven leading blocks, region by region
    post_ns: int  # inside post()
    wire_ns: int  # from post to completion
    path: str  # that it took, or was to take: "local/mapped"; "none": none was chosen
    user_data: int


class Path(NamedTuple):
    """One way to a peer's region; see :meth:`Peer.explain`."""

    name: str
    status: str  # "LEND_OK": it can be taken; "LEND_PENDING": known once connected; else why not
    is_chosen: bool
    is_one_sided: bool
    is_fenced: bool
    why: str
    must_be_named: bool  # taken only where `paths` names it


class PeerInfo(NamedTuple):
    """A peer as it is known here."""

    name: str
    incarnation: bytes
    status: str  # "LEND_OK": connected; "LEND_PENDING": not yet; else why it is lost
    region_count: int
    transport: str


class Ticket:
    """A peer's lease, as its ticket names it. Made by :meth:`Peer.ticket`."""

    def __init__(self, peer: "Peer", handle: Optional[int]):
        self._peer, self._core, self._handle = peer, peer._core, handle

    def __del__(self):
        self._core.give_back(lib.lend_ticket_release, self._handle)

    def done(self) -> None:
        """Tell the owner that this consumer needs the lease no more: after the transfers that have
        completed."""
        self._core.call(lib.lend_ticket_done, self._handle)


class Transfer:
    """Blocks from a peer's regions to ours, or the other way.

    Made by :meth:`Peer.read`, :meth:`Peer.write` (posted already), or :meth:`Peer.prepare` (to be
    posted, again and again). Wait for it, ``await`` it, or cancel it. An object that is dropped
    under way goes on, and its memory stays until it is complete.

    >>> import asyncio, lend
    >>> owner, reader = lend.Agent("owner-3"), lend.Agent("reader-3")
    >>> ticket = owner.lend(bytes(4096), blocks=4).grant().ticket
    >>> peer, local = reader.connect(owner.metadata()), reader.register(bytearray(4096), blocks=4)
    >>> async def main():
    ...     with peer.prepare("read", local) as transfer:
    ...         for blocks in ([0, 1], [2, 3]):
    ...             print((await transfer.post(ticket, blocks, blocks)).bytes)
    >>> asyncio.run(main())
    2048
    2048
    >>> owner.close(); reader.close()
    """

    def __init__(self, peer: "Peer", desc: _abi.TransferDesc, keep):
        handle, core = c_void_p(), peer._core
        core.reap()
        core.call(lib.lend_transfer_prepare, core.handle, byref(desc), byref(handle))
        self._peer, self._core, self._handle = peer, core, handle.value
        self._keep = keep
        self._lock = threading.Lock()  # of what a post fills
        self._desc, self._error = _abi.PostDesc(), _abi.Error()
        self._arguments = (self._handle, byref(self._desc), byref(self._error))
        self._is_plain = True  # the last post had none of what is seldom given
        self._filled: Optional[Ticket] = None  # whose handle is in the description
        self._ticket: Optional[Ticket] = None  # of the last post

    def __del__(self):
        if hasattr(self, "_ticket") and self._handle is not None:
            self._core.leave(self._handle, self._peer, self._ticket, self._keep)

    def __enter__(self) -> "Transfer":
        return self

    def __exit__(self, *_) -> None:
        if self._handle is not None and not self._core.closed:
            self.release()

    def post(self, ticket: Union[Ticket, bytes], remote_blocks: Any, local_blocks: Any, *,
             notify: Optional[bytes] = None, timeout: Optional[float] = None,
             user_data: int = 0) -> "Transfer":
        """Start it.

        Args:
            ticket: of the peer, for these blocks and this direction.
            remote_blocks, local_blocks: as many numbers each: arrays of int32 or int64, of which
                nothing is copied here, ranges, or lists. They may be reused when this returns; the
                memory of the blocks only when the transfer is complete.
            notify: bytes for the peer's application, after the data.
            timeout: seconds until it has to be complete; None: the agent's transfer_timeout.

        Raises:
            Busy: it is still under way, or the notification finds no room.
            OutOfRange: a block number outside its region; with its position.
            Revoked: a region of ours is withdrawn.
            PeerDead, NoPath: nobody is there.
        """
        if type(ticket) is not Ticket:
            ticket = self._peer.ticket(ticket)
        return self._start(ticket, Numbers(remote_blocks), Numbers(local_blocks), notify, timeout,
                           user_data)

    def _start(self, ticket, remote, local, notify, timeout, user_data=0) -> "Transfer":
        if remote.count != local.count:
            raise _errors.invalid(f"{remote.count} blocks of the peer's for {local.count} of ours")
        if remote.bits != local.bits:
            remote, local = _widened(remote), _widened(local)
        if not self._lock.acquire(False):
            raise _errors.Busy("another thread posts this transfer")
        calls = self._core.calls
        calls.append(None)
        try:
            if self._core.closed:
                raise self._core.closed_error()
            desc = self._desc
            if self._filled is not ticket or desc.index_bits != remote.bits:
                desc.ticket, desc.index_bits = ticket._handle, remote.bits
                self._filled = ticket
            desc.remote_blocks, desc.local_blocks = remote.address, local.address
            desc.block_count = remote.count
            if not (self._is_plain and notify is timeout is None and user_data == 0):
                self._is_plain = notify is timeout is None and user_data == 0
                desc.notification = None if notify is None else bytes(notify)
                desc.notification_bytes = len(notify) if notify is not None else 0
                desc.timeout_ns = nanoseconds(timeout) if timeout is not None else 0
                desc.user_data = user_data
            status = _post(*self._arguments)
            if status != _OK:
                raise _errors.made(status, self._error)
            self._ticket = ticket
        finally:
            calls.pop()
            self._lock.release()
        return self

    def is_quiet(self) -> bool:
        """Is it complete? A look, which never waits and raises nothing."""
        return _test(self._handle) != _PENDING

    def done(self) -> bool:
        """Is it complete, well or not? Never waits."""
        calls = self._core.calls
        calls.append(None)
        try:
            if self._core.closed:
                raise self._core.closed_error()
            return _test(self._handle) != _PENDING
        finally:
            calls.pop()

    @property
    def record(self) -> Record:
        """How it stands, or how it ended. Raises nothing for a transfer that failed."""
        return self._describe(None)[1]

    def _describe(self, why) -> Tuple[int, Record]:
        record = _abi.TransferRecord()
        status = self._core.plain(lib.lend_transfer_describe, self._handle, byref(record),
                                  byref(why) if why is not None else None)
        if status < 0:
            raise _errors.made(status, None)
        return record.status, Record(lib.lend_status_name(record.status).decode(), record.bytes,
                                     record.blocks, record.post_ns, record.wire_ns,
                                     record.path.decode(), record.user_data)

    def result(self) -> Record:
        """Its completion record; raises why it failed, and Busy while it is under way."""
        why = _abi.Error()
        status, record = self._describe(why)
        if status == _PENDING:
            raise _errors.Busy("the transfer is under way")
        if status != _OK:
            raise _errors.made(status, why, record)
        return record

    def wait(self, timeout: Optional[float] = None) -> Record:
        """Wait until it is complete, helping it along, and give its completion record.

        Args:
            timeout: seconds; None: as long as the transfer itself has. A wait that is over ends
                nothing.

        Raises:
            Timeout: it is not complete yet; or it has failed because its own time was over, and
                then the error has a record.
            Revoked, Stale, Expired, Consumed, OutOfRange, AccessDenied, Unknown, PeerDead,
                Canceled, ...: why it failed.
        """
        def look(wait_ns):
            status = self._core.plain(lib.lend_transfer_wait, self._handle, wait_ns)
            return None if status == _PENDING else status

        if self._core.in_slices(nanoseconds(timeout), look) is None:
            raise _errors.Timeout(f"the transfer is still under way after {timeout} s")
        return self.result()

    def __await__(self):
        return self._completed().__await__()

    async def _completed(self) -> Record:
        import asyncio

        loop, core = asyncio.get_running_loop(), self._core
        while not self.done():
            future = core.watch(loop, self)
            try:
                if not (core.plain(core.drive, self.done) if core.is_manual else self.done()):
                    await core.pause(future)
            finally:
                core.unwatch(loop, self, future)
        return self.result()

    def cancel(self, timeout: float = 5.0) -> Record:
        """Ask for its end, and wait until it is quiet: not one more byte lands then.

        Gives the record, whose status is "LEND_E_CANCELED", or how it ended before that.

        Raises:
            Timeout: it is not quiet yet: bytes may still land, and the memory must stay.
        """
        def look(wait_ns):
            status = self._core.plain(lib.lend_transfer_cancel, self._handle, wait_ns)
            return None if status == _PENDING else status

        status = self._core.in_slices(nanoseconds(timeout), look)
        if status is None:
            raise _errors.Timeout(f"the transfer is not quiet after {timeout} s")
        if status == _abi.E_INVALID:
            raise _errors.invalid("the transfer was never posted")
        return self.record

    def release(self) -> None:
        """Give it back; one that is under way is canceled first."""
        if self._handle is None:
            return
        status = self._core.plain(lib.lend_transfer_release, self._handle)
        if status == _abi.E_BUSY:
            self.cancel()
            status = self._core.plain(lib.lend_transfer_release, self._handle)
        if status < 0:
            raise _errors.made(status, None)
        self._handle = None


def _widened(numbers: Numbers) -> Numbers:
    """The same as 64 bits each, where one side has 32 and the other 64."""
    import array

    if numbers.bits == 64:
        return numbers
    narrow = (ctypes.c_int32 * numbers.count).from_address(numbers.address)
    return Numbers(array.array("q", narrow))


class Peer:
    """Another agent. Made by :meth:`Agent.connect` or :meth:`Agent.peer`.

    When the last object for it is dropped the peer is forgotten: what it is reading under leases
    ends, and the connection is closed.
    """

    def __init__(self, agent: Any, handle: Optional[int]):
        self._agent, self._core, self._handle = agent, agent._core, handle
        self.name = self.info.name

    def __repr__(self) -> str:
        return f"<lend.Peer {self.name}>"

    def __del__(self):
        self.forget()

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_) -> None:
        self.forget()

    def forget(self) -> None:
        """Give the peer back: its transfers end, its connection is closed."""
        handle, self._handle = self._handle, None
        self._core.give_back(lib.lend_peer_forget, handle)

    @property
    def info(self) -> PeerInfo:
        """How it stands."""
        info = _abi.PeerInfo()
        self._core.call(lib.lend_peer_describe, self._handle, byref(info))
        return PeerInfo(info.name.decode(), bytes(info.incarnation),
                        lib.lend_status_name(info.status).decode(), info.region_count,
                        info.transport.decode())

    def connect(self, timeout: float = 5.0) -> None:
        """Connect ahead of the first transfer."""
        self._core.call(lib.lend_peer_connect, self._handle, nanoseconds(timeout))

    def refresh(self, metadata: bytes) -> None:
        """Take over newer metadata: regions that came, went or were resumed.

        Raises PeerDead for that of another incarnation: the peer restarted; connect to it anew.
        """
        metadata = bytes(metadata)
        self._core.call(lib.lend_peer_refresh, self._handle, metadata, len(metadata))

    @property
    def regions(self) -> List[RegionInfo]:
        """What its metadata tells of its regions."""
        found = []
        for index in range(self.info.region_count):
            info = _abi.RegionInfo()
            self._core.call(lib.lend_peer_region_at, self._handle, index, byref(info))
            found.append(RegionInfo._of(info))
        return found

    def region(self, name: str) -> int:
        """The id of its region of that name. Raises Absent."""
        number = ctypes.c_uint64()
        self._core.call(lib.lend_peer_region, self._handle, text(name), byref(number))
        return number.value

    def ticket(self, ticket: Union[bytes, Ticket]) -> Ticket:
        """Accept a ticket that the peer's application sent. Raises Unknown, Corrupt, Version."""
        if isinstance(ticket, Ticket):
            return ticket
        handle, ticket = c_void_p(), bytes(ticket)
        self._core.call(lib.lend_ticket_import, self._handle, ticket, len(ticket), byref(handle))
        return Ticket(self, handle.value)

    def notify(self, data: bytes) -> None:
        """Send bytes (at most 16,384) to the peer's application. Raises Busy if it takes none."""
        self._core.call(lib.lend_notification_send, self._handle, bytes(data), len(data))

    # Transfers

    def prepare(self, direction: str, local: Regions, *, remote: Remote = None,
                blocks_max: Optional[int] = None,
                local_slice: Tuple[int, int] = (0, 0), remote_slice: Tuple[int, int] = (0, 0),
                paths: Optional[str] = None, zero_on_failure: bool = False,
                checksum: bool = False) -> Transfer:
        """Check regions of ours against the peer's once, for a transfer to post many times.

        Args:
            direction: ``"read"`` or ``"write"``.
            local: one or several regions of ours.
            remote: the peer's, by name or id, as many; None: those with the same names, or the only
                one that it has.
            blocks_max: how many blocks a post may name; None: as many as the smaller side has.
            local_slice, remote_slice: (offset, length) in bytes within each row of a block.
            paths: those that it may take, such as ``"local/mapped,local/served"``.
            zero_on_failure: zero the destination of a read that fails.
            checksum: compare a checksum of every block at the owner, for debugging.

        Raises:
            Invalid: blocks with unequal numbers of selected bytes; both are named.
            Unknown, Absent: the peer has no such region.
            AccessDenied: it is not lent in that direction.
            NoPath: none of the paths can be taken; says why not.
        """
        regions = [local] if isinstance(local, Region) else list(local)
        ids = self._remote_ids(regions, remote)
        if direction == "read" and any(region.is_readonly for region in regions):
            raise _errors.invalid("a region of ours is of memory that is read-only")
        desc = _abi.TransferDesc()
        desc.direction = _DIRECTIONS.get(direction, 0)
        desc.flags = (zero_on_failure * _abi.TRANSFER_ZERO_ON_FAILURE
                      | checksum * _abi.TRANSFER_CHECKSUM)
        desc.peer = self._handle
        desc.region_count = len(regions)
        desc.local_regions = (c_void_p * len(regions))(*[region._handle for region in regions])
        desc.remote_regions = (ctypes.c_uint64 * len(ids))(*ids)
        desc.local_slice, desc.remote_slice = _abi.Slice(*local_slice), _abi.Slice(*remote_slice)
        desc.block_count_max = blocks_max or min(region.geometry.count for region in regions)
        desc.paths = text(paths)
        return Transfer(self, desc, regions)

    def _remote_ids(self, regions: List[Region], remote: Remote) -> List[int]:
        if not regions:
            raise _errors.invalid("no region of ours")
        if remote is None:
            names = [region.name for region in regions]
            if len(names) == 1 and not names[0]:
                known = self.regions
                if len(known) != 1:
                    raise _errors.Absent(f"peer {self.name} has {len(known)} regions: name one "
                                         "(remote=), or give ours the same name")
                return [known[0].id]
            if not all(names):
                raise _errors.Absent("regions of ours have no name: say which of the peer's are "
                                     "meant (remote=)")
            remote = names
        if isinstance(remote, (str, int)):
            remote = [remote]
        ids = [one if isinstance(one, int) else self.region(one) for one in remote]
        if len(ids) != len(regions):
            raise _errors.invalid(f"{len(ids)} regions of the peer's for {len(regions)} of ours")
        return ids

    def _once(self, direction, ticket, remote_blocks, local, local_blocks, notify, timeout,
              options) -> Transfer:
        ticket = self.ticket(ticket)
        remote, ours = Numbers(remote_blocks), Numbers(local_blocks)
        transfer = self.prepare(direction, local, blocks_max=max(ours.count, 1), **options)
        return transfer._start(ticket, remote, ours, notify, timeout)

    def read(self, ticket: Union[Ticket, bytes], remote_blocks: Any, local: Regions,
             local_blocks: Any, *, notify: Optional[bytes] = None,
             timeout: Optional[float] = None, **options) -> Transfer:
        """Start to read blocks of the peer's into blocks of ours.

        Block ``remote_blocks[i]`` goes to block ``local_blocks[i]``, in every pair of regions.

        Args:
            ticket, remote_blocks, local_blocks, notify, timeout: as :meth:`Transfer.post`.
            local: one or several regions of ours.
            options: as :meth:`prepare`: remote, slices, paths, zero_on_failure, checksum.

        >>> import lend
        >>> owner, reader = lend.Agent("o"), lend.Agent("r")
        >>> region = owner.lend(bytes(range(256)), blocks=16)
        >>> peer, mine = reader.connect(owner.metadata()), bytearray(64)
        >>> local = reader.register(mine, blocks=4)
        >>> ticket = region.grant().ticket
        >>> peer.read(ticket, [7, 1], local, [0, 3]).wait().bytes
        32
        >>> mine[0], mine[48]
        (112, 16)
        >>> owner.close(); reader.close()
        """
        return self._once("read", ticket, remote_blocks, local, local_blocks, notify, timeout,
                          options)

    def write(self, ticket: Union[Ticket, bytes], remote_blocks: Any, local: Regions,
              local_blocks: Any, *, notify: Optional[bytes] = None,
              timeout: Optional[float] = None, **options) -> Transfer:
        """Start to write blocks of ours into blocks of the peer's; as :meth:`read`."""
        return self._once("write", ticket, remote_blocks, local, local_blocks, notify, timeout,
                          options)

    # Paths

    def explain(self, remote: Union[str, int, None] = None, *, local: Optional[Region] = None,
                direction: str = "read") -> List[Path]:
        """All the ways between a region of ours (None: ordinary memory) and one of the peer's,
        best first, and why a better one is not taken.

        >>> import lend
        >>> with lend.Agent("owner-4") as owner, lend.Agent("reader-4") as reader:
        ...     region = owner.lend(bytes(4096))
        ...     [path.name for path in reader.connect(owner.metadata()).explain()
        ...      if path.is_chosen]
        ['loopback']
        """
        infos, count = (_abi.PathInfo * _abi.PATHS_MAX)(), ctypes.c_uint32()
        infos[0].struct_size = ctypes.sizeof(_abi.PathInfo)
        self._core.call(lib.lend_explain, self._handle, local._handle if local else None,
                        self._only(remote), _DIRECTIONS.get(direction, 0), infos,
                        _abi.PATHS_MAX, byref(count))
        return [Path(info.name.decode(), lib.lend_status_name(info.status).decode(),
                     bool(info.is_chosen), bool(info.is_one_sided), bool(info.is_fenced),
                     info.why.decode(errors="replace"), bool(info.must_be_named))
                for info in infos[:min(count.value, _abi.PATHS_MAX)]]

    def explain_text(self, remote: Union[str, int, None] = None, *,
                     local: Optional[Region] = None, direction: str = "read") -> str:
        """The same for a person: a line a path, ``*`` before the chosen one."""
        room, count = ctypes.create_string_buffer(8192), _abi.c_size_t()
        self._core.call(lib.lend_explain_text, self._handle, local._handle if local else None,
                        self._only(remote), _DIRECTIONS.get(direction, 0), room, len(room),
                        byref(count))
        return room.value.decode(errors="replace")

    def _only(self, remote: Union[str, int, None]) -> int:
        if isinstance(remote, str):
            return self.region(remote)
        if remote is None:
            known = self.regions
            if not known:
                raise _errors.Absent(f"peer {self.name} has no regions")
            return known[0].id
        return remote
