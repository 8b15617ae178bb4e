# SPDX-License-Identifier: Apache-2.0
"""The layouts and numbers of lend's public headers, and the functions that they declare.

Written by hand; tests/python/abi_test.py compares them with the headers, by a C compiler.
"""
from __future__ import annotations

from ctypes import (CFUNCTYPE, POINTER, Structure, c_char, c_char_p, c_int32, c_size_t, c_uint8,
                    c_uint32, c_uint64, c_int64, c_void_p, sizeof)
from types import SimpleNamespace

OK, PENDING = 0, 1

STATUS = {
    "INVALID": -1, "NO_MEMORY": -2, "UNSUPPORTED": -3, "LIMIT": -4, "BUSY": -5, "OVERLAP": -6,
    "MEMORY": -7, "ABSENT": -8, "FORKED": -9, "MISMATCH": -10,
    "UNKNOWN": -16, "OUT_OF_RANGE": -17, "ACCESS": -18, "CONSUMED": -19, "EXPIRED": -20,
    "REVOKED": -21, "STALE": -22, "PEER_DEAD": -23, "TIMEOUT": -24, "CANCELED": -25,
    "NO_PATH": -26, "CORRUPT": -32, "VERSION": -33, "SYSTEM": -48, "DEVICE": -49,
}
E_INVALID, E_LIMIT, E_BUSY, E_ABSENT = -1, -4, -5, -8
E_TIMEOUT, E_CANCELED = -24, -25

AGENT_MANUAL_PROGRESS, AGENT_NO_STATISTICS = 1, 2
AGENT_ALLOW_CROSS_MEMORY, AGENT_SEAL_NETWORKS, AGENT_NEVER_FORKS = 4, 8, 16
AGENT_DMA_BUF_DEFAULT, AGENT_DMA_BUF_PCIE = 32, 64
AGENT_NAME_BYTES_MAX, INCARNATION_BYTES = 63, 16
ACCESS_READ, ACCESS_WRITE = 1, 2
MEMORY_SYSTEM, MEMORY_PINNED, MEMORY_DEVICE, MEMORY_DISK = 1, 2, 3, 4
REGION_ALLOW_OVERLAP, REGION_SHARE_FILE, REGION_PUNCH_OUT = 1, 2, 4
REGION_PREFER_CROSS_MEMORY, REGION_ALLOW_UNFENCED, REGION_SHARE_DEVICE = 8, 16, 32
REGION_NAME_BYTES_MAX, REGION_TAGS_BYTES_MAX = 63, 255
WITHDRAW_DRAIN, WITHDRAW_FORCE = 1, 2
GRANT_STANDING, GRANT_AFTER_STREAM = 1, 2
TICKET_BYTES_MAX = 256
IMPORT_PREFAULT = 1
EXPORT_PARTIAL = 1
READ, WRITE = 1, 2
TRANSFER_ZERO_ON_FAILURE, TRANSFER_CHECKSUM = 1, 2
NOTIFICATION_BYTES_MAX = 16384
PATH_NAME_MAX, PATHS_MAX = 31, 16
STORAGE_HUGE_PAGES, STORAGE_ON_NODE = 1, 2

# What the headers call LEND_ and these names.
CONSTANTS = [name for name in dict(globals()) if name.isupper() and isinstance(
    globals()[name], int)]


class Error(Structure):
    _fields_ = [("status", c_int32), ("sys_errno", c_int32), ("device_code", c_int64),
                ("message", c_char * 240)]


class Sized(Structure):
    """A struct that begins with its size."""

    def __init__(self, **fields):
        super().__init__(**fields)
        self.struct_size = sizeof(type(self))


class Memory(Sized):
    _fields_ = [("struct_size", c_uint32), ("kind", c_uint32), ("address", c_uint64),
                ("length_bytes", c_uint64), ("device", c_int32), ("is_registered", c_uint32)]


