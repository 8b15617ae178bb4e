# SPDX-License-Identifier: Apache-2.0
"""Run every suite of tests, and end with one line: N passed, N failed, N skipped.

    python3 scripts/test.py [SUITE ...]      (make test SUITES="gcc style")

Each suite is a build folder of its own (build-SUITE), or a check of the sources. A test of cmocka
counts by itself; any other program, each build and each check counts as one. What is skipped is
printed with its reason. The sanitizers and valgrind run a twentieth of what is random (LEND_SCALE).
"""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import crates
import rdma

ROOT = pathlib.Path(__file__).resolve().parent.parent
CORES = len(os.sched_getaffinity(0))
MANY = CORES + 1  # tests at a time where none is judged by what it catches: half of them wait
FOLDERS = ("include", "src", "compat", "bench", "tests", "examples")
SCALE = {"LEND_SCALE": "20"}
SEEDS = "300"  # of the simulation's histories, which are the same each time
REPORT = "abort_on_error=0:exitcode=99"
SLOW = "3"  # how many times longer a test may take under a sanitizer
VALGRIND = ("valgrind --quiet --error-exitcode=99 --leak-check=full "
            "--errors-for-leak-kinds=definite,possible "
            f"--suppressions={ROOT}/tests/valgrind.supp")
FUZZ_SECONDS = 5
LIMIT_SECONDS = 43 * 60  # for everything; what is not over by then has failed


