# SPDX-License-Identifier: Apache-2.0
"""The library itself: found, loaded once, and asked for with the GIL released.

It is the file that LEND_LIBRARY names; else the one inside this package, as wheels have it; else
liblend.so.0 of the system.
"""
from __future__ import annotations

import ctypes
import os
import pathlib
from types import SimpleNamespace

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


def load() -> SimpleNamespace:
    path = path_of(SONAME, "LEND_LIBRARY")
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise ImportError(
            f"lend: {path} cannot be loaded ({error}); install the wheel or the Debian package "
            "liblend0, or name the file in LEND_LIBRARY") from None
    return _abi.declared(library)


lib = load()
__version__ = lib.lend_version().decode()
