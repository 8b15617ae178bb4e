# SPDX-License-Identifier: Apache-2.0
"""Style that no compiler checks, run as a test so that nobody has to say it in review.

    python3 scripts/tidy.py [FOLDER]

Prints a line for each breach and ends with status 1 if there is one. scripts/tidy_test.py plants
one breach of each rule and expects to read of it.
"""
import pathlib
import re
import sys

COLUMNS_MAX, FUNCTION_LINES_MAX, FILE_LINES_MAX = 100, 70, 800
SPDX = "SPDX-License-Identifier: Apache-2.0"

# What a room of src/ may include beside itself and the public headers.
ROOMS = {
    "base": set(),
    "memory": {"base"},
    "wire": {"base"},
    "core": {"base", "memory", "wire"},
    "transport": {"base", "memory", "wire", "core/transport.h", "core/cursor.h"},
    "plugin": set(),
    "tool": set(),
}
# Folders that know the public headers alone.
OUTSIDERS = ("bench", "examples", "compat", "bindings")

SYSTEM_CALLS = """
malloc calloc realloc free strdup strndup asprintf vasprintf posix_memalign aligned_alloc
reallocarray mmap munmap mremap madvise memfd_create ftruncate shm_open
open openat fopen fdopen close read write pread pwrite unlink mkdir stat lstat fstat chmod fcntl
ioctl pipe pipe2 dup dup2 socket socketpair bind listen accept accept4 connect send sendto sendmsg
recv recvfrom recvmsg setsockopt getsockopt shutdown poll ppoll select epoll_create1 epoll_ctl
epoll_wait eventfd timerfd_create clock_gettime gettimeofday time nanosleep clock_nanosleep usleep
sleep pthread_create getrandom rand random fork vfork execve waitpid kill prctl syscall pidfd_open
process_vm_readv process_vm_writev
""".split()
PRINTING = """
printf fprintf vprintf vfprintf dprintf puts fputs putchar putc fputc perror fwrite
""".split()
ENDING = "exit _exit _Exit quick_exit abort".split()
ENVIRONMENT = "getenv secure_getenv setenv putenv".split()
UNBOUNDED = "strcpy strcat sprintf vsprintf gets atoi atol atoll atof strtok alloca scanf".split()
OUTSIDE = "system popen setjmp longjmp".split()
WAITING = "sleep usleep nanosleep clock_nanosleep".split()
# Where else a door may stand open, by file, and to which calls.
DOORS = {
    "src/base/fork.c": {"mmap", "madvise", "munmap"},
    # A plugin has no door of ours: what it allocates is its own.
    "src/plugin/etcd/etcd.c": {"calloc", "free"},
    "src/plugin/etcd/http.c": {"clock_gettime", "realloc", "free"},
    "src/plugin/etcd/text.c": {"malloc", "free"},
    "tests/acts/acts.c": {"nanosleep"}, # a delay to be on time at its end, for acts that race
}
SAYINGS = (
    (r"\b(?:TO" r"DO|FIX" r"ME|X" r"XX)\b", "an issue is the place for it"),
    (r"(?<![\w.])/(?:home|root|work|Users)/\w", "a path of one machine"),
    (r"(?i)\"[^\"\n]*\bfailed to\b", "say the cause, not that it failed"),
)
FUNCTION = re.compile(r"^(?!typedef|struct [^()]*\{|enum [^()]*\{)(?P<head>[A-Za-z_][^;{}#]*?\))\s*"
                      r"(?:\w+\([^{};]*\)\s*)*\n\{\n(?P<body>.*?)^\}", re.M | re.S)


def blank(text, strings=True):
    """The text without its comments (and strings), every line still in its place."""
    pattern = r"/\*.*?\*/" + (r'|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'' if strings else
                              r'|("(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\')')

    def cover(match):
        if not strings and match[1]:
            return match[0]
        return re.sub(r"[^\n]", " ", match[0])

    return re.sub(pattern, cover, text, flags=re.S)


