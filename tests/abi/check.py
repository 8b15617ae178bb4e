# SPDX-License-Identifier: Apache-2.0
"""Goal: users see what the headers declare, and nothing else; and the library stays small.

Method: the public headers, the map and the shared library are asked for the names that they export,
and must agree; every global name of the static library begins with the library's prefix; the shared
library needs libc alone (and liblend, where it stands on that) and has its SONAME; without debug
information it is under the budget.

Use: check.py SHARED STATIC MAP INCLUDE [lend | nixl_capi]
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

# What each library may be. Names inside it begin with one of the prefixes; those outside, with the
# first.
KINDS = {
    "lend": {"api": "LEND_API", "prefixes": ("lend_",), "soname": "liblend.so.0",
             "needed": {"libc.so.6"}, "stripped_bytes_max": 640 * 1024},
    "nixl_capi": {"api": "NIXL_CAPI_API", "prefixes": ("nixl_capi_", "compat_"),
                  "soname": "libnixl_capi.so.0", "needed": {"libc.so.6", "liblend.so.0"},
                  "stripped_bytes_max": 200 * 1024},
}


def ask(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def declared_in(include, api):
    text = "".join(path.read_text() for path in sorted(pathlib.Path(include).rglob("*.h")))
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    text = re.sub(r"^\s*#.*(?:\\\n.*)*$", "", text, flags=re.M)
    return set(re.findall(rf"\b{api}\b[^;(]*?(\w+)\(", text))


def main():
    shared, static, map_file, include, *name = sys.argv[1:]
    kind = KINDS[name[0] if name else "lend"]
    wrong = []

    declared = declared_in(include, kind["api"])
    listed = set(re.findall(rf"^\s+({kind['prefixes'][0]}\w+);",
                            pathlib.Path(map_file).read_text(), re.M))
    exported = {line.split()[-1].split("@")[0] for line in ask("nm", "-D", "--defined-only", shared)
                .splitlines() if line.split()[-2] != "A"}
    if not declared:
        wrong.append(f"no function is declared under {include}")
    for who, names in (("the map", listed), ("the library", exported)):
        for name in sorted(declared - names):
            wrong.append(f"{name}: declared, and not in {who}")
        for name in sorted(names - declared):
            wrong.append(f"{name}: in {who}, and not declared")

    is_instrumented = False
    for line in ask("nm", "-g", "--defined-only", static).splitlines():
        fields = line.split()
        if len(fields) == 3 and not fields[2].startswith(kind["prefixes"]):
            if re.match(r"_*(asan|tsan|ubsan|sancov|llvm|odr_asan|DW)", fields[2]):
                is_instrumented = True
                continue
            wrong.append(f"{fields[2]}: a global name of the static library")

    dynamic = ask("readelf", "-d", shared)
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic))
    is_instrumented |= any(re.match(r"lib(asan|tsan|ubsan)", name) for name in needed)
    if not is_instrumented and needed != kind["needed"]:
        wrong.append(f"it needs {', '.join(sorted(needed))}, "
                     f"not {', '.join(sorted(kind['needed']))}")
    if f"[{kind['soname']}]" not in "".join(re.findall(r".*\(SONAME\).*", dynamic)):
        wrong.append(f"its SONAME is not {kind['soname']}")

    with tempfile.TemporaryDirectory() as folder:
        stripped = os.path.join(folder, "liblend.so")
        ask("strip", "-o", stripped, shared)
        size = os.path.getsize(stripped)
    if not is_instrumented and size > kind["stripped_bytes_max"]:
        wrong.append(f"stripped, it has {size} bytes; "
                     f"the budget is {kind['stripped_bytes_max']}")

    print(f"{len(exported)} functions, {size} bytes stripped, needs {', '.join(sorted(needed))}")
    sys.exit("\n".join(wrong) or 0)


main()