class Geometry(Structure):
    _fields_ = [("block_length_bytes", c_uint64), ("stride_bytes", c_uint64), ("count", c_uint64),
                ("inner_stride_bytes", c_uint64), ("inner_count", c_uint64)]


class Owner(Structure):
    _fields_ = [("token", c_void_p), ("retain", c_void_p), ("release", c_void_p)]


class RegionDesc(Sized):
    _fields_ = [("struct_size", c_uint32), ("flags", c_uint32), ("memory", Memory),
                ("geometry", Geometry), ("access", c_uint32), ("share_fd", c_int32),
                ("share_offset_bytes", c_uint64), ("name", c_char_p), ("tags", c_char_p),
                ("owner", Owner)]


class RegionInfo(Sized):
    _fields_ = [("struct_size", c_uint32), ("access", c_uint32), ("id", c_uint64),
                ("memory", Memory), ("geometry", Geometry),
                ("name", c_char * (REGION_NAME_BYTES_MAX + 1)),
                ("tags", c_char * (REGION_TAGS_BYTES_MAX + 1)), ("is_withdrawn", c_uint32),
                ("is_suspended", c_uint32), ("flags", c_uint32), ("life", c_uint32),
                ("is_shared", c_uint32)]


class LeaseInfo(Sized):
    _fields_ = [("struct_size", c_uint32), ("status", c_int32), ("id", c_uint64),
                ("access", c_uint32), ("consumer_count", c_uint32), ("consumers_done", c_uint32),
                ("region_count", c_uint32), ("block_count", c_uint64), ("granted_ns", c_uint64),
                ("expires_ns", c_uint64), ("ended_ns", c_uint64), ("requests", c_uint64),
                ("bytes", c_uint64), ("user_data", c_uint64),
                ("peer", c_char * (AGENT_NAME_BYTES_MAX + 1)),
                ("last_user", c_char * (AGENT_NAME_BYTES_MAX + 1))]


ON_LOG = CFUNCTYPE(None, c_void_p, c_int32, c_char_p)
ON_LEASE_END = CFUNCTYPE(None, c_void_p, POINTER(LeaseInfo))


class AgentConfig(Sized):
    _fields_ = [("struct_size", c_uint32), ("flags", c_uint32), ("name", c_char_p),
                ("transports", c_char_p), ("transports_required", c_char_p),
                ("local_directory", c_char_p), ("local_mode", c_uint32),
                ("local_is_abstract", c_uint32), ("listen", c_char_p), ("advertise", c_char_p),
                ("ucx_devices", c_char_p), ("ucx_transports", c_char_p), ("ucx_library", c_char_p),
                ("nixl_devices", c_char_p), ("nixl_transports", c_char_p),
                ("nixl_library", c_char_p), ("verbs_devices", c_char_p), ("secret", c_char_p),
                ("secret_bytes", c_uint32), ("verbs_queue_pairs", c_uint32),
                ("secret_plugin", c_char_p),
                ("on_log", ON_LOG), ("on_lease_end", ON_LEASE_END), ("context", c_void_p),
                ("regions_max", c_uint32), ("leases_max", c_uint32), ("peers_max", c_uint32),
                ("transfers_max", c_uint32), ("requests_per_peer_max", c_uint32),
                ("leases_per_peer_max", c_uint32), ("notification_window_bytes", c_uint32),
                ("local_ring_bytes", c_uint32), ("bytes_per_peer_max", c_uint64),
                ("connect_timeout_ns", c_uint64), ("transfer_timeout_ns", c_uint64),
                ("slot_rest_ns", c_uint64), ("spin_ns", c_uint64)]


class BlockSet(Structure):
    _fields_ = [("regions", POINTER(c_void_p)), ("region_count", c_uint32),
                ("index_bits", c_uint32), ("blocks", c_void_p), ("first", c_uint64),
                ("count", c_uint64)]


