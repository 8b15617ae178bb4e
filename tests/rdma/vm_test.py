# SPDX-License-Identifier: Apache-2.0
"""Goal: the virtual machine of vm.py hands back what its commands did, whatever they did; changes
nothing here; says so where it cannot come up; and is gone when its caller is.

Method: one boot with steps that end well, end badly, write, and do not end. QEMU is replaced by a
program that does nothing for one that does not come up. A caller is killed in the middle of a boot,
and /proc is searched for what it has left.

Use: vm_test.py CACHE
"""
import contextlib
import io
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

import vm

CACHE = ""
HERE = pathlib.Path(__file__).resolve().parent
PATIENCE_SECONDS = 60


def qemu_of(parent):
    """The process ids of QEMUs that belong to that process, or have belonged to it."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            stat = (entry / "stat").read_text()
            words = stat[stat.rindex(")") + 2:].split()
            if "(qemu" in stat and int(words[1]) == parent and words[0] != "Z":
                found.append(int(entry.name))
    return found


def is_alive(process):
    with contextlib.suppress(OSError):
        return " Z " not in pathlib.Path(f"/proc/{process}/stat").read_text()
    return False


def wait_until(condition):
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


class MachineTest(unittest.TestCase):
    def test_each_step_has_its_status_and_output_and_leaves_nothing(self):
        with tempfile.TemporaryDirectory() as folder:
            written = pathlib.Path(folder) / "written"
            steps = [
                vm.Step(["sh", "-c", "echo out; echo err >&2; exit 3"]),
                vm.Step(["sh", "-c", f"echo '{written}' >{written} && cat {written}"]),
                vm.Step(["sh", "-c", "echo begun; sleep 600"], limit=1),
                vm.Step(["sh", "-c", "ls /sys/class/infiniband; cat /proc/*/comm"],
                        environment={"LEND_OF_THIS": "a 'b'"}),
                vm.Step(["printenv", "LEND_OF_THIS"], environment={"LEND_OF_THIS": "a 'b'"}),
            ]
            faults = vm.Machine(CACHE).run(*steps, devices=2)
            self.assertFalse(written.exists())
        self.assertEqual(faults, [])
        self.assertEqual((steps[0].status, steps[0].out, steps[0].err), (3, "out\n", "err\n"))
        self.assertEqual((steps[1].status, steps[1].out), (0, f"{written}\n"))
        self.assertEqual((steps[2].status, steps[2].out), (vm.LATE, "begun\n"))
        self.assertEqual(steps[3].status, 0)
        self.assertEqual(steps[3].out.split()[:2], ["rxe0", "rxe1"])
        self.assertNotIn("sleep", steps[3].out.split())
        self.assertEqual(steps[4].out, "a 'b'\n")

    def test_a_machine_that_does_not_come_up_is_an_error(self):
        machine = vm.Machine(CACHE)
        machine.qemu = "/bin/false"
        with contextlib.redirect_stderr(io.StringIO()), self.assertRaises(vm.MachineError):
            machine.run(vm.Step(["true"]))

    def test_a_killed_caller_leaves_no_machine(self):
        with tempfile.TemporaryDirectory() as folder:  # it cannot remove its own
            caller = subprocess.Popen(
                [sys.executable, str(HERE / "vm.py"), "--cache", CACHE, "--", "sleep", "600"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
                env=os.environ | {"TMPDIR": folder})
            try:
                self.assertTrue(wait_until(lambda: qemu_of(caller.pid)))
                machines = qemu_of(caller.pid)
            finally:
                caller.kill()
                caller.wait()
            self.assertTrue(wait_until(lambda: not any(map(is_alive, machines))))


if __name__ == "__main__":
    os.chdir("/")
    CACHE = sys.argv.pop(1)
    unittest.main()
