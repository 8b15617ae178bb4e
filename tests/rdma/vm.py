# SPDX-License-Identifier: Apache-2.0
"""A virtual machine with RDMA devices, for machines that have none: soft-RoCE (rdma_rxe) in a stock
kernel of Debian, in QEMU.

    python3 tests/rdma/vm.py [--devices N] [--loss PERCENT] [--limit SECONDS] -- COMMAND...

runs a command in it, and ends as that did. The kernel's package is fetched by apt-get and unpacked,
not installed; what is made of it is kept in a folder (--cache). The guest's root is this machine's,
read-only over 9p, under a layer in its memory: the same programs are at the same paths, and what
they write is gone with it. guest.sh is its process 1.

There is one device, rxe0 on 192.0.2.1, or beside it rxe1 on 192.0.2.2, at the two ends of a link
that may lose packets.
"""
import argparse
import contextlib
import dataclasses
import lzma
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
QEMU = "qemu-system-x86_64"
BUSYBOX = "/bin/busybox"
PACKAGE = "linux-image-amd64"
# With those that these want; crc32_generic is looked up by rdma_rxe by another name.
MODULES = ("virtio_pci 9pnet_virtio 9p overlay dummy veth sch_netem crc32_generic crc32c_generic "
           "rdma_rxe ib_uverbs rdma_ucm").split()
CORES = min(len(os.sched_getaffinity(0)), 4)
MEMORY = "2048M"
# Under emulation each instruction costs: no string moves byte by byte, no fifth level of pages, no
# mitigations, and the same addresses each time, as what is at new ones has to be translated anew.
CPU = "max,la57=off,erms=off,fsrm=off"
KERNEL = ("console=ttyS0 loglevel=5 panic=-1 oops=panic mitigations=off nokaslr norandmaps "
          "nowatchdog audit=0 apparmor=0 random.trust_cpu=on tsc=reliable dummy.numdummies=0")
BOOT_SECONDS, BOOTS = 45, 4
END_SECONDS = 20
LATE = 124  # the status of what was not over in time, as timeout(1) has it
FAULTS = r"BUG:|Oops|WARNING:|blocked for more than|RIP: 0010"


class MachineError(Exception):
    """There is no virtual machine here, and why."""


@dataclasses.dataclass
class Step:
    """A command to run, and what came of it."""
    command: list
    limit: int = 120
    environment: dict = dataclasses.field(default_factory=dict)
    status: int = None
    seconds: float = 0
    out: str = ""
    err: str = ""

    def script(self):
        names = {name: value for name, value in os.environ.items()
                 if name in ("HOME", "PATH") or name.startswith("LEND_")} | self.environment
        exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in names.items())
        return (f"{exports}cd {shlex.quote(os.getcwd())}\n"
                f"exec timeout --kill-after=5 {self.limit} {shlex.join(map(str, self.command))}\n")


# The kernel

def demand(program, package):
    path = shutil.which(program)
    if path is None:
        raise MachineError(f"no {program} on this machine (Debian: {package})")
    return path


