# SPDX-License-Identifier: Apache-2.0
"""NIXL's Python interface, with its names, arguments and results, on lend.

Names of agents may be str or bytes everywhere; :meth:`nixl_agent.add_remote_agent` gives bytes, as
NIXL does. Every call may be made from any thread, and releases the GIL.
"""
from __future__ import annotations

import array
import atexit
import collections
import ctypes
import logging
import os
import threading
import time
import weakref
from ctypes import byref, c_char_p, c_int, c_int64, c_size_t, c_void_p
from typing import Any, Dict, List, Optional, Sequence, Union

from . import _capi, _table
from ._capi import Made, capi, check, options
from ._descs import deserialized, nixlRegDList, nixlXferDList, of_rows, of_tensors

DEFAULT_COMM_PORT = 8888
_log = logging.getLogger("lend.nixl")
_STATES = {_capi.SUCCESS: "DONE", _capi.IN_PROG: "PROC"}
_agents: "weakref.WeakSet[nixl_agent]" = weakref.WeakSet()


class nixl_agent_config:
    """How to make an agent. The progress thread, num_threads and sync_mode are taken, and of no
    effect: there always is a thread, and calls are safe from any."""

    def __init__(self, enable_prog_thread: bool = True, enable_listen_thread: bool = False,
                 listen_port: int = DEFAULT_COMM_PORT, capture_telemetry: bool = False,
                 num_threads: int = 0, backends: Sequence[str] = ("UCX",), sync_mode: Any = None):
        self.enable_pthread = enable_prog_thread
        self.enable_listen = enable_listen_thread
        self.port = listen_port
        self.capture_telemetry = capture_telemetry
        self.num_threads = num_threads
        self.backends = list(backends)
        self.sync_mode = sync_mode


class nixlXferTelemetry:
    """Times in microseconds, and sizes, of a transfer that is complete."""

    __slots__ = ("startTime", "postDuration", "xferDuration", "totalBytes", "descCount")

    def __init__(self, startTime=0, postDuration=0, xferDuration=0, totalBytes=0, descCount=0):
        self.startTime, self.postDuration, self.xferDuration = startTime, postDuration, xferDuration
        self.totalBytes, self.descCount = totalBytes, descCount

    def __repr__(self) -> str:
        return (f"<nixlXferTelemetry {self.totalBytes} bytes of {self.descCount} descriptors in "
                f"{self.xferDuration} us>")


class _Handle:
    """A prepared list, or a request: given back by its release, or when it is dropped."""

    def __init__(self, agent: "nixl_agent", handle: Optional[int]):
        self._agent, self._handle = agent, handle

    def release(self) -> None:
        raise NotImplementedError

    def __del__(self):
        agent = self._agent
        if self._handle is not None and agent._handle is not None and agent._pid == os.getpid():
            try:
                self.release()
            except _capi.nixlError:
                agent._left.append((type(self), self._handle))  # for the agent's end


class nixl_prepped_dlist_handle(_Handle):
    """A list of descriptors that was looked up; from :meth:`nixl_agent.prep_xfer_dlist`.

    Of a large table the ranges around its runs were looked up, and requests are made of its rows.
    The probe is one byte of it: a request for that one tells whether the peer is the same still.
    """

    def __init__(self, agent: "nixl_agent", handle: Optional[int], name: bytes, mem_type: int,
                 rows: Any, probe: Optional[int]):
        super().__init__(agent, handle)
        self._name, self._type, self._rows, self._probe = name, mem_type, rows, probe

    def release(self) -> None:
        handle, self._handle = self._handle, None
        probe, self._probe = self._probe, None
        self._agent._call("release_xfer_dlist_handle", handle)
        if probe is not None:
            self._agent._call("release_xfer_dlist_handle", probe)


class nixl_xfer_handle(_Handle):
    """A request; from :meth:`nixl_agent.make_prepped_xfer` or :meth:`~nixl_agent.initialize_xfer`.
    """

    def release(self) -> None:
        self._agent._call("release_xfer_req", self._handle)
        handle, self._handle = self._handle, None
        capi.nixl_capi_destroy_xfer_req(handle)


