# SPDX-License-Identifier: Apache-2.0
"""The published crates of NIXL on our libnixl_capi.so, and on NVIDIA's: the suite nixl of test.py.

The crates come from crates.io as they are: the Cargo.lock files of compat/nixl/tests/rust name each
with its checksum. Their own tests run here, each in a process of its own, so that one that ends in
a signal takes no other along. Which of them cannot pass, and where NVIDIA's library does otherwise,
is read from the tables of docs/nixl.md, and a line there that is not true is a failure:

    | nixl-sys 1.5.2 | `test_etcd_metadata_exchange` | skips itself | skips itself | the reason |

are the crate, its test, the outcome here, the outcome with NVIDIA's library, and why.
"""
import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROJECTS = ROOT / "compat/nixl/tests/rust"
TABLES = ROOT / "docs/nixl.md"
CARGO_MIN = (1, 85)
TEST_SECONDS = 60
ETCD_SECONDS = 20
SKIPPED = 77

# Whose tests are run: the project that fetches it, what its manifest calls the features, and
# whether NVIDIA's library of today is to do the same.
SUITES = (
    ("oldest", "nixl-sys", "stub-api", False),
    ("seed", "nixl-sys", "stub-api", True),
    ("newest", "nixl-sys", "stub-api", True),
    ("seed", "dynamo-memory", "testing-nixl,nixl-sys/stub-api", True),
)

# NVIDIA's library, as a wheel on PyPI.
WHEEL, WHEEL_RELEASE, WHEEL_PYTHON = "nixl-cu12", "1.5.1", "3.11"
WHEEL_LIBRARY = ".nixl_cu12.mesonpy.libs/libnixl_capi.so"
# Without this, a process that used its UCX on a machine without InfiniBand ends in SIGSEGV at its
# exit, within the wheel's libnl.
WHEEL_ENVIRONMENT = {"UCX_MODULES": "^ib"}