class Tidy:
    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.errors = []

    def say(self, path, line, what):
        self.errors.append(f"{path.relative_to(self.root)}:{line}: {what}")

    def say_at(self, path, text, offset, what):
        self.say(path, text.count("\n", 0, offset) + 1, what)

    def run(self):
        for path in sorted(self.root.rglob("*")):
            where = path.relative_to(self.root)
            hidden = where.parts[0].startswith((".git", "build")) and where.parts[0] != ".gitignore"
            if hidden or "corpus" in where.parts or "__pycache__" in where.parts:
                continue
            if path.is_file():
                self.check_file(path, where)
        return self.errors

    def check_file(self, path, where):
        is_c = path.suffix in (".c", ".h")
        is_script = path.suffix in (".py", ".sh", ".map") or path.name in (
            "meson.build", "meson_options.txt", "Makefile") or where.as_posix() == ".ci/run"
        if not (is_c or is_script or path.suffix == ".md"):
            return
        text = path.read_text()
        lines = text.splitlines()
        for pattern, instead in SAYINGS:
            for match in re.finditer(pattern, text):
                self.say_at(path, text, match.start(), f"'{match[0]}': {instead}")
        if not (is_c or is_script):
            return
        if not any(SPDX in line for line in lines[:2]):
            self.say(path, 1, f"no line with {SPDX}")
        if len(lines) > FILE_LINES_MAX:
            self.say(path, len(lines), f"{len(lines)} lines; {FILE_LINES_MAX} are allowed")
        for number, line in enumerate(lines, 1):
            if len(line) > COLUMNS_MAX:
                self.say(path, number, f"over {COLUMNS_MAX} columns")
        if is_c:
            self.check_c(path, where, text)

    def check_c(self, path, where, text):
        code = blank(text)
        for match in re.finditer(r"//", code):
            self.say_at(path, text, match.start(), "a // comment; use /* */")
        if where.parts[:2] != ("src", "base"):
            for match in re.finditer(r"\(\{", code):
                self.say_at(path, text, match.start(), "a statement expression outside src/base")
        for match in re.finditer(r"\(\((?:con|de)structor", code):
            self.say_at(path, text, match.start(), "a constructor; register explicitly")
        self.check_calls(path, where, code)
        self.check_includes(path, where, blank(text, strings=False))
        for match in FUNCTION.finditer(code):
            self.check_function(path, where, code, match)
        if where.parts[0] == "include":
            self.check_header(path, text)
        if where.parts[0] in ("src", "tests"):
            self.check_built(path, where)
        if where.parts[0] == "tests" and re.search(r"_(test|fuzz)\.c$", path.name):
            opening = text[:2500]
            if "Goal" not in opening or "Method" not in opening:
                self.say(path, 2, "no opening comment with Goal and Method")

    def check_calls(self, path, where, code):
        room = where.parts[1] if where.parts[0] == "src" and len(where.parts) > 2 else None
        banned = {name: "a bounded call" for name in UNBOUNDED}
        if where.parts[0] == "tests":
            banned |= {name: "a condition to wait for" for name in WAITING}
        if room is not None:
            banned |= {name: "something smaller" for name in OUTSIDE}
        if room is not None and room != "tool":
            banned |= {name: "a status or the log; the library does not print" for name in PRINTING}
            banned |= {name: "a status; the library does not end the process" for name in ENDING}
            banned |= {name: "the configuration" for name in ENVIRONMENT}
            # A plugin is a library of its own, which knows nothing of our door.
            if room != "plugin" and not (room == "base" and path.name.startswith("sys")):
                banned |= {name: "lend_sys" for name in SYSTEM_CALLS}
        for name in DOORS.get(where.as_posix(), ()):
            banned.pop(name, None)
        own = set(re.findall(r"^static [^;{}()]*?\b(\w+)\(", code, re.M))
        for match in re.finditer(r"(?<![\w.>*])(\w+)\s*\((?!\s*\*)", code):
            if match[1] in banned and match[1] not in own:
                self.say_at(path, code, match.start(), f"{match[1]}(): use {banned[match[1]]}")

    def check_includes(self, path, where, code):
        for match in re.finditer(r'^\s*#\s*include\s+(["<])([^">]+)[">]', code, re.M):
            quote, name = match[1], match[2]
            if quote == "<" and not name.startswith(tuple(f"{room}/" for room in ROOMS)):
                continue
            if not self.may_include(where, name):
                self.say_at(path, code, match.start(1), f"it may not include {name}")

    def may_include(self, where, name):
        if where.parts[0] == "include":
            return name.startswith("lend/")
        if where.parts[0] in OUTSIDERS:
            return (self.root / where.parent / name).exists()
        if where.parts[0] != "src" or len(where.parts) < 3:
            return True
        room, allowed = where.parts[1], ROOMS.get(where.parts[1], set())
        parts = name.split("/")
        if len(parts) == 1:
            return (self.root / where.parent / name).exists()
        if parts[0] == "transport" and room == "transport":
            return len(where.parts) > 3 and parts[1] == where.parts[2]
        return parts[0] == room or parts[0] in allowed or name in allowed

    def check_function(self, path, where, code, match):
        head, body = match["head"], match["body"]
        line = code.count("\n", 0, match.start()) + 1
        name = re.search(r"(\w+)\s*\(", head)
        name = name[1] if name else "?"
        length = body.count("\n")
        if length > FUNCTION_LINES_MAX:
            self.say(path, line, f"{name}() has {length} lines; {FUNCTION_LINES_MAX} are allowed")
        for jump in re.finditer(r"\bgoto\s+(\w+)\s*;", body):
            label = re.search(rf"^\s*{jump[1]}:", body, re.M)
            if label and label.start() < jump.start():
                self.say(path, line, f"{name}(): goto {jump[1]} goes backwards")
        is_library = where.parts[0] == "src" and where.parts[1] != "tool" and path.name != "error.c"
        if is_library and re.search(r"struct lend_error \*error\b", head):
            for bare in re.finditer(r"\breturn (LEND_E_\w+)\s*;", body):
                before = "".join(body[:bare.start()].splitlines(True)[-3:])
                if "*error = " in before or "error->status = " in before:
                    continue  # the explanation is another's
                at = code.count("\n", 0, match.start("body") + bare.start()) + 1
                self.say(path, at, f"{name}(): return lend_fail(error, {bare[1]}, ...)")

    def check_header(self, path, text):
        code = blank(text)
        for pattern, what in ((r"\bstatic\b", "a body in a public header"),
                              (r"\.\.\.", "varargs in a public header"),
                              (r"^\s*#\s*define\s+\w+\(", "a function-like macro"),
                              (r"\b(?:bool|long|short|unsigned)\b", "no integer of fixed size")):
            for match in re.finditer(pattern, code, re.M):
                self.say_at(path, text, match.start(), what)
        labelled = set()
        comment, end = "", 0
        for match in re.finditer(r"/\*\*.*?\*/|^LEND_API\b[^;]*?(\w+)\([^;]*;", text, re.M | re.S):
            is_apart = "\n\n" in text[end:match.start()]
            end = match.end()
            if not match[1]:
                comment = match[0]
                continue
            if is_apart:
                comment = ""
            another = re.search(r"[Aa]s\s+(?:\*\s+)?(lend_\w+)\(\)", comment)
            if "Threads:" in comment or (another and another[1] in labelled):
                labelled.add(match[1])
            else:
                self.say_at(path, text, match.start(), f"{match[1]}(): no label 'Threads:'")

    def check_built(self, path, where):
        """Every source file is in the build: one that is forgotten proves nothing."""
        if path.suffix != ".c":
            return
        stems = {path.stem}
        if where.parts[0] == "tests":  # NAME_test, NAME_FOLDER_test or NAME_fuzz
            folder = re.escape(path.parent.name)
            stems |= {re.sub(end, "", path.stem) for end in ("_(test|fuzz)$", f"_{folder}_test$")}
        for folder in path.parents:
            build = folder / "meson.build"
            if build.exists():
                names = re.findall(r"'([^'\n]*)'", build.read_text())
                ends = (path.name, "/" + path.stem)
                if stems & set(names) or any(entry.endswith(ends) for entry in names):
                    return
            if folder == self.root:
                break
        self.say(path, 1, "no meson.build names it")


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent
    errors = Tidy(root).run()
    print("\n".join(errors) or "tidy")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