class nixl_agent:
    """An agent of NIXL's. Its memory is lent for reading and writing to whoever has its metadata,
    from its registration to its deregistration."""

    def __init__(self, agent_name: str, nixl_conf: Optional[nixl_agent_config] = None,
                 instantiate_all: bool = False):
        self._handle = None
        conf = nixl_conf or nixl_agent_config()
        config = _capi.AgentConfig(conf.enable_pthread, conf.enable_listen, conf.port, 0,
                                   max(conf.num_threads, 0), 0, 0, conf.capture_telemetry)
        handle = c_void_p()
        check(capi.nixl_capi_create_configured_agent(_name(agent_name), byref(config),
                                                     byref(handle)), f"agent {agent_name!r}")
        self._handle, self._pid = handle.value, os.getpid()
        self._calls: Any = collections.deque()
        self._left: Any = collections.deque()
        self._owners: Dict[tuple, List[Any]] = {}
        self._lock = threading.Lock()
        _agents.add(self)
        self.name = agent_name
        self.notifs: Dict[str, List[bytes]] = {}
        self.backends: Dict[str, int] = {}
        self.plugin_list = self._plugins()
        wanted = self.plugin_list if instantiate_all and nixl_conf is None else conf.backends
        for backend in wanted:
            if backend in self.plugin_list:
                self.create_backend(backend)
            else:
                _log.warning("there is no backend %s; there is %s", backend,
                             ", ".join(self.plugin_list))

    def _call(self, function: str, *arguments, what: str = "") -> int:
        """Call a function that takes the agent first. The status; a failure is an exception."""
        return check(self._status(function, *arguments), what or function)

    def _status(self, function: str, *arguments) -> int:
        self._calls.append(None)
        try:
            if self._handle is None:
                raise _capi.nixlInvalidParamError("the agent is over")
            return getattr(capi, f"nixl_capi_{function}")(self._handle, *arguments)
        finally:
            self._calls.pop()

    def _close(self) -> None:
        """End the agent: not one byte lands any more. Its handles are void."""
        with self._lock:
            handle, self._handle = self._handle, None
        if handle is None or self._pid != os.getpid():
            return
        end = time.monotonic() + 30
        while self._calls:
            if time.monotonic() > end:
                return
            time.sleep(0.0005)
        for backend in self.backends.values():
            capi.nixl_capi_destroy_backend(backend)
        while self._left:
            kind, left = self._left.pop()
            if kind is nixl_prepped_dlist_handle:
                capi.nixl_capi_release_xfer_dlist_handle(handle, left)
            elif capi.nixl_capi_release_xfer_req(handle, left) == _capi.SUCCESS:
                capi.nixl_capi_destroy_xfer_req(left)
        capi.nixl_capi_destroy_agent(handle)
        self._owners.clear()

    def __del__(self):
        if self._handle is not None:
            self._close()

    # Backends

    def _plugins(self) -> List[str]:
        with Made("get_available_plugins", "destroy_string_list", self._handle) as found:
            count, word = c_size_t(), c_char_p()
            check(capi.nixl_capi_string_list_size(found, byref(count)))
            words = []
            for index in range(count.value):
                check(capi.nixl_capi_string_list_get(found, index, byref(word)))
                words.append(word.value.decode())
            return words

    def _described(self, function: str, *arguments):
        mems, params = c_void_p(), c_void_p()
        self._call(function, *arguments, byref(mems), byref(params))
        try:
            return _capi.memory_types_of(mems), _capi.strings_of(params)
        finally:
            capi.nixl_capi_destroy_mem_list(mems)
            capi.nixl_capi_destroy_params(params)

    def get_plugin_list(self) -> List[str]:
        return list(self.plugin_list)

    def get_plugin_mem_types(self, backend: str) -> List[str]:
        return self._plugin(backend)[0]

    def get_plugin_params(self, backend: str) -> Dict[str, str]:
        return self._plugin(backend)[1]

    def _plugin(self, backend: str):
        if backend not in self.plugin_list:
            return [], {}
        return self._described("get_plugin_params", backend.encode())

    def get_backend_mem_types(self, backend: str) -> List[str]:
        return self._backend(backend)[0]

    def get_backend_params(self, backend: str) -> Dict[str, str]:
        return self._backend(backend)[1]

    def _backend(self, backend: str):
        if backend not in self.backends:
            return [], {}
        return self._described("get_backend_params", self.backends[backend])

    def create_backend(self, backend: str, initParams: Optional[Dict[str, str]] = None) -> None:
        handle = c_void_p()
        with Made("create_params", "destroy_params") as params:
            for key, value in (initParams or {}).items():
                check(capi.nixl_capi_params_add(params, str(key).encode(), str(value).encode()))
            self._call("create_backend", backend.encode(), params, byref(handle),
                       what=f"backend {backend}")
        self.backends[backend] = handle.value

    def _handles(self, backends) -> List[int]:
        try:
            return [self.backends[backend] for backend in backends]
        except KeyError as error:
            raise _capi.nixlNotFoundError(f"no backend {error.args[0]!r} was created") from None

    # Memory

    def get_reg_descs(self, descs: Any, mem_type: Optional[str] = None, is_sorted: bool = False):
        """A list to register, of tuples (address, length, device, meta), an N x 3 array, a tensor,
        or several."""
        return _listed(nixlRegDList, descs, mem_type)

    def get_xfer_descs(self, descs: Any, mem_type: Optional[str] = None, is_sorted: bool = False):
        """A list to move, of tuples (address, length, device), an N x 3 array of uint64 (of which
        nothing is copied), a tensor, or several."""
        return _listed(nixlXferDList, descs, mem_type)

    def register_memory(self, reg_list: Any, mem_type: Optional[str] = None,
                        backends: Sequence[str] = (), **_) -> nixlRegDList:
        """Make memory known. It is verified here; a tensor stays alive until it is deregistered."""
        descs = self.get_reg_descs(reg_list, mem_type)
        with descs.made() as made, options(self._handles(backends)) as how:
            self._call("register_mem", made, how)
        if descs.owners:
            for desc, owner in zip(descs, descs.owners):
                self._owners.setdefault(desc[:3], []).append(owner)
        return descs

    def deregister_memory(self, dereg_list: nixlRegDList, backends: Sequence[str] = ()) -> None:
        """Take memory back: nobody reaches it any more when this returns."""
        with dereg_list.made() as made, options(self._handles(backends)) as how:
            self._call("deregister_mem", made, how)
        if self._owners:
            for desc in dereg_list:
                owners = self._owners.get(desc[:3])
                if owners:
                    owners.pop()

    def query_memory(self, reg_list: Any, backend: str, mem_type: Optional[str] = None) -> list:
        """Of files and objects, which lend has not: raises nixlBackendError."""
        with self.get_reg_descs(reg_list, mem_type).made() as made, \
                Made("create_query_resp_list", "destroy_query_resp_list") as answers, \
                options(self._handles([backend])) as how:
            self._call("query_mem", made, answers, how)
        return []

    # Metadata and peers

    def get_agent_metadata(self) -> bytes:
        """What a peer must know. Keep it as a key: who has it may read and write what is
        registered."""
        return self._taken("get_local_md")

    def get_partial_agent_metadata(self, descs: nixlRegDList, inc_conn_info: bool = False,
                                   backends: Sequence[str] = ()) -> bytes:
        with descs.made() as made, options(self._handles(backends)) as how:
            data, count = c_void_p(), c_size_t()
            self._call("get_local_partial_md", made, byref(data), byref(count), how)
            return _capi.owned(data, count.value)

    def _taken(self, function: str) -> bytes:
        data, count = c_void_p(), c_size_t()
        self._call(function, byref(data), byref(count))
        return _capi.owned(data, count.value)

    def add_remote_agent(self, metadata: bytes) -> bytes:
        """Know a peer, or a newer life of one. Its name, as bytes."""
        metadata, name = bytes(metadata), c_void_p()
        self._call("load_remote_md", metadata, len(metadata), byref(name))
        return _capi.owned(name)

    def remove_remote_agent(self, agent: Union[str, bytes]) -> None:
        self._call("invalidate_remote_md", _name(agent), what=f"agent {agent!r}")

    def make_connection(self, remote_agent: Union[str, bytes],
                        backends: Sequence[str] = ()) -> None:
        with options(self._handles(backends)) as how:
            self._call("agent_make_connection", _name(remote_agent), how)

    def check_remote_metadata(self, agent: Union[str, bytes],
                              descs: Optional[nixlXferDList] = None) -> bool:
        if descs is None:
            return self._status("check_remote_md", _name(agent), None) == _capi.SUCCESS
        with descs.made() as made:
            return self._status("check_remote_md", _name(agent), made) == _capi.SUCCESS

    def send_local_metadata(self, ip_addr: str = "", port: int = DEFAULT_COMM_PORT) -> None:
        with options((), None, ip_addr, port) as how:
            self._call("send_local_md", how)

    def send_partial_agent_metadata(self, descs: nixlRegDList, inc_conn_info: bool = False,
                                    backends: Sequence[str] = (), ip_addr: str = "",
                                    port: int = DEFAULT_COMM_PORT, label: str = "") -> None:
        with descs.made() as made, options(self._handles(backends), None, ip_addr, port) as how:
            self._call("send_local_partial_md", made, how)

    def fetch_remote_metadata(self, remote_agent: Union[str, bytes], ip_addr: str = "",
                              port: int = DEFAULT_COMM_PORT, label: str = "") -> None:
        with options((), None, ip_addr, port) as how:
            self._call("fetch_remote_md", _name(remote_agent), how)

    def invalidate_local_metadata(self, ip_addr: str = "", port: int = DEFAULT_COMM_PORT) -> None:
        with options((), None, ip_addr, port) as how:
            self._call("invalidate_local_md", how)

    def get_serialized_descs(self, descs) -> bytes:
        """The list as bytes; no pickle."""
        return descs.serialize()

    def deserialize_descs(self, serialized_descs: bytes):
        """The list of such bytes, which are checked. Pickles, as NIXL writes, are refused."""
        return deserialized(serialized_descs)

    # Transfers

    def prep_xfer_dlist(self, agent_name: Union[str, bytes], xfer_list: Any,
                        mem_type: Optional[str] = None, backends: Sequence[str] = (),
                        **_) -> nixl_prepped_dlist_handle:
        """Look a list up once. agent_name: "NIXL_INIT_AGENT" or "" for our own memory, a peer, or
        ourselves."""
        name = _name(agent_name)
        name = b"" if name == b"NIXL_INIT_AGENT" else name
        descs = self.get_xfer_descs(xfer_list, mem_type)
        rows = _table.rows_of(descs.rows()) if _table.numpy is not None else None
        handle = None
        if isinstance(rows, _table.Runs):
            handle, rows = self._runs_looked_up(name, descs, rows, backends)
        if handle is None:
            handle = self._looked_up(name, descs, backends)
        probe = None
        if rows is not None and rows.first() is not None:
            address, _, device = rows.first()
            probe = self._looked_up(name, nixlXferDList(descs.getType(), [(address, 1, device)]),
                                    backends)
        return nixl_prepped_dlist_handle(self, handle, name, descs.getType(), rows, probe)

    def _runs_looked_up(self, name: bytes, descs: nixlXferDList, runs: Any, backends):
        """The ranges around its runs, cut where a registration ends, looked up. (None, rows): they
        are in none, and the list itself tells which descriptor is not."""
        def registration(row):
            around = _capi.Range(*row)
            if self._status("find_registration", name, descs.getType(), byref(around)) < 0:
                return None
            return around.addr, around.len

        runs = runs.cut(registration)
        if runs is None:
            return None, _table.Rows(descs.rows())
        around = nixlXferDList(descs.getType(), runs.hulls())
        return self._looked_up(name, around, backends), runs

    def _looked_up(self, name: bytes, descs: nixlXferDList, backends) -> Optional[int]:
        handle = c_void_p()
        with descs.made() as made, options(self._handles(backends)) as how:
            self._call("prep_xfer_dlist", name, made, byref(handle), how)
        return handle.value

    def make_prepped_xfer(self, operation: str, local_xfer_side: nixl_prepped_dlist_handle,
                          local_indices: Any, remote_xfer_side: nixl_prepped_dlist_handle,
                          remote_indices: Any, notif_msg: bytes = b"", backends: Sequence[str] = (),
                          skip_desc_merge: bool = False) -> nixl_xfer_handle:
        """A request for pairs of descriptors of two prepared lists, by their numbers: lists, or
        arrays of NumPy."""
        local, remote = _Indices(local_indices), _Indices(remote_indices)
        sides = local_xfer_side, remote_xfer_side
        with options(self._handles(backends), _message(notif_msg)) as how:
            if any(isinstance(side._rows, _table.Runs) for side in sides):
                return self._made_of_rows(_operation(operation), sides, (local, remote), how)
            return nixl_xfer_handle(self, self._made(
                _operation(operation), sides[0]._handle, local, sides[1]._handle, remote, how))

    def _made(self, operation, local, local_indices, remote, remote_indices,
              how) -> Optional[int]:
        handle = c_void_p()
        self._call("make_xfer_req", operation, local, local_indices.address, local_indices.count,
                   remote, remote_indices.address, remote_indices.count, byref(handle), how)
        return handle.value

    def _made_of_rows(self, operation, sides, indices, how) -> nixl_xfer_handle:
        """A request for rows, which are looked up now, of the peer that is known now; therefore
        the lists are asked afterwards whether it is the one of then."""
        lists = []
        for side, numbers in zip(sides, indices):
            if side._handle is None or side._probe is None:
                raise _capi.nixlInvalidParamError("the list was released, or is empty")
            rows = side._rows.take(numbers.checked(len(side._rows)))
            lists.append(nixlXferDList.of(side._type, rows))
        handle, only = c_void_p(), _Indices([0])
        with lists[0].made() as local, lists[1].made() as remote:
            self._call("create_xfer_req", operation, local, remote, sides[1]._name, byref(handle),
                       how)
        made = nixl_xfer_handle(self, handle.value)
        nixl_xfer_handle(self, self._made(operation, sides[0]._probe, only, sides[1]._probe, only,
                                          None)).release()
        return made

    def initialize_xfer(self, operation: str, local_descs: nixlXferDList,
                        remote_descs: nixlXferDList, remote_agent: Union[str, bytes],
                        notif_msg: bytes = b"", backends: Sequence[str] = ()) -> nixl_xfer_handle:
        handle = c_void_p()
        with local_descs.made() as local, remote_descs.made() as remote, \
                options(self._handles(backends), _message(notif_msg)) as how:
            self._call("create_xfer_req", _operation(operation), local, remote,
                       _name(remote_agent), byref(handle), how)
        return nixl_xfer_handle(self, handle.value)

    def estimate_xfer_cost(self, req_handle: nixl_xfer_handle):
        """A guess: (microseconds, as large a margin, 0)."""
        duration, margin, method = c_int64(), c_int64(), c_int()
        self._call("estimate_xfer_cost", req_handle._handle, None, byref(duration), byref(margin),
                   byref(method))
        return duration.value, margin.value, method.value

    def transfer(self, handle: nixl_xfer_handle, notif_msg: bytes = b"") -> str:
        """Start it: "DONE" or "PROC"."""
        if notif_msg:
            with options((), _message(notif_msg)) as how:
                return _STATES[self._call("post_xfer_req", handle._handle, how)]
        return _STATES[self._call("post_xfer_req", handle._handle, None)]

    def check_xfer_state(self, handle: nixl_xfer_handle) -> str:
        """"DONE", "PROC", or "ERR" for one that failed."""
        status = self._status("get_xfer_status", handle._handle)
        if status == _capi.INVALID_PARAM:
            check(status, "the request was released")
        return _STATES.get(status, "ERR")

    def query_xfer_backend(self, handle: nixl_xfer_handle) -> str:
        with Made("query_xfer_backend", "destroy_backend", self._handle, handle._handle):
            return next(iter(self.backends))

    def get_xfer_telemetry(self, handle: nixl_xfer_handle) -> nixlXferTelemetry:
        told = _capi.Telemetry()
        self._call("get_xfer_telemetry", handle._handle, byref(told))
        return nixlXferTelemetry(told.start_time_us, told.post_duration_us, told.xfer_duration_us,
                                 told.total_bytes, told.desc_count)

    def release_xfer_handle(self, handle: nixl_xfer_handle) -> None:
        """Give a request up: not one byte of it lands when this has returned. One that is not quiet
        in time raises nixlBackendError: release it again."""
        handle.release()

    def release_dlist_handle(self, handle: nixl_prepped_dlist_handle) -> None:
        handle.release()

    def prep_mem_view(self, *_, **__):
        """For code on a GPU, which lend has not."""
        raise _capi.nixlBackendError("NIXL_ERR_NOT_SUPPORTED: there are no views here")

    release_mem_view = prep_mem_view

    # Notifications

    def get_new_notifs(self, backends: Sequence[str] = ()) -> Dict[str, List[bytes]]:
        """What has come since the last call, by the names of agents."""
        found: Dict[str, List[bytes]] = {}
        with Made("create_notif_map", "destroy_notif_map") as there:
            self._call("get_notifs", there, None)
            count, name = c_size_t(), c_char_p()
            data, length = c_void_p(), c_size_t()
            check(capi.nixl_capi_notif_map_size(there, byref(count)))
            for index in range(count.value):
                check(capi.nixl_capi_notif_map_get_agent_at(there, index, byref(name)))
                messages, number = [], c_size_t()
                check(capi.nixl_capi_notif_map_get_notifs_size(there, name, byref(number)))
                for which in range(number.value):
                    check(capi.nixl_capi_notif_map_get_notif(there, name, which, byref(data),
                                                             byref(length)))
                    messages.append(ctypes.string_at(data, length.value))
                found[name.value.decode()] = messages
        return found

    def update_notifs(self, backends: Sequence[str] = ()) -> Dict[str, List[bytes]]:
        """All that has come and was not taken out of `notifs`."""
        for name, messages in self.get_new_notifs().items():
            self.notifs.setdefault(name, []).extend(messages)
        return self.notifs

    def check_remote_xfer_done(self, remote_agent_name: Union[str, bytes], lookup_tag: bytes,
                               backends: Sequence[str] = (), tag_is_prefix: bool = True) -> bool:
        """Has a notification with that tag come? It is taken out."""
        lookup_tag = _message(lookup_tag) or b""
        messages = self.update_notifs().get(_name(remote_agent_name).decode(), [])
        for message in messages:
            if message.startswith(lookup_tag) if tag_is_prefix else lookup_tag in message:
                messages.remove(message)
                return True
        return False

    def send_notif(self, remote_agent_name: Union[str, bytes], notif_msg: bytes,
                   backend: Optional[str] = None) -> None:
        message = notif_msg.encode() if isinstance(notif_msg, str) else bytes(notif_msg)
        self._call("gen_notif", _name(remote_agent_name), message, len(message), None)


