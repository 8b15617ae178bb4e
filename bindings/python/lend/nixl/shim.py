# SPDX-License-Identifier: Apache-2.0
"""Let this interpreter find lend where programs look for NIXL.

    import lend.nixl.shim
    from nixl._api import nixl_agent        # lend's

Raises ImportError where NIXL itself was imported before.
"""
import sys

from lend import nixl
from lend.nixl import _api, _bindings

if sys.modules.get("nixl") not in (None, nixl):
    raise ImportError("lend.nixl.shim: NIXL was imported before; import this first")
sys.modules["nixl"] = nixl
sys.modules["nixl._api"] = _api
sys.modules["nixl._bindings"] = _bindings
