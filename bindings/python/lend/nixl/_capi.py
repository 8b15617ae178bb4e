# SPDX-License-Identifier: Apache-2.0
"""libnixl_capi.so.0, NIXL's C interface on lend: declared, loaded, and its statuses as exceptions.

It is the file that LEND_NIXL_LIBRARY names; else the one inside this package; else that of the
system. NVIDIA's library has the same functions, but no version in its name, and is not taken.
"""
from __future__ import annotations

import ctypes
import os
from ctypes import Structure, byref, c_bool, c_char_p, c_int, c_size_t
from ctypes import c_uint, c_uint16, c_uint64, c_void_p
from types import SimpleNamespace

from .. import _memory
from .._library import lib, load, plugin  # liblend first: this one finds it loaded

SUCCESS, IN_PROG = 0, 1
INVALID_PARAM, BACKEND, INVALID_STATE, NO_TELEMETRY, NOT_FOUND = -1, -2, -3, -5, -6

MEMORY = {"DRAM": 0, "VRAM": 1, "BLOCK": 2, "OBJ": 3, "FILE": 4, "cpu": 0, "cuda": 1}
MEMORY_NAMES = ("DRAM", "VRAM", "BLOCK", "OBJ", "FILE")
OPERATIONS = {"READ": 0, "WRITE": 1}


class AgentConfig(Structure):
    _fields_ = [("enable_prog_thread", c_bool), ("enable_listen_thread", c_bool),
                ("listen_port", c_int), ("thread_sync", c_int), ("num_workers", c_uint),
                ("pthr_delay_us", c_uint64), ("lthr_delay_us", c_uint64),
                ("capture_telemetry", c_bool)]


class Telemetry(Structure):
    _fields_ = [("start_time_us", c_uint64), ("post_duration_us", c_uint64),
                ("xfer_duration_us", c_uint64), ("total_bytes", c_uint64),
                ("desc_count", c_uint64)]


class Range(Structure):
    _fields_ = [("addr", c_uint64), ("len", c_uint64), ("dev_id", c_uint64)]


# A letter for each argument: p pointer, s text, z size_t, Q uint64_t, H uint16_t, i int, B bool.
FUNCTIONS = {
    "create_configured_agent": "spp", "destroy_agent": "p", "get_local_md": "ppp",
    "get_local_partial_md": "ppppp", "load_remote_md": "ppzp", "invalidate_remote_md": "ps",
    "invalidate_local_md": "pp", "check_remote_md": "psp", "send_local_md": "pp",
    "send_local_partial_md": "ppp", "fetch_remote_md": "psp", "agent_make_connection": "psp",
    "get_available_plugins": "pp", "get_plugin_params": "pspp", "create_backend": "pspp",
    "destroy_backend": "p", "get_backend_params": "pppp", "register_mem": "ppp",
    "deregister_mem": "ppp", "query_mem": "pppp", "create_query_resp_list": "p",
    "destroy_query_resp_list": "p", "prep_xfer_dlist": "psppp",
    "release_xfer_dlist_handle": "pp", "make_xfer_req": "pippzppzpp", "create_xfer_req": "pippspp",
    "estimate_xfer_cost": "pppppp", "post_xfer_req": "ppp", "get_xfer_status": "pp",
    "release_xfer_req": "pp", "destroy_xfer_req": "p", "get_xfer_telemetry": "ppp",
    "find_registration": "psip", "query_xfer_backend": "ppp",
    "get_notifs": "ppp", "gen_notif": "pspzp", "create_notif_map": "p", "destroy_notif_map": "p",
    "notif_map_size": "pp", "notif_map_get_agent_at": "pzp", "notif_map_get_notifs_size": "psp",
    "notif_map_get_notif": "pszpp", "create_xfer_dlist": "ip", "destroy_xfer_dlist": "p",
    "xfer_dlist_add_rows": "ppz", "create_reg_dlist": "ip", "destroy_reg_dlist": "p",
    "reg_dlist_add_desc": "pQzQpz", "destroy_string_list": "p", "string_list_size": "pp",
    "string_list_get": "pzp", "destroy_mem_list": "p", "mem_list_size": "pp", "mem_list_get": "pzp",
    "create_params": "p", "destroy_params": "p", "params_add": "pss", "params_is_empty": "pp",
    "params_create_iterator": "pp", "params_iterator_next": "pppp", "params_destroy_iterator": "p",
    "create_opt_args": "p", "destroy_opt_args": "p", "opt_args_add_backend": "pp",
    "opt_args_set_notif_msg": "ppz", "opt_args_set_has_notif": "pB", "opt_args_set_ip_addr": "ps",
    "opt_args_set_port": "pH",
}
_KINDS = {"p": c_void_p, "s": c_char_p, "z": c_size_t, "Q": c_uint64, "H": c_uint16, "i": c_int,
          "B": c_bool}


