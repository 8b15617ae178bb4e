# SPDX-License-Identifier: Apache-2.0
"""What the tests of cost share: instructions counted by callgrind, and the figures told."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

SKIPPED = 77
# What an allocator writes to find mistakes is no cost of ours.
ENVIRONMENT = {**os.environ, "MALLOC_PERTURB_": "0"}


def run(command, fds=()):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True,
                          check=True, env=ENVIRONMENT, pass_fds=fds)


def count(function, *command, fds=()):
    """Instructions within all calls of a function, and of what it calls."""
    with tempfile.NamedTemporaryFile(prefix="callgrind.") as out:
        done = run(["valgrind", "--tool=callgrind", f"--toggle-collect={function}",
                    f"--callgrind-out-file={out.name}", *command], fds)
    return int(re.search(r"Collected : (\d+)", done.stderr).group(1))


def judge(measure):
    """End the program by what measure(its argument) finds: lines that say what is over a limit."""
    if shutil.which("valgrind") is None:
        print("SKIP: no valgrind on this machine")
        sys.exit(SKIPPED)
    sys.exit("\n".join(measure(sys.argv[1])) or 0)
