# SPDX-License-Identifier: Apache-2.0
"""Tests over real verbs, in the virtual machine of tests/rdma/vm.py: the suite rdma of test.py.

Each fabric is a boot of its own, in which all programs run one after the other. Their tests are
counted as those of other suites are, and so is each row of `lend demo`. A machine on which no
virtual machine comes up fails. Without KVM the guest is emulated, and slow, so each fabric has one
set-up of the conformance battery.
"""
import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/rdma"))
import vm  # noqa: E402

ROUNDS = 2
DEMO = ("demo", "--json", "--path", "verbs/read,verbs/write", "--blocks", "64",
        "--iterations", str(ROUNDS))
SMALL = (*DEMO, "--memory", "24M")
# With acts that are as large as by default; of this model each leases some 450 runs of blocks.
LARGE = (*DEMO, "--memory", "100M", "--model", "DeepSeek-R1")
# What they run over: devices, packets lost of a hundred, the demo, the divisor of all counts, and
# the set-up of the battery.
FABRICS = {
    "one device": (1, 0, SMALL, 5, "verbs, local"),
    "two devices": (2, 0, LARGE, 10, "verbs, tcp, two processes"),
    "two devices, 2 % lost": (2, 2, SMALL, 20, "verbs, tcp"),
}
# The programs of the build folder's tests, and how many seconds each may take.
PROGRAMS = {"window_rdma_test": 60, "word_rdma_test": 120, "fence_rdma_test": 240,
            "lent_rdma_test": 240, "verbs_conformance_test": 300}
DEMO_LIMIT = 180
ROWS = 13


def environment(devices, loss, divisor, setup):
    names = {"LEND_TEST_RDMA": f"rxe0,rxe{devices - 1}", "LEND_SCALE": str(divisor),
             "LEND_SETUP": setup}
    return names | ({"LEND_TEST_RDMA_LOSS": str(loss)} if loss else {})


def fault_of(row):
    """What is wrong with a row of the acts, or nothing."""
    by = "verbs/write" if "WRITE" in row["done"] else "verbs/read"
    if row["verdict"] != "right" or row["repetitions"] != ROUNDS:
        return f"{row['verdict']}, {row['repetitions']} times: {row['reason']}"
    if set(row["paths"]) - {by}:
        return f"it went by {row['paths']}"
    # Nothing else happens to its transfers: elsewhere one may end before it has a path.
    if "consumer" in row["done"] and row["paths"][by] != ROUNDS:
        return f"{row['paths']}, not {by} {ROUNDS} times"
    return ""


class Rdma:
    def __init__(self, suites, folder):
        self.suites = suites
        self.writes = 0  # of the demo, by NICs
        self.tool = folder / "src/tool/lend"
        self.programs = {folder / "tests" / name: limit for name, limit in PROGRAMS.items()}

    def everything(self):
        missing = [path.name for path in (*self.programs, self.tool) if not path.exists()]
        if missing:
            self.suites.count("rdma", False, f"not in this build: {', '.join(missing)} "
                                             "(Debian: libibverbs-dev)")
            return
        cache = ROOT / "build-rdma"
        try:
            machine = vm.Machine(cache)
            self.suites.check("rdma: the virtual machine", [
                sys.executable, str(ROOT / "tests/rdma/vm_test.py"), str(cache)])
            for fabric, (devices, loss, acts, *chosen) in FABRICS.items():
                self.over(machine, fabric, acts, devices, loss, *chosen)
            self.suites.count("rdma: demo: no write went by NICs", self.writes > 0)
        except vm.MachineError as error:
            self.suites.count("rdma: the virtual machine", False, str(error))

    def over(self, machine, fabric, acts, devices, loss, *chosen):
        steps = [vm.Step([path], limit, environment(devices, loss, *chosen))
                 for path, limit in self.programs.items()]
        demo = vm.Step([self.tool, *acts, "--verbs-devices", "rxe0", "--reader-verbs-devices",
                        f"rxe{devices - 1}"], DEMO_LIMIT)
        faults = machine.run(*steps, demo, devices=devices, loss=loss)
        failed = self.suites.failed
        for step in steps:
            self.suites.count_test(f"rdma: {fabric}", {
                "name": step.command[0].name.removesuffix("_test"),
                "result": "OK" if step.status == 0 else "FAIL", "returncode": step.status,
                "stdout": step.out, "stderr": step.err})
        self.judge(f"rdma: {fabric}: demo", demo)
        print(f"   {fabric}: " + ", ".join(f"{step.command[0].name} {step.seconds:.0f} s"
                                           for step in (*steps, demo)), flush=True)
        # rxe has faults of its own, which some of these tests bring about (docs/fencing.md).
        if self.suites.failed > failed:
            print("\n".join(f"the guest's kernel: {line}" for line in faults), flush=True)

    def judge(self, what, step):
        """The main job, and each row of the acts: what came of it, and by which paths."""
        try:
            told = json.loads(step.out)
        except ValueError:
            self.suites.count(what, False, f"status {step.status}\n{step.out}{step.err}")
            return
        job, rows = told["job"], told["acts"]
        self.suites.count(what, step.status == 0 and len(rows) == ROWS,
                          f"status {step.status}, {len(rows)} rows: {told['failure']}\n{step.err}")
        self.suites.count(f"{what}: the main job",
                          job["path"] == "verbs/read" and job["pieces_wrong"] == 0, str(job))
        for row in rows:
            fault = fault_of(row)
            self.writes += row["paths"].get("verbs/write", 0)
            self.suites.count(f"{what}: {row['act']}: {row['done']}", fault == "", fault)