def _load() -> SimpleNamespace:
    assert lib
    for variable, name in (("SECRET", "lend-secret.so"), ("ETCD", "lend-etcd.so")):
        if plugin(name):
            os.environ.setdefault(f"LEND_NIXL_{variable}_PLUGIN", plugin(name))
    library = load("libnixl_capi.so.0", "LEND_NIXL_LIBRARY", "lend.nixl", "lend-nixl")
    functions = SimpleNamespace()  # no others: ctypes would take pointers for ints of 32 bits
    for name, letters in FUNCTIONS.items():
        function = getattr(library, f"nixl_capi_{name}")
        function.restype = c_int
        function.argtypes = [_KINDS[letter] for letter in letters]
        setattr(functions, f"nixl_capi_{name}", function)
    return functions


capi = _load()
_free = ctypes.CDLL(None).free
_free.argtypes, _free.restype = [c_void_p], None


class nixlError(Exception):  # NIXL's name
    """A call of NIXL's interface failed. NIXL_LOG_LEVEL=DEBUG says why on the standard error."""


class nixlInvalidParamError(nixlError):
    pass


class nixlBackendError(nixlError):
    pass


class nixlNotAllowedError(nixlError):
    pass


class nixlNotFoundError(nixlError):
    pass


class nixlNoTelemetryError(nixlError):
    pass


class nixlUnknownError(nixlError):
    pass


_ERRORS = {INVALID_PARAM: (nixlInvalidParamError, "NIXL_ERR_INVALID_PARAM"),
           BACKEND: (nixlBackendError, "NIXL_ERR_BACKEND"),
           INVALID_STATE: (nixlNotAllowedError, "NIXL_ERR_NOT_ALLOWED"),
           NO_TELEMETRY: (nixlNoTelemetryError, "NIXL_ERR_NO_TELEMETRY"),
           NOT_FOUND: (nixlNotFoundError, "NIXL_ERR_NOT_FOUND")}


def check(status: int, what: str = "") -> int:
    """The status, unless it is a failure."""
    if status < 0:
        kind, name = _ERRORS.get(status, (nixlUnknownError, "NIXL_ERR_UNKNOWN"))
        raise kind(f"{name}: {what}" if what else name)
    return status


def owned(data: c_void_p, count: int = -1) -> bytes:
    """Bytes that C has allocated for us, or a string."""
    try:
        return ctypes.string_at(data, count)
    finally:
        _free(data)


def exported(thing) -> _memory._Export:
    """A buffer that stays where it is while this lives."""
    return _memory._Export(thing)


class Made:
    """A handle that is ended by a function of its own, however this block is left."""

    def __init__(self, create: str, destroy: str, *arguments):
        self._destroy = getattr(capi, f"nixl_capi_{destroy}")
        handle = c_void_p()
        check(getattr(capi, f"nixl_capi_{create}")(*arguments, byref(handle)))
        self.handle = handle.value

    def filled(self, fill) -> "Made":
        """Itself, after fill(handle); ended where that fails."""
        try:
            fill(self.handle)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __enter__(self):
        return self.handle

    def __exit__(self, *_):
        self._destroy(self.handle)


def options(backends=(), notification=None, address="", port=0) -> Made:
    """Options of a call, as a context."""
    def fill(handle):
        for backend in backends:
            check(capi.nixl_capi_opt_args_add_backend(handle, backend))
        if notification is not None:
            check(capi.nixl_capi_opt_args_set_notif_msg(handle, notification, len(notification)))
            check(capi.nixl_capi_opt_args_set_has_notif(handle, True))
        if address:
            check(capi.nixl_capi_opt_args_set_ip_addr(handle, address.encode()))
            check(capi.nixl_capi_opt_args_set_port(handle, port))

    return Made("create_opt_args", "destroy_opt_args").filled(fill)


def strings_of(params: int) -> dict:
    """The parameters as a dict."""
    is_empty = c_bool()
    found: dict = {}
    check(capi.nixl_capi_params_is_empty(params, byref(is_empty)))
    if is_empty:
        return found
    with Made("params_create_iterator", "params_destroy_iterator", params) as iterator:
        key, value, has_next = c_char_p(), c_char_p(), c_bool(True)
        while has_next:
            check(capi.nixl_capi_params_iterator_next(iterator, byref(key), byref(value),
                                                      byref(has_next)))
            if key.value is None:
                break
            found[key.value.decode()] = (value.value or b"").decode()
    return found


def memory_types_of(mems: int) -> list:
    count, kind = c_size_t(), c_int()
    check(capi.nixl_capi_mem_list_size(mems, byref(count)))
    found = []
    for index in range(count.value):
        check(capi.nixl_capi_mem_list_get(mems, index, byref(kind)))
        found.append(MEMORY_NAMES[kind.value])
    return found
