# SPDX-License-Identifier: Apache-2.0
"""NIXL's Python interface on lend: ``nixl_agent`` and ``nixl_agent_config``, as NIXL has them.

A program that says ``from nixl._api import nixl_agent`` runs unchanged after

    import lend.nixl.shim

anywhere before, or where the distribution lend-nixl-shim is installed, which has a package ``nixl``
with nothing else in it. docs/nixl.md says what is promised, and what differs.
"""
from ._api import (DEFAULT_COMM_PORT, nixl_agent, nixl_agent_config, nixl_prepped_dlist_handle,
                   nixl_xfer_handle, nixlXferTelemetry)
from ._capi import nixlError
from ._descs import nixlRegDList, nixlXferDList

__all__ = ["DEFAULT_COMM_PORT", "nixlError", "nixlRegDList", "nixlXferDList", "nixlXferTelemetry",
           "nixl_agent", "nixl_agent_config", "nixl_prepped_dlist_handle", "nixl_xfer_handle"]
