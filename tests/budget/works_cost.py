# SPDX-License-Identifier: Apache-2.0
"""Goal: what the library takes for a work request of a NIC is no more than its budget.

Method: callgrind counts the instructions of READs and WRITEs by a rail, on a fake libibverbs whose
NIC does nothing; of so many pieces that what does not grow with them does not count. The budget is
50 ns a page of a strided transfer and 100 ns a free descriptor; 24 ns of either were measured where
the numbers are from, at 0.07 ns an instruction. The limits are about 1.25 times what was counted.
The time that is printed beside decides nothing.
"""
import re
import shutil
import subprocess
import sys
import tempfile

SKIPPED = 77
PIECES, TIMES = 6000, 2
LIMITS = {("strided", "read"): 410, ("strided", "write"): 430, ("free", "read"): 410,
          ("free", "write"): 430}


def count(program, shape, direction):
    """Instructions of all of it."""
    with tempfile.NamedTemporaryFile(prefix="callgrind.") as out:
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", "--toggle-collect=works_move",
             f"--callgrind-out-file={out.name}", program, shape, direction, str(PIECES),
             str(TIMES)], capture_output=True, text=True, check=True)
    return int(re.search(r"Collected : (\d+)", done.stderr).group(1))


def main():
    program = sys.argv[1]
    if shutil.which("valgrind") is None:
        print("skipped: no valgrind on this machine")
        sys.exit(SKIPPED)

    wrong = []
    for (shape, direction), limit in LIMITS.items():
        each = count(program, shape, direction) / (TIMES * PIECES)
        time = subprocess.run([program, shape, direction, str(PIECES), "25"], capture_output=True,
                              text=True, check=True).stdout.strip()
        print(f"{shape}, {direction}: {each:.1f} instructions a piece (limit {limit}); {time} ns a "
              "piece")
        if each == 0 or each > limit:
            wrong.append(f"{shape}, {direction}: {each:.1f} instructions a piece, over {limit}")
    sys.exit("\n".join(wrong) or 0)


main()
