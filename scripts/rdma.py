# SPDX-License-Identifier: Apache-2.0
"""Tests over real verbs, in the virtual machine of tests/rdma/vm.py: the suite rdma of test.py.

Each fabric is a boot of its own, in which all programs run one after the other. Their tests are
counted as those of other suites are. A machine on which no virtual machine comes up fails. Without
KVM the guest is emulated, and slow, so each fabric has one set-up of the conformance battery.
"""
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/rdma"))
import vm  # noqa: E402

# What they run over: devices, packets lost of a hundred, the divisor of all counts, and the set-up
# of the battery.
FABRICS = {
    "one device": (1, 0, 5, "verbs, local"),
    "two devices": (2, 0, 10, "verbs, tcp, two processes"),
    "two devices, 2 % lost": (2, 2, 20, "verbs, tcp"),
}
# The programs of the build folder's tests, and how many seconds each may take.
PROGRAMS = {"window_rdma_test": 60, "word_rdma_test": 120, "fence_rdma_test": 240,
            "verbs_conformance_test": 300}


def environment(devices, loss, divisor, setup):
    names = {"LEND_TEST_RDMA": f"rxe0,rxe{devices - 1}", "LEND_SCALE": str(divisor),
             "LEND_SETUP": setup}
    return names | ({"LEND_TEST_RDMA_LOSS": str(loss)} if loss else {})


class Rdma:
    def __init__(self, suites, folder):
        self.suites = suites
        self.programs = {folder / "tests" / name: limit for name, limit in PROGRAMS.items()}

    def everything(self):
        missing = [path.name for path in self.programs if not path.exists()]
        if missing:
            self.suites.count("rdma", False, f"not in this build: {', '.join(missing)} "
                                             "(Debian: libibverbs-dev)")
            return
        cache = ROOT / "build-rdma"
        try:
            machine = vm.Machine(cache)
            self.suites.check("rdma: the virtual machine", [
                sys.executable, str(ROOT / "tests/rdma/vm_test.py"), str(cache)])
            for fabric, (devices, loss, *chosen) in FABRICS.items():
                self.over(machine, fabric, devices, loss, *chosen)
        except vm.MachineError as error:
            self.suites.count("rdma: the virtual machine", False, str(error))

    def over(self, machine, fabric, devices, loss, *chosen):
        steps = [vm.Step([path], limit, environment(devices, loss, *chosen))
                 for path, limit in self.programs.items()]
        faults = machine.run(*steps, devices=devices, loss=loss)
        failed = self.suites.failed
        for step in steps:
            self.suites.count_test(f"rdma: {fabric}", {
                "name": step.command[0].name.removesuffix("_test"),
                "result": "OK" if step.status == 0 else "FAIL", "returncode": step.status,
                "stdout": step.out, "stderr": step.err})
        # rxe has faults of its own, which some of these tests bring about (docs/fencing.md).
        if self.suites.failed > failed:
            print("\n".join(f"the guest's kernel: {line}" for line in faults), flush=True)
