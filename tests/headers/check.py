# SPDX-License-Identifier: Apache-2.0
"""Goal: every public header stands alone, for users who compile strictly, in C and in C++.

Method: compile a file that includes one header and nothing else, as C11 and as C++17, with warnings
that users may have on; twice in one file, for its guard. Macros begin with LEND_, and only headers
of lend, <stdint.h> and <stddef.h> are included; in those of NIXL's C ABI, with NIXL_CAPI_, and
<stdbool.h> as well.

Use: check.py FOLDER [lend | nixl_capi]
"""
import os
import pathlib
import re
import shlex
import subprocess
import sys

STRICT = ["-pedantic-errors", "-Werror", "-Wall", "-Wextra", "-Wconversion", "-Wundef"]
LANGUAGES = (("c", "c11", ["-Wstrict-prototypes", "-Wshadow"], "CC", "cc"),
             ("c++", "c++17",
              ["-Wzero-as-null-pointer-constant", "-Wold-style-cast", "-Wshadow"], "CXX", "c++"))
STANDARD = {"stdint.h", "stddef.h"}
# What macros begin with, and which headers may be included beside the library's own.
KINDS = {"lend": ("LEND_", STANDARD), "nixl_capi": ("NIXL_CAPI_", STANDARD | {"stdbool.h"})}


def main():
    include = pathlib.Path(sys.argv[1])
    prefix, standard = KINDS[sys.argv[2] if len(sys.argv) > 2 else "lend"]
    headers = sorted(include.rglob("*.h"))
    if not headers:
        sys.exit(f"no header under {include}")
    wrong = []
    for header in headers:
        name = header.relative_to(include)
        text = header.read_text()
        for other in re.findall(r"#include\s+<([^>]+)>", text):
            if not other.startswith("lend/") and other not in standard:
                wrong.append(f"{name}: includes <{other}>")
        for macro in re.findall(r"^\s*#\s*define\s+(\w+)", text, re.M):
            if not macro.startswith(prefix):
                wrong.append(f"{name}: defines {macro}")
        for language, edition, more, variable, default in LANGUAGES:
            compiler = shlex.split(os.environ.get(variable, default))
            run = subprocess.run(
                [*compiler, "-x", language, f"-std={edition}", *STRICT, *more, "-I", str(include),
                 "-fsyntax-only", "-"],
                input=f"#include <{name}>\n#include <{name}>\n", text=True, capture_output=True)
            if run.returncode != 0:
                wrong.append(f"{name} as {edition}:\n{run.stderr}")
    print(f"{len(headers)} headers")
    sys.exit("\n".join(wrong) or 0)


main()
