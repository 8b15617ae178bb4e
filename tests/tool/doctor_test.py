#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: `lend doctor` finds what is wrong with a machine or an account, tells the remedy, and ends
with the status that scripts go by.

Method: plant one thing at a time, for real: folders, links, limits, namespaces, seccomp filters, a
killed agent, a patched library. Each must turn its own check, and only checks that it concerns,
from what they are in a clean folder. What no machine at hand can have is planted behind a fake
door, in doctor_checks_test.c.

Use: doctor_test.py PATH-OF-LEND [unittest options]
"""

import ctypes
import fcntl
import json
import os
import platform
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import unittest

LEND = ""
LIMIT_S = 120
IS_ROOT = os.geteuid() == 0
# What may be amiss with a machine that tests run on; each is a warning, and lend works.
OF_THE_MACHINE = {"cross-memory", "ptrace-scope", "pidfd", "clock", "time-namespace", "proc"}
CALLS = {  # by machine: its number for audits, and those of its system calls
    "x86_64": (0xC000003E, {"memfd_create": 319, "process_vm_readv": 310, "pidfd_open": 434}),
    "aarch64": (0xC00000B7, {"memfd_create": 279, "process_vm_readv": 270, "pidfd_open": 434}),
}
EPERM, ENOSYS = 1, 38


def deny(call, error):
    """Let a system call fail, for this process and what it becomes: a filter of seccomp."""
    audit, numbers = CALLS[platform.machine()]
    code = [(0x20, 0, 0, 4), (0x15, 1, 0, audit), (0x06, 0, 0, 0x7FFF0000), (0x20, 0, 0, 0),
            (0x15, 0, 1, numbers[call]), (0x06, 0, 0, 0x00050000 | error),
            (0x06, 0, 0, 0x7FFF0000)]
    text = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
    program = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(code), ctypes.addressof(text)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) != 0 or libc.prctl(22, 2, program, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")


def can(*command):
    try:
        return subprocess.run(command, capture_output=True, timeout=LIMIT_S).returncode == 0
    except OSError:
        return False


def need_root(function):
    return unittest.skipUnless(IS_ROOT, "only root may plant this")(function)


class DoctorTest(unittest.TestCase):
    def setUp(self):
        self.base = tempfile.mkdtemp(prefix="lend-test-", dir="/tmp")
        self.folder = os.path.join(self.base, "sockets")
        os.mkdir(self.folder, 0o700)
        self.started = []
        self.user = 40000 + os.getpid() % 20000
        self.default = f"/tmp/lend-{self.user}"

    def tearDown(self):
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate()
        shutil.rmtree(self.base)
        if os.path.islink(self.default):
            os.unlink(self.default)
        shutil.rmtree(self.default, ignore_errors=True)

    def examine(self, *arguments, wrapper=(), folder=None, lend=None, **options):
        """The exit status of a run, and its checks by their names."""
        where = [] if folder == "" else ["--directory", folder or self.folder]
        done = subprocess.run([*wrapper, lend or LEND, "doctor", "--json", *where, *arguments],
                              capture_output=True, text=True, timeout=LIMIT_S, **options)
        self.assertTrue(done.stdout, f"status {done.returncode}: {done.stderr}")
        rows = json.loads(done.stdout)["checks"]
        self.assertEqual(len(rows), len({row["check"] for row in rows}))
        return done.returncode, {row["check"]: row for row in rows}

    def need_tcp(self):
        row = self.examine("--listen", "127.0.0.1")[1]["listen"]
        if "not in this build" in row["found"]:
            self.assertIn("-Dtransports", row["remedy"])
            self.skipTest(row["found"])

    def expect(self, result, check, severity, *words, beside=()):
        """That check says so, with these words, and no other speaks but those beside it."""
        code, rows = result
        row = rows[check]
        self.assertEqual(row["severity"], severity, row)
        for word in words:
            self.assertIn(word, row["found"] + "\n" + row["remedy"])
        self.assertTrue(row["remedy"], row)
        others = {name: row for name, row in rows.items()
                  if row["severity"] != "OK" and name not in {check, *beside} | OF_THE_MACHINE}
        self.assertEqual(others, {})
        is_fault = any(row["severity"] == "FAULT" for row in rows.values())
        self.assertEqual(code, 2 if is_fault else 1)
        if severity == "WARNING" and not beside:
            self.assertEqual(code, 1)

    def as_other_user(self):
        """A wrapper under which we are another user, without rights, whose files are ours."""
        wrapper = ("unshare", f"--map-user={self.user}", "--")
        if not can(*wrapper, "true"):
            self.skipTest("no user namespaces on this machine")
        return wrapper

    def in_namespace(self, script, *flags):
        """A wrapper that runs the script as root in namespaces of its own, then the command."""
        return ("unshare", *(flags or ("-m",)), "sh", "-ec", script + '\nexec "$@"', "sh")

    # A clean environment, and the frame.

    def test_a_clean_environment_is_well(self):
        code, rows = self.examine("--bytes", "1M", "--peers", "8")
        bad = {name for name, row in rows.items() if row["severity"] != "OK"}
        self.assertLessEqual(bad, OF_THE_MACHINE)
        self.assertEqual(code, 1 if bad else 0)
        self.assertEqual(os.listdir(self.folder), [], "the doctor left something behind")

    def test_the_default_folder_is_not_made(self):
        code, rows = self.examine(folder="", wrapper=self.as_other_user())
        self.assertIn("not there yet", rows["folder"]["found"])
        self.assertEqual(rows["round-trip"]["severity"], "OK")
        self.assertFalse(os.path.lexists(self.default))
        self.assertLess(code, 2)

    def test_the_table_tells_each_remedy_and_the_sum(self):
        os.chmod(self.folder, 0o777)
        done = subprocess.run([LEND, "doctor", "--directory", self.folder], capture_output=True,
                              text=True, timeout=LIMIT_S)
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"remedy: chmod 0700 {self.folder}", done.stdout)
        self.assertRegex(done.stdout, r"(?m)^\d+ checks: \d+ OK, \d+ warnings, 0 faults$")

    def test_a_usage_error_is_told_from_a_fault(self):
        for arguments in (["more"], ["--bytes", "x"], ["--peers", "0"], ["--socket-mode", "9"],
                          ["--pid", "-1"], ["--nonsense"]):
            with self.subTest(arguments=arguments):
                done = subprocess.run([LEND, "doctor", *arguments], capture_output=True)
                self.assertEqual((done.returncode, done.stdout), (64, b""))

    # The folder.

    def test_a_missing_folder(self):
        path = self.base + "/not there"
        self.expect(self.examine(folder=path), "folder", "FAULT", f"mkdir -p -m 0700 '{path}'",
                    beside=("folder-use", "agent", "round-trip"))

    def test_a_relative_folder(self):
        result = self.examine(folder="sockets", cwd=self.base)
        self.expect(result, "folder", "FAULT", '--directory "$PWD"/sockets',
                    beside=("agent", "round-trip"))

    def test_a_folder_that_is_a_file(self):
        path = self.base + "/file"
        with open(path, "w", encoding="utf-8"):
            pass
        self.expect(self.examine(folder=path), "folder", "FAULT", f"rm {path}",
                    beside=("folder-use", "leftovers", "agent", "round-trip"))

    def test_a_folder_behind_a_link(self):
        path = self.base + "/link"
        os.symlink(self.folder, path)
        self.expect(self.examine(folder=path), "folder", "WARNING", self.folder)

    def test_a_default_folder_that_is_a_link(self):
        wrapper = self.as_other_user()
        os.symlink(self.folder, self.default)
        self.expect(self.examine(folder="", wrapper=wrapper), "folder", "FAULT",
                    f"rm {self.default}", beside=("agent", "round-trip"))

    @need_root
    def test_a_default_folder_of_another_user(self):
        wrapper = self.as_other_user()
        os.mkdir(self.default)
        os.chown(self.default, 1, 1)
        self.expect(self.examine(folder="", wrapper=wrapper), "folder", "FAULT",
                    'mkdir -m 0700 "$HOME/lend"', f"we are user {self.user}",
                    beside=("folder-use", "agent", "round-trip"))

    def test_a_folder_that_others_may_write(self):
        os.chmod(self.folder, 0o777)
        self.expect(self.examine(), "folder", "WARNING", f"chmod 0700 {self.folder}", "mode 0777")

    def test_a_default_folder_that_others_may_write(self):
        wrapper = self.as_other_user()
        os.mkdir(self.default)
        os.chmod(self.default, 0o770)
        self.expect(self.examine(folder="", wrapper=wrapper), "folder", "FAULT",
                    f"chmod 0700 {self.default}", beside=("agent", "round-trip"))

    def test_a_common_folder_with_the_sticky_bit_is_well(self):
        os.chmod(self.folder, 0o1777)
        self.assertEqual(self.examine()[1]["folder"]["severity"], "OK")

    def test_a_folder_that_cannot_be_entered(self):
        wrapper = self.as_other_user()
        os.chmod(self.folder, 0o600)
        result = self.examine(wrapper=wrapper)
        os.chmod(self.folder, 0o700)
        self.expect(result, "folder-use", "FAULT", f"chmod u+rwx {self.folder}",
                    beside=("agent", "round-trip"))

    def test_a_folder_behind_one_that_cannot_be_entered(self):
        wrapper = self.as_other_user()
        os.chmod(self.base, 0o600)
        result = self.examine(wrapper=wrapper)
        os.chmod(self.base, 0o700)
        self.expect(result, "folder", "FAULT", f"namei -l {self.folder}",
                    beside=("folder-use", "leftovers", "agent", "round-trip"))

    @need_root
    def test_a_folder_on_a_read_only_file_system(self):
        wrapper = self.in_namespace(f"mount -t tmpfs -o ro none {self.folder}")
        self.expect(self.examine(wrapper=wrapper), "folder-use", "FAULT",
                    "Read-only file system", "mount -o remount,rw",
                    beside=("agent", "round-trip", "folder"))

    @need_root
    def test_a_folder_on_a_full_file_system(self):
        wrapper = self.in_namespace(
            f"mount -t tmpfs -o size=64k,mode=0700 none {self.folder}\n"
            f"dd if=/dev/zero of={self.folder}/full bs=4k 2>/dev/null || :")
        self.expect(self.examine(wrapper=wrapper), "folder-use", "FAULT", "No space left",
                    f"df -h {self.folder}", beside=("agent", "round-trip"))

    def test_a_path_that_is_too_long_for_a_socket(self):
        path = self.base + "/" + "x" * 100
        os.mkdir(path, 0o700)
        self.expect(self.examine(folder=path), "socket-path", "FAULT", "at most 29 bytes",
                    "local_is_abstract", beside=("agent", "round-trip"))

    def test_a_path_that_leaves_little_for_a_name(self):
        path = (self.base + "/" + "x" * 100)[:107 - 15 - 14]
        os.mkdir(path, 0o700)
        result = self.examine(folder=path)
        self.expect(result, "socket-path", "WARNING", "leaves 14")

    def test_socket_modes_that_let_nobody_in(self):
        self.expect(self.examine("--socket-mode", "0400"), "socket-mode", "FAULT",
                    "lets nobody in", "0600")
        self.expect(self.examine("--socket-mode", "0666"), "socket-mode", "WARNING",
                    f"chmod 0711 {self.folder}")
        os.chmod(self.folder, 0o711)
        self.assertEqual(self.examine("--socket-mode", "0666")[1]["socket-mode"]["severity"], "OK")

    def serve(self):
        process = subprocess.Popen(
            [LEND, "serve", "--json", "--export", self.base + "/export", "--memory", "16M",
             "--socket-directory", self.folder], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.started.append(process)
        self.assertIn(b"ready", process.stdout.readline())
        return process

    def age(self):
        """Let the files be older than what might only just be made."""
        for name in os.listdir(self.folder):
            os.utime(os.path.join(self.folder, name), (1, 1))

    def test_files_of_a_killed_agent(self):
        process = self.serve()
        page = self.folder + "/owner-0011.stats"
        with open(page, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self.age()
            self.assertEqual(self.examine()[1]["leftovers"]["severity"], "OK", "they are in use")
        process.kill()
        process.wait()
        names = os.listdir(self.folder)
        self.assertGreaterEqual(len(names), 2)
        result = self.examine()
        self.expect(result, "leftovers", "WARNING", "rm --", page)
        for name in names:
            self.assertIn(f"{self.folder}/{name}", result[1]["leftovers"]["remedy"])
        self.assertEqual(os.system(result[1]["leftovers"]["remedy"]), 0)
        self.assertEqual(self.examine()[1]["leftovers"]["severity"], "OK")

    def leave_page(self, folder):
        os.makedirs(folder, 0o700)
        page = os.path.join(folder, "owner-0011.stats")
        with open(page, "wb"):
            pass
        os.utime(page, (1, 1))
        return self.examine(folder=folder)[1]["leftovers"]["remedy"]

    def test_files_are_told_as_a_shell_takes_them(self):
        folder = self.folder + "/a b"
        self.assertEqual(os.system(self.leave_page(folder)), 0)
        self.assertEqual(os.listdir(folder), [])

    def test_paths_that_are_too_long_are_not_told_in_part(self):
        remedy = self.leave_page(self.folder + ("/" + "x" * 200) * 2)
        self.assertIn("too long", remedy)
        self.assertNotIn("rm", remedy.split())

    def test_files_that_are_just_being_made_are_left_alone(self):
        with open(self.folder + "/owner-0011.stats", "wb"):
            pass
        self.assertEqual(self.examine()[1]["leftovers"]["severity"], "OK")

    def test_names_that_a_shell_would_take_for_more_are_not_told(self):
        with open(self.folder + "/a;reboot.stats", "wb"):
            pass
        self.age()
        self.assertEqual(self.examine()[1]["leftovers"]["severity"], "OK")

    # Limits.

    def limited(self, *arguments, **limits):
        """Examine under these soft limits."""
        def plant():
            for name, value in limits.items():
                which = getattr(resource, "RLIMIT_" + name)
                resource.setrlimit(which, (value, resource.getrlimit(which)[1]))
        return self.examine(*arguments, preexec_fn=plant)

    def test_too_few_descriptors(self):
        self.expect(self.limited(NOFILE=40), "descriptors", "FAULT", "RLIMIT_NOFILE is 40",
                    "ulimit -S -n 288", beside=("agent", "round-trip"))
        self.expect(self.limited("--peers", "100", NOFILE=200), "descriptors", "WARNING",
                    "ulimit -S -n 432")

    def test_too_few_descriptors_beyond_our_own_right(self):
        def plant():
            resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
        self.expect(self.examine(preexec_fn=plant), "descriptors", "WARNING",
                    "prlimit --pid $$ --nofile=288", "LimitNOFILE=288")

    def test_too_little_locked_memory(self):
        wrapper = self.as_other_user() # without CAP_IPC_LOCK
        def plant():
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
        self.expect(self.examine("--bytes", "1M", wrapper=wrapper, preexec_fn=plant),
                    "locked-memory", "WARNING", "RLIMIT_MEMLOCK is 65536",
                    "--memlock=1048576", "LimitMEMLOCK=infinity")

    def test_too_small_files(self):
        self.expect(self.limited(FSIZE=65536), "file-size", "FAULT", "RLIMIT_FSIZE is 65536",
                    "prlimit --pid $$ --fsize=", beside=("folder-use", "agent", "round-trip"))

    def test_more_bytes_than_there_are(self):
        self.expect(self.examine("--bytes", "60000G"), "free-memory", "FAULT", "lend at most",
                    beside=("locked-memory", "memory-limit"))

    def test_huge_pages_that_are_not_reserved(self):
        self.expect(self.examine("--huge", "--bytes", "60000G"), "huge-pages", "FAULT",
                    "sysctl -w vm.nr_hugepages=",
                    beside=("free-memory", "locked-memory", "memory-limit"))

    @need_root
    def test_a_control_group_that_is_too_small(self):
        name = f"lend-test-{os.getpid()}"
        for root, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
                            ("/sys/fs/cgroup", "memory.max")):
            path = os.path.join(root, name)
            try:
                os.mkdir(path)
                self.addCleanup(os.rmdir, path)
                with open(os.path.join(path, limit), "w", encoding="ascii") as file:
                    file.write(str(128 << 20))
                break
            except OSError:
                continue
        else:
            self.skipTest("no control group of memory can be made here")

        wrapper = ("sh", "-ec", f'echo $$ > {path}/cgroup.procs; exec "$@"', "sh")
        self.expect(self.examine("--bytes", "256M", wrapper=wrapper), "memory-limit", "FAULT",
                    "128 MiB", "docker update --memory", "MemoryMax=", beside=("locked-memory",))

    # What the kernel lets us do.

    def filtered(self, call, error):
        if platform.machine() not in CALLS:
            self.skipTest(f"the system calls of {platform.machine()} are not known here")
        return self.examine(preexec_fn=lambda: deny(call, error))

    def test_a_filter_that_forbids_reading_another_process(self):
        result = self.filtered("process_vm_readv", EPERM)
        self.expect(result, "cross-memory", "WARNING", "a seccomp filter is in force",
                    "--cap-add SYS_PTRACE")

    def test_a_filter_that_forbids_watching_a_process(self):
        self.expect(self.filtered("pidfd_open", ENOSYS), "pidfd", "WARNING", "allow pidfd_open")

    def test_a_filter_that_forbids_memory_behind_a_descriptor(self):
        self.expect(self.filtered("memfd_create", EPERM), "memfd", "FAULT", "allow memfd_create",
                    beside=("agent", "round-trip"))

    def library(self):
        """The library that the command loads."""
        found = self.examine()[1]["copies"]["found"]
        return found[found.index(" names ") + 7:]

    def skip_if_sanitized(self, why):
        with open(self.library(), "rb") as file:
            image = file.read()
        if b"__asan_init" in image or b"__tsan_init" in image:
            self.skipTest(f"with a sanitizer {why}")

    def test_a_program_that_may_not_be_read_is_not_dumpable(self):
        wrapper = self.as_other_user()
        path = self.base + "/lend"
        shutil.copy(LEND, path)
        os.chmod(path, 0o111)
        environment = dict(os.environ, LD_LIBRARY_PATH=os.path.dirname(self.library()))
        self.expect(self.examine(lend=path, wrapper=wrapper, env=environment), "dumpable",
                    "WARNING", "not dumpable", "PR_SET_DUMPABLE",
                    beside=("cross-memory", "copies", "round-trip", "proc"))

    @need_root
    def test_no_proc(self):
        self.skip_if_sanitized("no program ends well without /proc")
        wrapper = self.in_namespace("mount -t tmpfs none /proc")
        library = os.path.dirname(self.library()) # which the loader finds by /proc
        environment = dict(os.environ, LD_LIBRARY_PATH=library)
        self.expect(self.examine(wrapper=wrapper, env=environment), "proc", "FAULT",
                    "mount -t proc proc /proc", beside=("copies", "round-trip"))

    @need_root
    def test_proc_of_another_pid_namespace(self):
        wrapper = self.in_namespace("", "-p", "-f")
        self.expect(self.examine(wrapper=wrapper), "proc", "FAULT", "--mount-proc",
                    beside=("copies", "round-trip"))

    @need_root
    def test_proc_that_hides_processes(self):
        wrapper = (*self.in_namespace("mount -t proc -o hidepid=2 proc /proc", "-m", "-p", "-f"),
                   "setpriv", "--bounding-set", "-sys_ptrace")
        self.expect(self.examine(wrapper=wrapper), "proc", "WARNING", "hidepid=",
                    "mount -o remount,hidepid=0 /proc")

    @need_root
    def test_a_time_namespace(self):
        wrapper = ("unshare", "-T", "--boottime", "100", "-f")
        if not can(*wrapper, "true"):
            self.skipTest("no time namespaces on this machine")
        self.expect(self.examine(wrapper=wrapper), "time-namespace", "WARNING", "100 s",
                    "nsenter -T")

    # The library, and a peer.

    # Other machines.

    def test_an_address_that_can_be_listened_at_is_well(self):
        self.need_tcp()
        code, rows = self.examine("--listen", "127.0.0.1")
        self.assertEqual(rows["listen"]["severity"], "OK", rows["listen"])
        self.assertIn("127.0.0.1", rows["listen"]["found"])
        self.assertLess(code, 2)

    def test_an_address_of_another_machine(self):
        self.need_tcp()
        self.expect(self.examine("--listen", "192.0.2.1"), "listen", "FAULT", "192.0.2.1",
                    "ip -brief address")

    def test_a_port_that_another_has(self):
        self.need_tcp()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            self.expect(self.examine("--listen", f"127.0.0.1:{port}"), "listen", "FAULT",
                        f"127.0.0.1:{port}", f"sport = :{port}")

    def test_an_address_that_is_none(self):
        self.need_tcp()
        self.expect(self.examine("--listen", "here"), "listen", "FAULT", "here", "numeric")

    def test_a_network_with_short_queues_and_buffers(self):
        self.need_tcp()
        script = ("echo 8 >/proc/sys/net/core/somaxconn; ip link set lo up; "
                  "echo 4096 16384 32768 >/proc/sys/net/ipv4/tcp_wmem")
        wrapper = self.in_namespace(script, "-n")
        if not can(*wrapper, "true"):
            self.skipTest("no network namespaces for this user")
        result = self.examine("--listen", "127.0.0.1", wrapper=wrapper)
        self.expect(result, "listen-backlog", "WARNING", "is 8", "somaxconn=64",
                    beside={"tcp-buffers"})
        self.expect(result, "tcp-buffers", "WARNING", "tcp_wmem", "32768 bytes", "sysctl -w",
                    beside={"listen-backlog"})
        self.assertLess(self.examine(wrapper=wrapper)[0], 2)
        self.assertEqual(self.examine(wrapper=wrapper)[1]["tcp-buffers"]["severity"], "OK")

    def test_a_secret_that_others_may_read(self):
        path = os.path.join(self.base, "secret")
        with open(path, "w", encoding="ascii") as file:
            file.write("0123456789abcdef")
        os.chmod(path, 0o644)
        self.expect(self.examine("--secret-file", path), "secret", "FAULT", "0644",
                    f"chmod 600 {path}")
        os.chmod(path, 0o600)
        with open(path, "w", encoding="ascii") as file:
            file.write("short")
        self.expect(self.examine("--secret-file", path), "secret", "FAULT", "too few",
                    "/dev/urandom")

    def test_an_etcd_that_does_not_answer(self):
        self.expect(self.examine("--etcd", "etcd://127.0.0.1:1"), "etcd", "FAULT", "LEND_E_")

    def ucx(self):
        """Where this machine has libucp."""
        _, rows = self.examine("--ucx-devices", "lo")
        if rows["ucx"]["severity"] != "OK":
            self.skipTest(rows["ucx"]["found"])
        return re.search(r"\((\S+)\)", rows["ucx"]["found"])[1]

    def test_ucx_and_its_devices(self):
        self.ucx()
        self.expect(self.examine("--ucx-devices", "lo,nowhere0:1"), "ucx", "FAULT", "nowhere0",
                    "ls /sys/class/net")
        self.expect(self.examine("--ucx-devices", "lo", "--ucx-library", "libno.so"), "ucx",
                    "FAULT", "libno.so", "libucx0")

    def test_rdma_that_this_machine_has_not(self):
        if os.path.isdir("/sys/class/infiniband") and os.listdir("/sys/class/infiniband"):
            self.expect(self.examine("--verbs-devices", "nowhere0"), "verbs", "FAULT", "nowhere0",
                        "rdma link")
        else:
            _, rows = self.examine("--verbs-devices", "nowhere0")
            self.assertEqual(rows["verbs"]["severity"], "FAULT")
            self.assertRegex(rows["verbs"]["found"], "no RDMA|libibverbs")
            self.assertRegex(rows["verbs"]["remedy"], "modprobe ib_uverbs|libibverbs1")
        _, rows = self.examine()
        self.assertEqual(rows["verbs"]["found"], "not asked for (--verbs-devices)")

    def test_two_copies_of_ucx_in_one_process(self):
        self.skip_if_sanitized("a sanitizer must be preloaded first")
        library = self.ucx()
        copy = os.path.join(self.base, "libucp.so.7")
        shutil.copy(library, copy)
        result = self.examine("--ucx-devices", "lo", "--ucx-library", os.path.realpath(library),
                              env=dict(os.environ, LD_PRELOAD=copy))
        self.expect(result, "ucx", "FAULT", "2 copies of libucp", "LD_PRELOAD")

    def test_a_library_of_another_version(self):
        self.skip_if_sanitized("no other library may come first")
        other = self.base + "/liblend.so.0"
        with open(self.library(), "rb") as file:
            image = file.read()
        version = json.loads(subprocess.run([LEND, "doctor", "--json"], capture_output=True)
                             .stdout)["version"].encode()
        patched = b"9" + version[1:]
        self.assertIn(b"\0" + version + b"\0", image)
        with open(other, "wb") as file:
            file.write(image.replace(b"\0" + version + b"\0", b"\0" + patched + b"\0"))
        environment = dict(os.environ, LD_PRELOAD=other)
        self.expect(self.examine(env=environment), "version", "WARNING", patched.decode(),
                    "ldconfig", beside=("copies",))

    def start(self, *command):
        """A process that has said a line, and waits."""
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   text=True)
        self.started.append(process)
        line = process.stdout.readline()
        self.assertTrue(line)
        return int(line)

    def test_two_copies_of_the_library_in_one_process(self):
        library = self.library()
        if "liblend" not in library:
            self.skipTest("the command is linked without liblend.so")
        self.skip_if_sanitized("Python cannot load the library")
        other = self.base + "/liblend.so.0"
        shutil.copy(library, other)
        pid = self.start(sys.executable, "-c", "import ctypes, os, sys\n"
                         f"ctypes.CDLL({library!r}), ctypes.CDLL({other!r})\n"
                         "print(os.getpid(), flush=True)\nsys.stdin.read()")
        self.expect(self.examine("--pid", str(pid)), "copies", "FAULT", other, library)

    def test_a_peer_that_is_not_there(self):
        pid = self.start("sh", "-c", "echo $$; read x")
        self.assertLess(self.examine("--pid", str(pid))[0], 2)
        self.started[-1].communicate("\n")
        self.expect(self.examine("--pid", str(pid)), "peer-user", "FAULT", f"no process {pid}",
                    "pgrep", beside=("copies", "peer-pids", "peer-folder"))

    @need_root
    def test_a_peer_of_another_user(self):
        pid = self.start("setpriv", "--reuid=1", "--clear-groups", "sh", "-c", "echo $$; read x")
        self.expect(self.examine("--pid", str(pid)), "peer-user", "WARNING", "is of user 1",
                    "local_mode", "0666")

    @need_root
    def test_a_peer_in_another_pid_namespace(self):
        outer = self.start("sh", "-c", "echo $$; exec unshare -p --kill-child -f sh -c "
                           "'echo; read x'")
        self.started[-1].stdout.readline()
        pid = int(subprocess.run(["pgrep", "-P", str(outer)], capture_output=True).stdout)
        self.expect(self.examine("--pid", str(pid)), "peer-pids", "WARNING",
                    "docker run --pid=container")

    @need_root
    def test_a_peer_with_another_folder(self):
        pid = self.start("unshare", "-m", "sh", "-c",
                         f"mount -t tmpfs none {self.folder}; echo $$; read x")
        self.expect(self.examine("--pid", str(pid)), "peer-folder", "FAULT", "another folder",
                    f"docker run -v {self.folder}:{self.folder}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: doctor_test.py PATH-OF-LEND")
    LEND = os.path.abspath(sys.argv.pop(1))
    unittest.main()