class GrantDesc(Sized):
    _fields_ = [("struct_size", c_uint32), ("access", c_uint32), ("sets", POINTER(BlockSet)),
                ("set_count", c_uint32), ("consumer_count", c_uint32), ("peer", c_void_p),
                ("time_to_live_ns", c_uint64), ("user_data", c_uint64), ("flags", c_uint32),
                ("reserved", c_uint32), ("stream", c_uint64)]


class ExportDesc(Sized):
    _fields_ = [("struct_size", c_uint32), ("flags", c_uint32), ("regions", POINTER(c_void_p)),
                ("region_count", c_uint32), ("reserved", c_uint32)]


class ImportDesc(Sized):
    _fields_ = [("struct_size", c_uint32), ("flags", c_uint32), ("tags", c_char_p),
                ("secret", c_char_p), ("secret_bytes", c_uint32), ("reserved", c_uint32)]


class PeerInfo(Sized):
    _fields_ = [("struct_size", c_uint32), ("status", c_int32),
                ("name", c_char * (AGENT_NAME_BYTES_MAX + 1)),
                ("incarnation", c_uint8 * INCARNATION_BYTES), ("region_count", c_uint32),
                ("transport", c_char * 16)]


class Slice(Structure):
    _fields_ = [("offset_bytes", c_uint64), ("length_bytes", c_uint64)]


class Range(Structure):
    _fields_ = [("address", c_uint64), ("length_bytes", c_uint64)]


class TransferDesc(Sized):
    _fields_ = [("struct_size", c_uint32), ("flags", c_uint32), ("direction", c_uint32),
                ("region_count", c_uint32), ("peer", c_void_p),
                ("local_regions", POINTER(c_void_p)), ("remote_regions", POINTER(c_uint64)),
                ("local_slice", Slice), ("remote_slice", Slice), ("block_count_max", c_uint64),
                ("paths", c_char_p), ("local_ranges", c_void_p), ("remote_ranges", c_void_p),
                ("range_count", c_uint64), ("local_list", c_void_p), ("remote_list", c_void_p),
                ("local_indices", c_void_p), ("remote_indices", c_void_p)]


class PostDesc(Sized):
    _fields_ = [("struct_size", c_uint32), ("index_bits", c_uint32), ("ticket", c_void_p),
                ("local_blocks", c_void_p), ("remote_blocks", c_void_p),
                ("block_count", c_uint64), ("local_ranges", c_void_p),
                ("remote_ranges", c_void_p), ("range_count", c_uint64),
                ("notification", c_char_p), ("notification_bytes", c_uint64),
                ("timeout_ns", c_uint64), ("user_data", c_uint64)]


class TransferRecord(Sized):
    _fields_ = [("struct_size", c_uint32), ("status", c_int32), ("bytes", c_uint64),
                ("blocks", c_uint64), ("post_ns", c_uint64), ("wire_ns", c_uint64),
                ("user_data", c_uint64), ("path", c_char * 32)]


class NotificationInfo(Sized):
    _fields_ = [("struct_size", c_uint32), ("byte_count", c_uint32),
                ("peer", c_char * (AGENT_NAME_BYTES_MAX + 1)),
                ("incarnation", c_uint8 * INCARNATION_BYTES)]


class PathInfo(Sized):
    _fields_ = [("struct_size", c_uint32), ("status", c_int32), ("is_chosen", c_uint32),
                ("is_one_sided", c_uint32), ("is_fenced", c_uint32), ("must_be_named", c_uint32),
                ("name", c_char * (PATH_NAME_MAX + 1)), ("why", c_char * 240)]


class StorageDesc(Sized):
    _fields_ = [("struct_size", c_uint32), ("flags", c_uint32), ("length_bytes", c_uint64),
                ("numa_node", c_uint32), ("kind", c_uint32), ("name", c_char_p),
                ("device", c_int32), ("reserved", c_uint32), ("memory", c_void_p)]


class Found(Structure):
    _fields_ = [("metadata", c_void_p), ("metadata_bytes", c_size_t), ("attachment", c_void_p),
                ("attachment_bytes", c_size_t)]


