# SPDX-License-Identifier: Apache-2.0
"""Goal: what Python says of C's structs, constants and functions is what the headers say.

Method: a C program, made of Python's declarations and compiled with the headers, prints sizes,
offsets and values; the prototypes in the headers are read for the kinds of their arguments.
"""
import ctypes
import os
import pathlib
import re
import shlex
import subprocess

import pytest

from lend import _abi

INCLUDE = pathlib.Path(__file__).resolve().parent.parent.parent / "include"
LETTERS = {"uint64_t": "Q", "uint32_t": "I", "int32_t": "i", "size_t": "z", "void": "v"}


def printed_by_c(folder, lines):
    """What a C program prints: a number for each expression."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    body = "".join(f'    printf("%lld\\n", (long long)({line}));\n' for line in lines)
    source = folder / "print.c"
    source.write_text("#include <lend/lend.h>\n#include <stddef.h>\n#include <stdio.h>\n"
                      f"int main(void)\n{{\n{body}    return 0;\n}}\n")
    subprocess.run([*compiler, "-I", str(INCLUDE), "-o", str(folder / "print"), str(source)],
                   check=True)
    said = subprocess.run([str(folder / "print")], check=True, capture_output=True, text=True)
    return [int(number) for number in said.stdout.split()]


def test_structs_have_the_sizes_and_offsets_of_the_headers(tmp_path):
    wanted = {}
    for name, struct in _abi.STRUCTS.items():
        wanted[f"sizeof(struct lend_{name})"] = ctypes.sizeof(struct)
        for field, kind, *_ in struct._fields_:
            wanted[f"offsetof(struct lend_{name}, {field})"] = getattr(struct, field).offset
            wanted[f"sizeof(((struct lend_{name} *)0)->{field})"] = ctypes.sizeof(kind)
    assert dict(zip(wanted, printed_by_c(tmp_path, wanted))) == wanted


def test_structs_have_all_fields_of_the_headers():
    text = "".join(path.read_text() for path in INCLUDE.rglob("*.h"))
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    for name, struct in _abi.STRUCTS.items():
        body = re.search(rf"struct lend_{name} \{{(.*?)\n\}};", text, re.S)[1]
        names = [re.search(r"(\w+)(?:\[[^]]*\])?$|\(\*(\w+)\)", line.strip().split(")(")[0] + (
            ")" if ")(" in line else "")) for line in body.split(";") if line.strip()]
        assert [found[1] or found[2] for found in names] == [
            field for field, *_ in struct._fields_], name


def test_constants_have_the_values_of_the_headers(tmp_path):
    wanted = {f"LEND_{name}": getattr(_abi, name) for name in _abi.CONSTANTS}
    wanted |= {f"LEND_E_{name}": value for name, value in _abi.STATUS.items()}
    assert len(wanted) > 60
    assert dict(zip(wanted, printed_by_c(tmp_path, wanted))) == wanted


def test_every_failure_of_the_headers_has_an_exception():
    text = (INCLUDE / "lend/status.h").read_text()
    names = set(re.findall(r"^    LEND_E_(\w+) =", text, re.M))
    assert names == set(_abi.STATUS)


def letter(parameter):
    """The kind of a parameter, as _abi.FUNCTIONS has it."""
    parameter = parameter.replace("const ", "").strip()
    if re.match(r"char \*", parameter):
        return "s"
    if "*" in parameter or "[" in parameter:
        return "p"
    if parameter.startswith("enum "):
        return "i"
    return LETTERS[parameter.split()[0]]


def prototypes():
    text = "".join(path.read_text() for path in sorted(INCLUDE.rglob("*.h")))
    text = re.sub(r"/\*.*?\*/|^#.*?$", "", text, flags=re.S | re.M)
    for match in re.finditer(r"LEND_API\s+(?:LEND_MUST_USE\s+)?([^;()]*?)(\w+)\(([^;]*?)\);", text):
        result, name, parameters = (" ".join(part.split()) for part in match.groups())
        yield name, letter(result) + "".join(
            letter(one) for one in parameters.split(",") if one.strip() != "void")


def test_functions_have_the_arguments_of_the_headers():
    there = dict(prototypes())
    assert len(there) > 80
    for name, letters in _abi.FUNCTIONS.items():
        # Text that C writes is room, which ctypes has as a pointer.
        assert there[name].replace("s", "p") == letters.replace("s", "p"), name


def test_every_function_that_is_declared_is_in_the_library():
    from lend._library import lib

    for name in _abi.FUNCTIONS:
        assert getattr(lib, name).argtypes is not None


def test_functions_of_nixl_have_the_arguments_of_its_header():
    try:
        from lend.nixl import _capi
    except ImportError:
        pytest.skip("this build has no libnixl_capi")
    header = INCLUDE.parent / "compat/nixl/include/nixl_capi.h"
    text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.S)
    there = {}
    for name, parameters in re.findall(r"nixl_capi_status_t\s+nixl_capi_(\w+)\(([^;]*?)\);", text):
        there[name] = "".join(nixl_letter(" ".join(one.split())) for one in parameters.split(","))
    assert len(there) > 90
    for name, letters in _capi.FUNCTIONS.items():
        assert there[name] == letters.replace("s", "p"), name


def nixl_letter(parameter):
    """The kind of a parameter, as _capi.FUNCTIONS has it; of text and handles, p."""
    kind = parameter.replace("const ", "").rpartition(" ")[0]
    if "*" in parameter or kind.endswith("_t") and kind.startswith("nixl_capi") and not kind in (
            "nixl_capi_mem_type_t", "nixl_capi_xfer_op_t"):
        return "p"
    return {"size_t": "z", "uintptr_t": "Q", "uint64_t": "Q", "uint16_t": "H", "bool": "B"}.get(
        kind, "i")


@pytest.mark.parametrize("name", ["_errors", "_memory", "_geometry", "_agent", "_peer", "_cache",
                                  "nixl._descs"])
def test_examples_in_the_documentation_run(name):
    import doctest
    import importlib

    if name.startswith("nixl"):
        try:
            importlib.import_module("lend.nixl")
        except ImportError:
            pytest.skip("this build has no libnixl_capi")
    done = doctest.testmod(importlib.import_module(f"lend.{name}"))
    assert done.attempted > 0 and done.failed == 0
