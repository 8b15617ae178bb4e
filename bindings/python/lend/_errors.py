# SPDX-License-Identifier: Apache-2.0
"""One exception for each cause, with the library's own message.

>>> issubclass(Revoked, Error), Revoked.status
(True, -21)
"""
from __future__ import annotations

from . import _abi


class Error(Exception):
    """A call of lend failed, or a transfer ended otherwise than well.

    ``str(error)`` is the library's message: one line, with the values.

    Attributes:
        status: the number of the cause, as the C library has it.
        name: its name there, such as ``"LEND_E_REVOKED"``.
        sys_errno: errno of the system call that failed, or 0.
        device_code: what a GPU's driver or a NIC said, or 0.
        record: the completion record (:class:`lend.Record`) of the transfer, or None.
    """

    status = 0
    name = ""

    def __init__(self, message: str = "", sys_errno: int = 0, device_code: int = 0, record=None):
        super().__init__(message)
        self.sys_errno = sys_errno
        self.device_code = device_code
        self.record = record


class Invalid(Error, ValueError):
    """The caller broke a documented precondition; nothing was changed."""


class NoMemory(Error, MemoryError):
    """Host memory ran out."""


class Unsupported(Error):
    """This build, transport or machine cannot do it."""


class Limit(Error):
    """A limit of the agent's configuration is reached; the message names it."""


class Busy(Error):
    """Somebody still uses it; the message names who, and by what."""


class Overlap(Error):
    """The range overlaps another region in part; the message names that one."""


class BadMemory(Error):
    """The memory is not what its description says; with the first bad address."""


class Absent(Error, LookupError):
    """Nothing of that name or number is there, or nothing came."""


class Forked(Error):
    """The agent was made before a fork, by the parent: make one of your own."""


class Mismatch(Error):
    """A peer's regions are not tagged as wanted; both values are named."""


class Unknown(Error):
    """There is no such lease, or it is one of another incarnation."""


class OutOfRange(Error, IndexError):
    """A block or byte outside the region or the lease; with its position."""


class AccessDenied(Error):
    """The lease or region does not allow this direction, or is for another peer."""


class Consumed(Error):
    """Every consumer of the lease, or this one, has said done."""


class Expired(Error):
    """The lease's time to live passed."""


class Revoked(Error):
    """The owner took the blocks back: treat what was read as if it had never been."""


class Stale(Error):
    """The slot, the region or a GPU's memory has a newer life."""


class PeerDead(Error):
    """The peer died, restarted, or broke the protocol."""


class Timeout(Error, TimeoutError):
    """The deadline passed."""


class Canceled(Error):
    """Canceled, and quiet: not one more byte lands."""


class NoPath(Error):
    """No transport reaches the peer under the policy; says why not, one by one."""


class Corrupt(Error):
    """Bytes from elsewhere failed validation, or a block differs from its checksum."""


class Version(Error):
    """Bytes, or a struct, of a version that is not known here."""


class System(Error):
    """A system call failed; see ``sys_errno``."""


class Device(Error):
    """A GPU or NIC failed; see ``device_code``."""


_NAMES = {"MEMORY": "BadMemory", "ACCESS": "AccessDenied"}
BY_STATUS: dict = {}
for _name, _status in _abi.STATUS.items():
    _class = globals()[_NAMES.get(_name) or _name.title().replace("_", "")]
    _class.status, _class.name = _status, f"LEND_E_{_name}"
    BY_STATUS[_status] = _class


def made(status: int, error: _abi.Error | None = None, record=None) -> Error:
    """The exception for a status and what the library said of it."""
    kind = BY_STATUS.get(status, Error)
    if error is None or error.status == 0:
        return kind(kind.name, record=record)
    return kind(error.message.decode(errors="replace"), error.sys_errno, error.device_code, record)


def invalid(message: str) -> Invalid:
    """A mistake of the caller's that is seen here already."""
    return Invalid(message)