def _name(name: Union[str, bytes]) -> bytes:
    return name.encode() if isinstance(name, str) else bytes(name)


def _message(message: Union[str, bytes, None]) -> Optional[bytes]:
    """A notification that goes with a transfer; an empty one is none, as in NIXL."""
    if not message:
        return None
    return message.encode() if isinstance(message, str) else bytes(message)


def _operation(operation: str) -> int:
    if operation not in _capi.OPERATIONS:
        raise _capi.nixlInvalidParamError(f"operation {operation!r}: READ or WRITE")
    return _capi.OPERATIONS[operation]


class _Indices:
    """Numbers of descriptors as C's int, copied only where they are something else."""

    __slots__ = ("address", "count", "_keep", "_numbers")

    def __init__(self, numbers: Any):
        if hasattr(numbers, "astype"):
            narrow = numbers.astype("int32", order="C", copy=False)
            if narrow is not numbers and not (narrow == numbers).all():
                raise _capi.nixlInvalidParamError("the number of a descriptor is over 31 bits")
        elif isinstance(numbers, array.array) and numbers.typecode == "i":
            narrow = numbers
        else:
            try:
                narrow = array.array("i", numbers)
            except (OverflowError, TypeError) as error:
                raise _capi.nixlInvalidParamError(f"numbers of descriptors: {error}") from None
        self.count = len(narrow)
        export = _capi.exported(narrow)
        self.address, self._keep, self._numbers = export.view.buf, export, narrow

    def checked(self, count: int):
        """As an array of NumPy, for a list of so many descriptors."""
        numbers = _table.numpy.asarray(self._numbers)
        if len(numbers) == 0 or numbers.min() < 0 or numbers.max() >= count:
            raise _capi.nixlInvalidParamError(f"numbers of descriptors: there are {count}")
        return numbers


def _listed(kind, descs: Any, mem_type: Optional[str]):
    if isinstance(descs, kind):
        return descs
    if isinstance(descs, (nixlRegDList, nixlXferDList)):
        raise _capi.nixlInvalidParamError(f"a {kind.__name__} is wanted")
    is_array = hasattr(descs, "dtype") and hasattr(descs, "flags") and hasattr(descs, "shape")
    if is_array and mem_type is not None:
        return of_rows(kind, descs, mem_type)
    if not isinstance(descs, (list, tuple)):
        return of_tensors(kind, [descs])
    if descs and not isinstance(descs[0], tuple):
        return of_tensors(kind, descs)
    if mem_type is None:
        raise _capi.nixlInvalidParamError("tuples need a type of memory")
    return kind(mem_type, descs)


def _close_all() -> None:
    """Before the interpreter goes."""
    for agent in list(_agents):
        agent._close()


atexit.register(_close_all)