class Suites:
    def __init__(self):
        self.passed = self.failed = 0
        self.skips = []
        self.end = time.monotonic() + LIMIT_SECONDS

    # What counts

    def count(self, what, succeeded, output=""):
        if succeeded:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAILED {what}\n{output.rstrip()}", flush=True)

    def skip(self, what, reason):
        self.skips.append((what, reason))
        print(f"SKIPPED {what}: {reason}", flush=True)

    def run(self, command, environment):
        """Its status and output; nothing of it is left running, however this ends."""
        with subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, errors="replace",
                              env=os.environ | environment) as process:
            try:
                output, _ = process.communicate(timeout=max(self.end - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.terminate()  # meson ends its tests
                output, _ = process.communicate()
                return -1, f"{output}\nthe {LIMIT_SECONDS} s for everything are over"
            except BaseException:
                process.terminate()
                raise
            return process.returncode, output

    def check(self, what, command, **environment):
        """Run a command that is one test."""
        status, output = self.run(command, environment)
        self.count(what, status == 0, output[-6000:])
        return status == 0

    # Builds and their tests

    def build(self, name, *options, targets=(), **environment):
        folder = ROOT / f"build-{name}"
        setup = ["meson", "setup", str(folder), *options]
        if (folder / "build.ninja").exists():
            setup.append("--reconfigure")
        elif folder.exists():
            shutil.rmtree(folder)
        return (self.check(f"{name}: set-up", setup, **environment)
                and self.check(f"{name}: build", ["ninja", "-C", str(folder), *targets],
                               **environment))

    def test(self, name, *arguments, suites=(), log="testlog", before=(), label=None,
             processes=CORES, **environment):
        folder = ROOT / f"build-{name}"
        json_log = folder / "meson-logs" / f"{log}.json"  # Meson adds the wrapper to the name
        json_log.unlink(missing_ok=True)
        chosen = [word for suite in suites for word in ("--suite", suite)]
        status, output = self.run(
            [*before, "meson", "test", "-C", str(folder), "--no-rebuild", "--quiet",
             "--num-processes", str(processes), *chosen, *arguments], environment)
        failed = self.failed
        if json_log.exists():
            for line in json_log.read_text(errors="replace").splitlines():
                self.count_test(label or name, json.loads(line))
        if status != 0 and self.failed == failed or not json_log.exists():
            self.count(f"{name}: meson test", False, output[-4000:])

    def count_test(self, name, result):
        what = f"{name}: {result['name']}"
        output = (result.get("stdout") or "") + (result.get("stderr") or "")
        outcome = result["result"]
        passed = len(re.findall(r"^\[       OK \] ", output, re.M))
        for test in dict.fromkeys(re.findall(r"^\[  SKIPPED \] (\w+)$", output, re.M)):
            self.skip(f"{what}: {test}", reason_in(said_by(test, output)))
        if outcome in ("SKIP", "GNUSKIP"):
            self.skip(what, reason_in(output))
        elif outcome in ("OK", "EXPECTEDFAIL"):
            self.passed += passed or 1
        else:
            failed = set(re.findall(r"^\[  FAILED  \] (\w*[a-z]\w*)$", output, re.M))
            self.passed += passed
            self.failed += max(len(failed), 1)
            seconds = f"{result.get('duration', 0):.0f} s"
            print(f"FAILED {what} ({outcome}, exit status {result.get('returncode')}, {seconds})"
                  f"\n{digest(result)}", flush=True)

    # The suites, in their order

    def gcc(self):
        """Everything, as most people will build it."""
        if self.build("gcc", "-Dtool=enabled", "-Dtests=enabled", CC="gcc"):
            self.test("gcc", "--no-suite", "install")

    def release(self):
        """Without assertions: what users get, its size, the demonstration, and packages."""
        if self.build("release", "--buildtype=release", "-Dtool=enabled", "-Dtests=enabled",
                      CC="gcc"):
            self.test("release", suites=("abi", "examples", "install", "tool"))

    def nixl(self):
        """The published crates of NIXL on our libnixl_capi.so, and on NVIDIA's."""
        folder = ROOT / "build-gcc"
        if ((folder / "build.ninja").exists()
                or self.build("gcc", "-Dtool=enabled", "-Dtests=enabled", CC="gcc")):
            if self.check("nixl: build", ["ninja", "-C", str(folder)]):
                crates.Crates(self, folder).everything()

    def rdma(self):
        """What is done over verbs, over soft-RoCE in a virtual machine."""
        folder = ROOT / "build-gcc"
        if ((folder / "build.ninja").exists()
                or self.build("gcc", "-Dtool=enabled", "-Dtests=enabled", CC="gcc")):
            if self.check("rdma: build", ["ninja", "-C", str(folder)]):
                rdma.Rdma(self, folder).everything()

    def clang(self):
        """The other compiler, and its analysis of locks."""
        clang = compiler("clang")
        if clang is None:
            self.skip("clang", "no clang on this machine")
        elif self.build("clang", "-Dtests=enabled", CC=clang):
            self.test("clang", suites=("unit", "headers", "nixl"), CC=clang,
                      CXX=clang.replace("clang", "clang++"))

    def asan(self):
        """Address and undefined-behaviour sanitizers."""
        if self.build("asan", "-Db_sanitize=address,undefined", "-Db_lundef=false",
                      "-Dtests=enabled", CC="gcc"):
            self.test("asan", "-t", SLOW, "--no-suite", "style", "--no-suite", "headers",
                      processes=MANY, **SCALE, LEND_SEEDS=SEEDS,
                      ASAN_OPTIONS=f"{REPORT}:detect_stack_use_after_return=1",
                      UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1")

    def tsan(self):
        """Thread sanitizer; without what one thread does alone."""
        if self.build("tsan", "-Db_sanitize=thread", "-Db_lundef=false", "-Dtests=enabled",
                      "-Dc_args=-Wno-tsan", CC="gcc"):
            # That is the simulation, the fault sweep and the decoders; and the conformance battery
            # leaves manual progress out by itself.
            self.test("tsan", "-t", SLOW, "--no-suite", "style", "--no-suite", "headers",
                      "--no-suite", "sim", "--no-suite", "fault", "--no-suite", "fuzz",
                      before=without_random_addresses(), processes=MANY, **SCALE,
                      TSAN_OPTIONS=f"{REPORT}:halt_on_error=1:die_after_fork=0:"
                                   "second_deadlock_stack=1")

    def valgrind(self):
        """The unit tests of the first build, under valgrind."""
        if shutil.which("valgrind") is None:
            self.skip("valgrind", "no valgrind on this machine")
        elif (ROOT / "build-gcc/build.ninja").exists() or self.build("gcc", CC="gcc"):
            self.test("gcc", "-t", "10", "--wrap", VALGRIND, suites=("unit",),
                      log="testlog-valgrind", label="valgrind", **SCALE)

    def fuzz(self):
        """Each decoder for a few seconds under libFuzzer, from its corpus."""
        clang = compiler("clang")
        if clang is None:
            self.skip("fuzz", "no clang on this machine")
            return
        if not self.build("fuzz", "-Dfuzz=true", "-Db_sanitize=address,undefined",
                          "-Db_lundef=false", "-Dtests=enabled", "-Dexamples=false",
                          "-Dtool=disabled", targets=("fuzzers",), CC=clang):
            return
        for program in sorted((ROOT / "build-fuzz/tests").glob("*_fuzzer")):
            name = program.name.removesuffix("_fuzzer")
            work = ROOT / "build-fuzz/corpus" / name
            work.mkdir(parents=True, exist_ok=True)
            self.check(f"fuzz: {name}", [
                str(program), f"-max_total_time={FUZZ_SECONDS}", "-timeout=10",
                f"-artifact_prefix={ROOT}/build-fuzz/{name}-", str(work),
                str(ROOT / "tests/fuzz/corpus" / name)])

    def style(self):
        """What can be said of the sources without compiling them."""
        sources = [str(path) for folder in FOLDERS
                   for path in sorted((ROOT / folder).rglob("*.[ch]"))]
        formatter = shutil.which("clang-format-14")
        if formatter is None:
            self.skip("style: format", "no clang-format-14, and other releases decide otherwise")
        else:
            self.check("style: format", [formatter, "--dry-run", "-Werror", *sources])
        if shutil.which("codespell") is None:
            self.skip("style: spelling", "no codespell on this machine")
        else:
            texts = [str(path) for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))]
            self.check("style: spelling", ["codespell", "--ignore-words-list=crate", *sources,
                                           *texts])
        self.check("style: tidy", [sys.executable, "scripts/tidy.py"])


def compiler(name):
    return shutil.which(f"{name}-14") or shutil.which(name)


def digest(result):
    """Of what a failed test said, the parts that matter: a sanitizer's report, and the ends."""
    parts = []
    for channel in ("stdout", "stderr"):
        text = (result.get(channel) or "").rstrip()
        report = re.search(r"^.*(?:Sanitizer: |runtime error: )", text, re.M)
        if report and report.start() < len(text) - 3000:
            parts.append(text[report.start():report.start() + 5000] + "\n[...]")
        passed = r"^\[ RUN      \] (\w+)\n\[       OK \] \1\n"
        parts.append(re.sub(passed, "", text, flags=re.M)[-3000:])
    return "\n".join(part for part in parts if part)


def reason_in(output):
    """A program that skips says why in a line that begins with SKIP."""
    found = re.findall(r"^SKIP[A-Z]*:? *(.+)$", output, re.M)
    return "; ".join(dict.fromkeys(found)) or "it gave no reason"


def said_by(test, output):
    """What a test of cmocka printed before it skipped, as reason_in() wants it."""
    found = re.findall(rf"^\[ RUN      \] {test}\n(.*?)^\[  SKIPPED \] {test}$", output,
                       re.M | re.S)
    said = found[0].strip().splitlines() if found else []
    return "".join(f"SKIP: {line.removeprefix('SKIP: ')}\n" for line in said[-1:])


def without_random_addresses():
    """Thread sanitizer of this age dislikes kernels that randomise more than 28 bits."""
    command = ("setarch", os.uname().machine, "-R")
    try:
        works = subprocess.run([*command, "true"], capture_output=True).returncode == 0
    except OSError:
        works = False
    return command if works else ()


ORDER = ("style", "gcc", "release", "nixl", "rdma", "clang", "asan", "tsan", "valgrind", "fuzz")


def main():
    chosen = sys.argv[1:] or ORDER
    for name in chosen:
        if name not in ORDER:
            sys.exit(f"no suite {name}; there are {', '.join(ORDER)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    suites = Suites()
    began = time.monotonic()
    for name in chosen:
        start, passed, failed = time.monotonic(), suites.passed, suites.failed
        function = getattr(suites, name)
        print(f"== {name}: {function.__doc__}", flush=True)
        function()
        print(f"   {suites.passed - passed} passed, {suites.failed - failed} failed, "
              f"{time.monotonic() - start:.0f} s", flush=True)
    print(f"   {time.monotonic() - began:.0f} s in all")
    print(f"{suites.passed} passed, {suites.failed} failed, {len(suites.skips)} skipped")
    return 1 if suites.failed or not suites.passed else 0


if __name__ == "__main__":
    sys.exit(main())
