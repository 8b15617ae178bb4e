# SPDX-License-Identifier: Apache-2.0
"""NIXL's names on lend."""
from lend.nixl._api import *  # noqa: F401,F403
