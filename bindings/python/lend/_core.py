# SPDX-License-Identifier: Apache-2.0
"""What all handles of one agent share: the agent itself, who is calling it, and what it holds.

Every call goes by Core.call() (or, where it is hot, does the same by itself): it notes that it is
under way, so that close() ends the agent when nobody is inside any more. Appending to a deque and
popping from it is one step each under the GIL, and without one.
"""
from __future__ import annotations

import atexit
import collections
import math
import os
import threading
import time
from ctypes import byref, create_string_buffer

from . import _abi, _errors
from ._library import lib

SECOND_NS = 1_000_000_000
# How long a call waits at most before it looks for signals of Python's, and for a close().
SLICE_NS = 50_000_000
# How long close() waits for calls that are under way in other threads.
CLOSE_SECONDS = 30.0

_FOREVER_NS = (1 << 63) - 1


def nanoseconds(seconds) -> int:
    """Of a time in seconds; None and infinity are for ever."""
    if seconds is None or seconds == math.inf:
        return _FOREVER_NS
    if not seconds >= 0:
        raise _errors.invalid(f"a time of {seconds} s")
    return min(int(seconds * SECOND_NS), _FOREVER_NS)


def text(value):
    """For C: bytes of a str, or None."""
    return value.encode() if isinstance(value, str) else value