def last_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def exceptions():
    """{(crate with release, test): (outcome here, outcome with NVIDIA's, reason)}"""
    rows = {}
    for line in TABLES.read_text().splitlines() if TABLES.exists() else ():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) == 5 and re.fullmatch(r"(nixl-sys|dynamo-memory) [\d.]+", cells[0]):
            for test in re.findall(r"`([\w:]+)`", cells[1]):
                rows[cells[0], test] = cells[2:]
    return rows


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def etcd_server():
    """The address of an etcd of our own, while this is open; None where there is no etcd."""
    program = shutil.which("etcd")
    if program is None:
        yield None
        return
    port, peers = free_ports(2)
    clients, members = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peers}"
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            [program, "--data-dir", folder, "--listen-client-urls", clients,
             "--advertise-client-urls", clients, "--listen-peer-urls", members,
             "--initial-advertise-peer-urls", members, "--initial-cluster", f"default={members}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + ETCD_SECONDS
        try:
            while time.monotonic() < end and server.poll() is None:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
            yield clients
        finally:
            server.terminate()
            server.wait()


def outcome_of(program, test, environment):
    """passes, fails or skips itself; and what it said."""
    # Alone, so that all other agents keep to themselves.
    if "etcd" not in test:
        environment = {name: value for name, value in environment.items()
                       if name != "NIXL_ETCD_ENDPOINTS"}
    try:
        done = subprocess.run(
            [program, "--exact", test, "--nocapture", "--test-threads=1"], env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TEST_SECONDS)
    except subprocess.TimeoutExpired as expired:
        text = (expired.stdout or b"").decode(errors="replace")
        return "fails", f"{text}\nnot over after {TEST_SECONDS} s"
    text = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        return "fails", f"{text}\nexit status {done.returncode}"
    return "skips itself" if re.search(r"(?i)\bskipping\b", text) else "passes", text


class Crates:
    def __init__(self, suites, folder):
        self.suites = suites
        self.folder = folder
        self.work = folder / "crates"
        self.known = exceptions()
        self.seen = set()
        self.environment = os.environ | {
            "CARGO_TARGET_DIR": str(self.work / "target"),
            # One profile for all, so that they share what is built, and soon.
            "CARGO_PROFILE_DEV_DEBUG": "0", "CARGO_PROFILE_TEST_DEBUG": "0",
            "CARGO_TERM_COLOR": "never", "CARGO_NET_RETRY": "1",
            # As installed, they would be found by themselves.
            "LEND_NIXL_SECRET_PLUGIN": str(folder / "src/plugin/secret/lend-secret.so"),
            "LEND_NIXL_ETCD_PLUGIN": str(folder / "src/plugin/etcd/lend-etcd.so"),
        }
        for name in ("NIXL_ETCD_ENDPOINTS", "NIXL_TELEMETRY_ENABLE", "NIXL_TELEMETRY_DIR",
                     "NIXL_PLUGIN_DIR", "LD_LIBRARY_PATH", "LD_PRELOAD"):
            self.environment.pop(name, None)

    def cargo(self, *arguments):
        """Its status, what it printed, and what it told."""
        done = subprocess.run(["cargo", *arguments], cwd=self.work, env=self.environment,
                              capture_output=True, text=True, errors="replace")
        return done.returncode, done.stdout, done.stderr

    def missing(self):
        """Why nothing of this can be done here, or None."""
        if shutil.which("cargo") is None:
            return "no cargo on this machine (Debian 12: cargo-web)"
        version = subprocess.run(["cargo", "--version"], capture_output=True, text=True).stdout
        found = re.search(r"cargo (\d+)\.(\d+)", version)
        if not found or tuple(map(int, found.groups())) < CARGO_MIN:
            wanted = ".".join(map(str, CARGO_MIN))
            return f"the crates want cargo {wanted}, and this is {version.strip() or 'none'}"
        if shutil.which("g++") is None:
            return "no g++ on this machine"
        return None

    def fetch(self, manifest):
        """Have all that it needs: None, or the reason why that could not be had."""
        if self.cargo("fetch", "--locked", "--offline", "--manifest-path", manifest)[0] == 0:
            return None
        status, _, told = self.cargo("fetch", "--locked", "--manifest-path", manifest)
        return f"crates.io gave nothing: {last_line(told)}" if status else None

    def manifest(self, project, crate):
        """Where cargo unpacked that crate, and its release."""
        _, printed, _ = self.cargo("metadata", "--locked", "--offline", "--format-version", "1",
                                   "--manifest-path", str(PROJECTS / project / "Cargo.toml"))
        for package in json.loads(printed or "{}").get("packages", ()):
            if package["name"] == crate:
                return package["manifest_path"], package["version"]
        return None, None

    def build(self, what, *arguments):
        """The programs that this cargo call makes, or None."""
        status, printed, told = self.cargo(*arguments, "--locked", "--offline",
                                           "--message-format", "json")
        if "Unable to find libclang" in told:
            self.suites.skip(f"nixl: {what}", "bindgen finds no libclang (Debian 12: libclang1-14)")
            return None
        self.suites.count(f"nixl: {what}: build", status == 0, told[-4000:])
        if status != 0:
            return None
        messages = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
        return [message["executable"] for message in messages
                if message.get("executable") and message["target"]["kind"] != ["custom-build"]]

    # One crate's tests

    def run(self, programs, environment):
        """{test: (outcome, what it said)} of all programs."""
        tests = []
        for program in programs:
            listed = subprocess.run([program, "--list", "--format", "terse"], env=environment,
                                    capture_output=True, text=True).stdout
            tests += [(program, line.removesuffix(": test"))
                      for line in listed.splitlines() if line.endswith(": test")]
        with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            outcomes = pool.map(lambda test: outcome_of(*test, environment), tests)
            return {test: outcome for (_, test), outcome in zip(tests, outcomes)}

    def judge(self, crate, outcomes):
        """Count each test on our library, against what the table says of it."""
        if not outcomes:
            self.suites.count(f"nixl: {crate}", False, "it has no tests")
        for test, (outcome, text) in outcomes.items():
            what = f"nixl: {crate}: {test}"
            wanted, _, reason = self.known.get((crate, test), ("passes", None, None))
            self.seen.add((crate, test))
            if "etcd" in test and "NIXL_ETCD_ENDPOINTS" not in self.environment:
                self.suites.skip(what, "no etcd on this machine")
            elif outcome != wanted:
                self.suites.count(what, False, f"it {outcome}; {TABLES.name} says that it "
                                               f"{wanted}\n{text[-3000:]}")
            elif outcome == "passes":
                self.suites.count(what, True)
            else:
                self.suites.skip(what, f"{outcome}: {reason}")

    def compare(self, crate, programs, outcomes, library):
        """The same programs on NVIDIA's library: one test, that all outcomes are as is said."""
        others = self.run(programs, self.environment | WHEEL_ENVIRONMENT
                          | {"LD_LIBRARY_PATH": str(library.parent)})
        wrong = []
        for test, (outcome, text) in others.items():
            wanted = self.known.get((crate, test), (None, outcomes[test][0], None))[1]
            if "etcd" in test and "NIXL_ETCD_ENDPOINTS" not in self.environment:
                continue
            if outcome != wanted:
                wrong.append(f"{test}: it {outcome}; expected is that it {wanted}\n{text[-1000:]}")
        self.suites.count(f"nixl: {crate}: NVIDIA's library does the same", not wrong,
                          "\n".join(wrong))

    # The program of compat/nixl/tests/rust/seed

    def seed(self, what, library, extra=None):
        """Device memory through both crates: of a GPU, or of the fake driver beside it."""
        programs = self.build("seed", "build", "--manifest-path",
                              str(PROJECTS / "seed/Cargo.toml")) if extra is None else extra
        if not programs:
            return None
        environment = self.environment | {"LD_LIBRARY_PATH": str(library.parent)}
        kinds = {"GPU": ""}
        if what == "ours":
            kinds["fake driver"] = str(self.folder / "tests")
        for kind, driver in kinds.items():
            paths = f"{library.parent}:{driver}" if driver else str(library.parent)
            done = subprocess.run(
                programs, env=environment | {"LD_LIBRARY_PATH": paths}, timeout=TEST_SECONDS,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
            name = f"nixl: seed on {what}, {kind}"
            if done.returncode == SKIPPED:
                self.suites.skip(name, last_line(done.stdout).removeprefix("SKIP: "))
            else:
                good = done.returncode == 0 and f"library: {library.resolve()}" in done.stdout
                self.suites.count(name, good, f"{done.stdout}\nexit status {done.returncode}")
        return programs

    # NVIDIA's library

    def wheel(self):
        """Its libnixl_capi.so; or None, and why there is none."""
        folder = self.work / f"{WHEEL}-{WHEEL_RELEASE}"
        library = folder / WHEEL_LIBRARY
        if library.exists():
            return library, None
        fetched = subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input",
             "--disable-pip-version-check", "--only-binary=:all:", "--python-version",
             WHEEL_PYTHON, "--dest", str(self.work), f"{WHEEL}=={WHEEL_RELEASE}"],
            capture_output=True, text=True, errors="replace")
        if fetched.returncode != 0:
            return None, f"PyPI gave no {WHEEL}: {last_line(fetched.stderr)}"
        for archive in self.work.glob("*.whl"):
            shutil.unpack_archive(archive, folder, "zip")
            archive.unlink()
        if library.exists():
            return library, None
        return None, f"the wheel of {WHEEL} {WHEEL_RELEASE} has no {WHEEL_LIBRARY}"

    def everything(self):
        reason = self.missing()
        if reason is None:
            self.work.mkdir(parents=True, exist_ok=True)
            for project in dict.fromkeys(suite[0] for suite in SUITES):
                reason = reason or self.fetch(str(PROJECTS / project / "Cargo.toml"))
        if reason is not None:
            self.suites.skip("nixl: the crates", reason)
            return
        ours = self.folder / "compat/nixl/libnixl_capi.so"
        theirs, reason = self.wheel()
        if theirs is None:
            self.suites.skip("nixl: NVIDIA's library", reason)
        else: # transport nixl beside it: agents of lend and plain programs of NIXL
            self.suites.test(self.folder.name.removeprefix("build-"), "plain", "info",
                             label="nixl: transport", LEND_TEST_NIXL=str(theirs))
        programs = self.seed("ours", ours)
        if programs and theirs is not None:
            self.seed("NVIDIA's", theirs, programs)
        with etcd_server() as address:
            if address is not None:
                self.environment["NIXL_ETCD_ENDPOINTS"] = address
            for suite in SUITES:
                self.one_suite(*suite[:3], ours, theirs if suite[3] else None)
        for crate, test in sorted(self.known.keys() - self.seen):
            self.suites.count(f"nixl: {TABLES.name}", False, f"{crate} has no test {test}")

    def one_suite(self, project, name, features, ours, theirs):
        manifest, release = self.manifest(project, name)
        crate = f"{name} {release}"
        reason = "cargo does not know it" if manifest is None else self.fetch(manifest)
        if reason is not None:
            self.suites.skip(f"nixl: {crate}", reason)
            return
        programs = self.build(crate, "test", "--no-run", "--features", features,
                              "--manifest-path", manifest)
        if programs is None:
            return
        outcomes = self.run(programs, self.environment | {"LD_LIBRARY_PATH": str(ours.parent)})
        self.judge(crate, outcomes)
        if theirs is not None:
            self.compare(crate, programs, outcomes, theirs)
