# SPDX-License-Identifier: Apache-2.0
"""The library itself: found, loaded once, and asked for with the GIL released.

It is the file that LEND_LIBRARY names; else the one inside this package, as wheels have it; else
liblend.so.0 of the system.
"""
from __future__ import annotations

import ctypes
import os
import pathlib

from . import _abi

SONAME = "liblend.so.0"
FOLDER = pathlib.Path(__file__).resolve().parent / "_lib"


def path_of(soname: str, variable: str) -> str:
    """Where a library of ours is: a path, or a bare name for the dynamic loader."""
    named = os.environ.get(variable)
    if named:
        return named
    inside = FOLDER / soname
    return str(inside) if inside.exists() else soname


def plugin(name: str):
    """The file of a plugin inside this package, or None: then liblend knows where they are."""
    inside = FOLDER / name
    return str(inside) if inside.exists() else None


def load(soname: str, variable: str, module: str, package: str) -> ctypes.CDLL:
    """A library of ours for that module; the Debian package has it, too."""
    path = path_of(soname, variable)
    try:
        return ctypes.CDLL(path)
    except OSError as error:
        raise ImportError(
            f"{module}: {path} cannot be loaded ({error}); install the wheel or the Debian package "
            f"{package}, or name the file in {variable}") from None


lib = _abi.declared(load(SONAME, "LEND_LIBRARY", "lend", "liblend0"))
__version__ = lib.lend_version().decode()