class Core:
    """An agent of the C library, for Agent and for everything that was made of it.

    What is lent must outlive the agent, and cyclic garbage is finalised in no order: therefore
    `holders`, and Core itself, are reachable from this module until the agent is closed.
    """

    def __init__(self, config: _abi.AgentConfig, keep):
        handle = _abi.c_void_p()
        error = _abi.Error()
        status = lib.lend_agent_create(byref(config), byref(handle), byref(error))
        if status < 0:
            raise _errors.made(status, error)
        self.handle = handle.value
        self.is_manual = bool(config.flags & _abi.AGENT_MANUAL_PROGRESS)
        self.pid = os.getpid()
        self.closed = False
        self.calls = collections.deque()
        self.holders = {}  # what keeps the memory of a region alive, by the region's handle
        self.keep = keep  # callbacks, for as long as C may call them
        self.left = collections.deque()  # transfers whose owner let go of them under way
        self.buffers = collections.deque()  # for notifications
        self.lock = threading.RLock()  # of the two that follow; garbage collection may close
        self.waiters = {}  # futures by the transfer that they wait for; None: a notification
        self.readers = {}  # of event loops: our descriptor, and how many wait there
        _cores.add(self)

    def closed_error(self):
        return _errors.invalid("the agent is closed")

    def call(self, function, *arguments):
        """Call a function that takes an error last. The status if it is none; else raise."""
        calls = self.calls
        calls.append(None)
        try:
            if self.closed:
                raise self.closed_error()
            error = _abi.Error()
            status = function(*arguments, byref(error))
        finally:
            calls.pop()
        if status < 0:
            raise _errors.made(status, error)
        return status

    def plain(self, function, *arguments):
        """Call a function without an error."""
        calls = self.calls
        calls.append(None)
        try:
            if self.closed:
                raise self.closed_error()
            return function(*arguments)
        finally:
            calls.pop()

    def give_back(self, function, handle) -> None:
        """Call a function that gives a handle back, wherever that is still possible."""
        calls = self.calls
        calls.append(None)
        try:
            if handle is not None and not self.closed and self.pid == os.getpid():
                function(handle)
        finally:
            calls.pop()

    def in_slices(self, timeout_ns: int, look):
        """Call look(ns) with short waits until it answers something else than None."""
        deadline = time.monotonic_ns() + timeout_ns
        while True:
            left_ns = max(deadline - time.monotonic_ns(), 0)
            answer = look(min(left_ns, SLICE_NS))
            if answer is not None or left_ns == 0:
                return answer

    # Notifications

    def receive(self, timeout_ns: int):
        """The next notification as (peer, incarnation, bytes), or None."""
        info, count = _abi.NotificationInfo(), _abi.c_size_t()
        try:
            buffer = self.buffers.pop()
        except IndexError:
            buffer = create_string_buffer(_abi.NOTIFICATION_BYTES_MAX)
        try:
            self.call(lib.lend_notification_receive, self.handle, buffer, len(buffer),
                      byref(count), byref(info), timeout_ns)
            data = buffer.raw[:count.value] if count.value > 256 else buffer[:count.value]
        except _errors.Absent:
            return None
        finally:
            self.buffers.append(buffer)
        return info.peer.decode(), bytes(info.incarnation), data

    # Transfers that nobody has a handle of any more

    def leave(self, handle, *keep) -> None:
        """Release a transfer, now or when it is complete; keep is kept until then."""
        calls = self.calls
        calls.append(None)
        try:
            if (not self.closed and self.pid == os.getpid()
                    and lib.lend_transfer_release(handle) == _abi.E_BUSY):
                self.left.append((handle, keep))
        finally:
            calls.pop()

    def reap(self) -> None:
        for _ in range(len(self.left)):
            try:
                handle, keep = self.left.popleft()
            except IndexError:
                return
            self.leave(handle, *keep)

    # The end

    def close(self) -> None:
        with self.lock:
            if self.closed:
                return
            self.closed = True
        if self.pid == os.getpid():
            deadline = time.monotonic() + CLOSE_SECONDS
            while self.calls:
                if time.monotonic() > deadline:
                    return  # somebody is inside still: better a leak than a crash
                time.sleep(0.0005)
        self.stop_waiting()
        lib.lend_agent_destroy(self.handle)
        self.handle = None
        self.left.clear()
        self.holders.clear()
        self.keep = None
        _cores.discard(self)

    # Event loops (asyncio): whichever loop sees the descriptor looks for all of them.

    def watch(self, loop, key):
        """A future of the loop that is done when the transfer may be, or a notification."""
        future = loop.create_future()
        if self.pid != os.getpid():
            raise _errors.Forked("the agent was made before a fork, by the parent")
        with self.lock:
            if self.closed:
                raise self.closed_error()
            self.waiters.setdefault(key, []).append((loop, future))
            reader = self.readers.get(loop)
            if reader is not None:
                reader[1] += 1
                return future
            descriptor = os.dup(lib.lend_agent_fd(self.handle))
            self.readers[loop] = [descriptor, 1]
        loop.add_reader(descriptor, self.look)
        return future

    def unwatch(self, loop, key, future) -> None:
        with self.lock:
            waiting = self.waiters.get(key, [])
            if (loop, future) in waiting:
                waiting.remove((loop, future))
            if not waiting:
                self.waiters.pop(key, None)
            reader = self.readers.get(loop)
            if reader is None:
                return
            reader[1] -= 1
            if reader[1] > 0:
                return
            del self.readers[loop]
        loop.remove_reader(reader[0])
        os.close(reader[0])

    def look(self) -> None:
        """The descriptor is readable: make it unreadable first, and look for everything then."""
        calls = self.calls
        calls.append(None)
        try:
            if self.closed:
                return
            if self.is_manual:
                done = self.drive(self.woken)
            else:
                lib.lend_agent_clear(self.handle)
                done = self.woken()
        finally:
            calls.pop()
        for loop, future in done:
            wake(loop, future)

    def woken(self):
        """The loops and futures of those whose transfer is complete, or who look by themselves."""
        with self.lock:
            return [pair for key, waiting in self.waiters.items() for pair in waiting
                    if key is None or key.is_quiet()]

    def drive(self, look):
        """Under manual progress: do what can be done now, until a look sees something, and else
        have the descriptor wake us. A look makes progress too, and so comes before it is armed."""
        while True:
            seen = look()
            if seen or lib.lend_agent_arm(self.handle, None) != _abi.PENDING:
                return seen
            lib.lend_agent_progress(self.handle, 0, None)

    async def pause(self, future) -> None:
        """Until the future is done. Under manual progress whoever else makes some may take what
        the descriptor was armed for: then not for long."""
        if self.is_manual:
            import asyncio

            await asyncio.wait([future], timeout=SLICE_NS / SECOND_NS)
        else:
            await future

    def stop_waiting(self) -> None:
        """Those who wait are woken, and find the agent closed."""
        with self.lock:
            woken = [pair for waiting in self.waiters.values() for pair in waiting]
        for loop, future in woken:
            wake(loop, future)

    def after_fork(self) -> None:
        """In the child: locks may have been held by threads that are not here."""
        self.lock = threading.RLock()
        self.waiters, self.readers = {}, {}
        self.calls = collections.deque()


def wake(loop, future) -> None:
    def done():
        if not future.done():
            future.set_result(None)

    try:
        loop.call_soon_threadsafe(done)
    except RuntimeError:
        pass  # that loop is closed: nobody waits there


_cores = set()


def _close_all() -> None:
    """Before the interpreter goes: no thread of C may call into it later."""
    for core in list(_cores):
        if core.pid == os.getpid():
            core.close()


def _after_fork() -> None:
    for core in list(_cores):
        core.after_fork()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_after_fork)
