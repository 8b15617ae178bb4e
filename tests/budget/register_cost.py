# SPDX-License-Identifier: Apache-2.0
"""Goal: to register a region among thousands, and to deregister it, costs no more than its budget,
whatever the order of addresses.

Method: callgrind counts the instructions inside lend_region_register() for one call of few regions
and one of many, and those inside lend_region_deregister() for all of them, one by one; what does
not grow with the regions cancels out. The limits are about 1.5 times what was measured to register,
and 3 times to deregister; a cost that grows with the number of regions is far over them. The budget
of 500 ns a region is 1,600 instructions where one takes 0.3 ns, and what new memory costs the
kernel comes on top. The time that is printed beside decides nothing.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

SKIPPED = 77
FEW, MANY = 1000, 10000
ORDERS = ("ascending", "descending", "shuffled")
LIMITS = {"lend_region_register": 2500, "lend_region_deregister": 2500}


# What an allocator writes to find mistakes is not the cost of a region.
ENVIRONMENT = {**os.environ, "MALLOC_PERTURB_": "0"}


def count(program, function, order, regions):
    """Instructions of all calls of the function."""
    with tempfile.NamedTemporaryFile(prefix="callgrind.") as out:
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", f"--toggle-collect={function}",
             f"--callgrind-out-file={out.name}", program, order, str(regions)],
            capture_output=True, text=True, check=True, env=ENVIRONMENT)
    return int(re.search(r"Collected : (\d+)", done.stderr).group(1))


def main():
    program = sys.argv[1]
    if shutil.which("valgrind") is None:
        print("skipped: no valgrind on this machine")
        sys.exit(SKIPPED)

    wrong = []
    for order in ORDERS:
        times = subprocess.run([program, order, str(MANY)], capture_output=True, text=True,
                               check=True, env=ENVIRONMENT).stdout.split()
        for (function, limit), time in zip(LIMITS.items(), times):
            few, many = (count(program, function, order, regions) for regions in (FEW, MANY))
            each = (many - few) / (MANY - FEW)
            print(f"{function}, {order}: {each:.0f} instructions a region (limit {limit}), "
                  f"{few / FEW:.0f} of {FEW}; {time} ns a region")
            if few == 0 or each > limit:
                wrong.append(f"{function}, {order}: {each:.0f} instructions, over {limit}")
    sys.exit("\n".join(wrong) or 0)


main()