# The structs by their names in C, without "lend_".
STRUCTS = {
    "error": Error, "memory": Memory, "geometry": Geometry, "owner": Owner,
    "region_desc": RegionDesc, "region_info": RegionInfo, "lease_info": LeaseInfo,
    "agent_config": AgentConfig, "block_set": BlockSet, "grant_desc": GrantDesc,
    "export_desc": ExportDesc, "import_desc": ImportDesc, "peer_info": PeerInfo, "slice": Slice,
    "range": Range, "transfer_desc": TransferDesc, "post_desc": PostDesc,
    "transfer_record": TransferRecord, "notification_info": NotificationInfo,
    "path_info": PathInfo, "storage_desc": StorageDesc, "found": Found,
}

# A letter for the result and one for each argument: p pointer, s text, z size_t, Q uint64_t,
# I uint32_t, i int32_t or an enum, v nothing.
FUNCTIONS = {
    "lend_version": "s", "lend_status_name": "si",
    "lend_agent_create": "ippp", "lend_agent_destroy": "vp", "lend_agent_incarnation": "vpp",
    "lend_agent_progress": "ipQp", "lend_agent_fd": "ip", "lend_agent_clear": "vp",
    "lend_agent_arm": "ipp", "lend_agent_address": "ippzp", "lend_agent_attach": "ippzp",
    "lend_fetch": "ipsQpp", "lend_found_release": "vp",
    "lend_memory_system": "ipQpp", "lend_memory_pinned": "ipQpp", "lend_memory_device": "iQQipp",
    "lend_region_register": "ippIppp", "lend_region_withdraw": "ipIQp",
    "lend_region_suspend": "ipIQp", "lend_region_resume": "ippiQp",
    "lend_region_deregister": "ipp", "lend_region_describe": "ippp", "lend_region_id": "Qp",
    "lend_lease_grant": "ipppp", "lend_lease_renew": "ipQp", "lend_lease_revoke": "ipp",
    "lend_lease_revoke_blocks": "ipppp", "lend_lease_describe": "ippp",
    "lend_lease_list": "ippIpp", "lend_lease_release": "vp",
    "lend_ticket_export": "ippzpp", "lend_ticket_import": "ippzpp", "lend_ticket_done": "ipp",
    "lend_ticket_release": "vp",
    "lend_metadata_export": "ippzpp", "lend_metadata_export_with": "ipppzpp",
    "lend_peer_import_with": "ippzppp", "lend_peer_refresh": "ippzp", "lend_peer_connect": "ipQp",
    "lend_peer_describe": "ippp", "lend_peer_region": "ipspp", "lend_peer_region_at": "ipIpp",
    "lend_peer_forget": "vp",
    "lend_transfer_prepare": "ipppp", "lend_transfer_post": "ippp", "lend_transfer_test": "ip",
    "lend_transfer_wait": "ipQ", "lend_transfer_cancel": "ipQ", "lend_transfer_describe": "ippp",
    "lend_transfer_release": "ip",
    "lend_notification_send": "ippzp", "lend_notification_receive": "ippzppQp",
    "lend_explain": "ippQIpIpp", "lend_explain_text": "ippQIpzpp",
    "lend_storage_create": "ippp", "lend_storage_address": "pp",
    "lend_storage_length_bytes": "Qp", "lend_storage_describe": "ipQQpp",
    "lend_storage_destroy": "vp", "lend_storage_note": "sp",
}

KINDS = {"p": c_void_p, "s": c_char_p, "z": c_size_t, "Q": c_uint64, "I": c_uint32,
         "i": c_int32, "v": None}


def declared(library) -> SimpleNamespace:
    """The functions, of which ctypes was told the result and the arguments; and no others: ctypes
    would take pointers for ints of 32 bits."""
    functions = SimpleNamespace()
    for name, letters in FUNCTIONS.items():
        function = getattr(library, name)
        function.restype = KINDS[letters[0]]
        function.argtypes = [KINDS[letter] for letter in letters[1:]]
        setattr(functions, name, function)
    return functions
