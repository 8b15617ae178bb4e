# SPDX-License-Identifier: Apache-2.0
"""What programs take from nixl._bindings: numbers, exceptions, and lists of descriptors."""
from ._api import DEFAULT_COMM_PORT, nixlXferTelemetry
from ._capi import (nixlBackendError, nixlError, nixlInvalidParamError, nixlNoTelemetryError,
                    nixlNotAllowedError, nixlNotFoundError, nixlUnknownError)
from ._descs import nixlRegDList, nixlXferDList

DRAM_SEG, VRAM_SEG, BLK_SEG, OBJ_SEG, FILE_SEG = range(5)
NIXL_READ, NIXL_WRITE = range(2)
NIXL_SUCCESS, NIXL_IN_PROG = 0, 1
NIXL_THREAD_SYNC_NONE, NIXL_THREAD_SYNC_STRICT, NIXL_THREAD_SYNC_RW = range(3)
NIXL_INIT_AGENT = ""

# Failures that are never raised here, for programs that catch them.
nixlRemoteDisconnectError = type("nixlRemoteDisconnectError", (nixlError,), {})
nixlCancelledError = type("nixlCancelledError", (nixlError,), {})
nixlNotSupportedError = type("nixlNotSupportedError", (nixlError,), {})
nixlNotPostedError = type("nixlNotPostedError", (nixlError,), {})
nixlMismatchError = type("nixlMismatchError", (nixlError,), {})
nixlRepostActiveError = type("nixlRepostActiveError", (nixlError,), {})

__all__ = [
    "BLK_SEG", "DEFAULT_COMM_PORT", "DRAM_SEG", "FILE_SEG", "NIXL_INIT_AGENT", "NIXL_IN_PROG",
    "NIXL_READ", "NIXL_SUCCESS", "NIXL_THREAD_SYNC_NONE", "NIXL_THREAD_SYNC_RW",
    "NIXL_THREAD_SYNC_STRICT", "NIXL_WRITE", "OBJ_SEG", "VRAM_SEG", "nixlBackendError",
    "nixlCancelledError", "nixlError", "nixlInvalidParamError", "nixlMismatchError",
    "nixlNoTelemetryError", "nixlNotAllowedError", "nixlNotFoundError", "nixlNotPostedError",
    "nixlNotSupportedError", "nixlRegDList", "nixlRemoteDisconnectError", "nixlRepostActiveError",
    "nixlUnknownError", "nixlXferDList", "nixlXferTelemetry",
]
