# SPDX-License-Identifier: Apache-2.0
"""Goal: tidy.py sees a breach of each of its rules, and none where there is none.

Method: a tree that keeps every rule says nothing; then, for each rule, the smallest file that
breaks it is planted, and the message must name that file and the breach.
"""
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import tidy  # noqa: E402

SPDX = "/* " + tidy.SPDX + " */\n"
FALLIBLE = "enum lend_status lend_x_y(int a, struct lend_error *error)\n{\n    %s\n}\n"
LABEL = "/** It does. %s */\nLEND_API void lend_x_y(void);\n"
PROOF = "/*\n * Goal: a.\n * Method: b.\n */\n"

CLEAN = {
    "src/base/sys.c": '#include "base/sys.h"\n\nint lend_x(void)\n{\n'
                      '    return open("//", 0);\n}\n',
    "src/core/x.c": '#include "wire/frame.h"\n#include <lend/lend.h>\n\n'
                    + FALLIBLE % 'ops->close(1); /* free(it) */ '
                                 'return lend_fail(error, LEND_E_BUSY, "");',
    "src/transport/local/y.c": '#include "core/transport.h"\n#include "transport/local/y.h"\n',
    "include/lend/x.h": LABEL % "Threads: safe."
                        + "\n/** As lend_x_y(). */\nLEND_API void lend_x_z(void);\n",
    "tests/unit/x_test.c": PROOF,
}

# What is planted, and what is to be read of it.
BREACHES = (
    ("src/core/x.c", "int lend_x; // no\n", "a // comment"),
    ("src/core/x.c", "/* " + "x" * 100 + " */\n", "over 100 columns"),
    ("src/core/x.c", "\n" * 800, "lines; 800 are allowed"),
    ("src/core/x.c", "void lend_x(void)\n{\n" + "    lend_y();\n" * 71 + "}\n", "has 71 lines"),
    ("src/core/x.c", "void *lend_x(void)\n{\n    return malloc(1);\n}\n", "malloc(): use lend_sys"),
    ("src/wire/x.c", "int lend_x(void)\n{\n    return socket(1, 2, 3);\n}\n", "socket(): use"),
    ("src/base/x.c", "void lend_x(void)\n{\n    clock_gettime(0, 0);\n}\n", "clock_gettime()"),
    ("src/core/x.c", 'void lend_x(void)\n{\n    printf("a");\n}\n', "printf(): use a status"),
    ("src/core/x.c", "void lend_x(void)\n{\n    exit(1);\n}\n", "exit(): use a status"),
    ("src/base/sys.c", 'void *lend_x(void)\n{\n    return getenv("A");\n}\n', "getenv(): use"),
    ("src/tool/x.c", "void lend_x(char *a)\n{\n    strcpy(a, a);\n}\n", "strcpy(): use a bounded"),
    ("src/base/x.c", '#include "core/agent.h"\n', "may not include core/agent.h"),
    ("src/memory/x.c", '#include "wire/frame.h"\n', "may not include wire/frame.h"),
    ("src/core/x.c", '#include "transport/local/y.h"\n', "may not include transport/local/y.h"),
    ("src/transport/local/x.c", '#include "core/agent.h"\n', "may not include core/agent.h"),
    ("src/transport/local/x.c", '#include "transport/loopback/f.h"\n', "may not include"),
    ("src/tool/x.c", '#include "base/sys.h"\n', "may not include base/sys.h"),
    ("examples/x.c", '#include "core/agent.h"\n', "may not include core/agent.h"),
    ("src/core/x.c", FALLIBLE % "return LEND_E_BUSY;", "return lend_fail(error, LEND_E_BUSY"),
    ("src/core/x.c", FALLIBLE % "a++;\nagain:\n    goto again;", "goes backwards"),
    ("src/core/x.c", "int lend_x = ({ 1; });\n", "a statement expression"),
    ("include/lend/x.h", LABEL % "", "lend_x_y(): no label 'Threads:'"),
    ("include/lend/x.h", "#define LEND_X(a) (a)\n", "a function-like macro"),
    ("include/lend/x.h", "static inline int lend_x(void)\n{\n}\n", "a body in a public header"),
    ("include/lend/x.h", "struct lend_x {\n    bool is;\n};\n", "no integer of fixed size"),
    ("tests/unit/x_test.c", "int x;\n", "no opening comment with Goal and Method"),
    ("tests/unit/x_test.c", PROOF + "void x(void)\n{\n    usleep(1);\n}\n", "a condition to wait"),
    ("tests/unit/forgotten_test.c", PROOF, "no meson.build names it"),
    ("src/core/forgotten.c", "int lend_x;\n", "no meson.build names it"),
    ("docs/x.md", "Look into /ho" + "me/me/notes.\n", "a path of one machine"),
    ("src/core/x.c", "/* TO" + "DO: later */\n", "an issue is the place"),
    ("src/core/x.c", 'const char *lend_x = "fai' + 'led to open";\n', "say the cause"),
)


def say_of(files):
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        names = " ".join(f"'{name}'" for name in ("x", "y", "sys"))
        for name, text in {**files, "meson.build": f"# {tidy.SPDX}\nnames = [{names}]\n"}.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(SPDX + text if path.suffix in (".c", ".h") else text)
        return tidy.Tidy(root).run()


def main():
    wrong = [f"clean, and yet: {error}" for error in say_of(CLEAN)]
    for name, text, expected in BREACHES:
        errors = say_of({name: text})
        if not any(error.startswith(f"{name}:") and expected in error for error in errors):
            wrong.append(f"{name}: not seen: {expected!r}; said {errors}")
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "x.c"
        path.write_text("int x;\n")
        if not any("no line with SPDX" in error for error in tidy.Tidy(folder).run()):
            wrong.append("a missing SPDX line was not seen")
    print("\n".join(wrong) or f"{len(BREACHES) + 2} cases")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