def succeed(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", **options)
    if done.returncode != 0:
        raise MachineError(f"{shlex.join(command)}: status {done.returncode}\n{done.stderr}")
    return done.stdout


def fetch_kernel(folder):
    """Unpack the packages that PACKAGE stands for."""
    def download():
        named = succeed("apt-cache", "depends", "--important", PACKAGE)
        images = re.findall(r"Depends: (linux-image-\S+)", named)
        # Later kernels have their files in several packages.
        for image in list(images):
            images += re.findall(r"Depends: (linux-(?:base|binary|modules)-\d\S*)",
                                 succeed("apt-cache", "depends", "--important", image))
        if not images:
            raise MachineError(f"apt knows no {PACKAGE}")
        succeed("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *images, cwd=folder)

    try:
        download()
    except MachineError:
        if os.geteuid() != 0:
            raise
        succeed("apt-get", "-qq", "update")  # lists that are old are the usual reason
        download()
    for package in folder.glob("*.deb"):
        succeed("dpkg-deb", "-x", str(package), str(folder / "root"))


def unpack_image(image):
    """The kernel within a bzImage, if xz can tell: unpacking it in the guest takes seconds."""
    start = (image[0x1f1] + 1) * 512 + int.from_bytes(image[0x248:0x24c], "little")
    packed = image[start:start + int.from_bytes(image[0x24c:0x250], "little")]
    with contextlib.suppress(lzma.LZMAError):
        unpacked = lzma.LZMADecompressor().decompress(packed)
        if unpacked.startswith(b"\x7fELF"):
            return unpacked
    return image


def copy_modules(root, folder):
    """MODULES and all that they want, numbered in the order in which they can be loaded."""
    paths = {path.name.split(".ko")[0].replace("-", "_"): path for path in root.rglob("*.ko*")}
    builtin = {pathlib.Path(line).stem.replace("-", "_") for listed in root.rglob("modules.builtin")
               for line in listed.read_text().splitlines()}
    loaded = set()

    def load(name):
        name = name.replace("-", "_")
        if name in loaded or name in builtin:
            return
        if name not in paths:
            raise MachineError(f"{PACKAGE} has no module {name}")
        data = paths[name].read_bytes()
        if paths[name].suffix == ".xz":
            data = lzma.decompress(data)
        wanted = re.search(rb"\0depends=([^\0]*)\0", data)
        for other in wanted[1].decode().split(",") if wanted and wanted[1] else ():
            load(other)
        (folder / f"{len(loaded):02}-{name}.ko").write_bytes(data)
        loaded.add(name)

    folder.mkdir()
    for name in MODULES:
        load(name)


def prepare(cache):
    """Have kernel and modules in that folder."""
    made = cache / "kernel"
    listed = made / "modules.list"
    if listed.exists() and listed.read_text() == " ".join(MODULES):
        return made
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        folder = pathlib.Path(folder)
        fetch_kernel(folder)
        images = list(folder.glob("root/boot/vmlinuz-*"))
        if not images:
            raise MachineError(f"{PACKAGE} has no kernel in it")
        new = folder / "kernel"
        new.mkdir()
        (new / "vmlinux").write_bytes(unpack_image(images[0].read_bytes()))
        copy_modules(folder / "root", new / "modules")
        (new / "modules.list").write_text(" ".join(MODULES))
        shutil.rmtree(made, ignore_errors=True)
        new.rename(made)
    return made


# The machine

def accelerator():
    """A /dev/kvm without the processor's help is there on some machines, and of no use."""
    flags = re.search(r"^flags\s*:.*", read(pathlib.Path("/proc/cpuinfo")), re.M)
    helps = flags and re.search(r" (vmx|svm)\b", flags[0])
    return "kvm" if helps and os.access("/dev/kvm", os.W_OK) else "tcg,thread=multi"


class Machine:
    """What its guests are made of; each run is a guest of its own."""

    def __init__(self, cache):
        self.qemu = demand(QEMU, "qemu-system-x86")
        self.busybox = demand(BUSYBOX, "busybox-static")
        for program in ("ip", "rdma", "tc"):
            demand(program, "iproute2")
        for program in ("setpriv", "timeout"):
            demand(program, "util-linux, coreutils")
        self.kernel = prepare(pathlib.Path(cache))

    def run(self, *steps, devices=1, loss=0):
        """Run the steps one after the other. One that is never reached keeps the status None. What
        the guest's kernel had to complain of is returned."""
        with tempfile.TemporaryDirectory(prefix="lend-vm-") as run:
            run = pathlib.Path(run)
            for number, step in enumerate(steps):
                (run / f"{number:03}.step").write_text(step.script())
            self.make_initrd(run)
            for boot in range(BOOTS):
                if self.boot(run, sum(step.limit for step in steps), devices, loss):
                    break
                print(f"vm: the guest did not come up, at boot {boot + 1} of {BOOTS}; it said: "
                      f"{read(run / 'console')[-600:]}", file=sys.stderr)
            console = read(run / "console")
            if not (run / "started").exists():
                raise MachineError(f"{BOOTS} times the guest did not come up\n"
                                   f"{read(run / 'qemu')}{console[-4000:]}")
            before = written(run / "started")
            for number, step in enumerate(steps):
                step.seconds = max(written(run / f"{number:03}.step.status") - before, 0)
                before += step.seconds
                step.out, step.err = (read(run / f"{number:03}.step.{end}")
                                      for end in ("out", "err"))
                status = read(run / f"{number:03}.step.status").strip()
                step.status = int(status) if status else None
            return [line for line in console.splitlines() if re.search(FAULTS, line)]

    def make_initrd(self, run):
        tree = run / "initrd"
        (tree / "bin").mkdir(parents=True)
        shutil.copy(self.busybox, tree / "bin/busybox")
        shutil.copytree(self.kernel / "modules", tree / "modules")
        shutil.copy(HERE / "guest.sh", tree / "init")
        (tree / "init").chmod(0o755)
        succeed("sh", "-c", f"find . | {self.busybox} cpio -o -H newc >../initrd.cpio", cwd=tree)
        shutil.rmtree(tree)

    def command(self, run, devices, loss):
        shares = []
        for tag, folder, mode in (("root", "/", "on"), ("run", str(run), "off")):
            shares += ["-fsdev", f"local,id={tag},path={folder.replace(',', ',,')},"
                                 f"security_model=none,readonly={mode},multidevs=remap",
                       "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
        # It dies with us, however we die.
        return ["setpriv", "--pdeathsig", "KILL", self.qemu, "-machine", "pc",
                "-accel", accelerator(), "-cpu", CPU, "-smp", str(CORES), "-m", MEMORY,
                "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
                "-kernel", str(self.kernel / "vmlinux"), "-initrd", str(run / "initrd.cpio"),
                "-append", f"{KERNEL} run={run} devices={devices} loss={loss}",
                "-serial", f"file:{run}/console", *shares]

    def boot(self, run, limit, devices, loss):
        """Have the guest do all steps; False if it does not come up."""
        started = run / "started"
        with open(run / "qemu", "wb") as log, subprocess.Popen(
                self.command(run, devices, loss), stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT) as process:
            try:
                end = time.monotonic() + BOOT_SECONDS
                while not started.exists():
                    if process.poll() is not None or time.monotonic() > end:
                        return started.exists()
                    time.sleep(0.05)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(limit + END_SECONDS)
                return True
            finally:
                process.kill()


def read(path):
    return path.read_text(errors="replace") if path.exists() else ""


def written(path):
    return path.stat().st_mtime if path.exists() else 0


def main():
    parser = argparse.ArgumentParser(description="Run a command on a machine with RDMA devices.")
    parser.add_argument("--devices", type=int, choices=(1, 2), default=1)
    parser.add_argument("--loss", type=float, default=0, metavar="PERCENT")
    parser.add_argument("--limit", type=int, default=120, metavar="SECONDS")
    parser.add_argument("--cache", default=HERE.parent.parent / "build-rdma", metavar="FOLDER")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    command = options.command[options.command[:1] == ["--"]:]
    if not command:
        parser.error("no command")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    step = Step(command, options.limit)
    try:
        faults = Machine(options.cache).run(step, devices=options.devices, loss=options.loss)
    except MachineError as error:
        sys.exit(f"vm: {error}")
    print(step.out, end="")
    print(step.err, end="", file=sys.stderr)
    for line in faults:
        print(f"vm: the guest's kernel: {line}", file=sys.stderr)
    if step.status is None:
        print("vm: the guest ended before its command", file=sys.stderr)
    sys.exit(LATE if step.status is None else step.status)


if __name__ == "__main__":
    main()
