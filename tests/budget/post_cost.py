# SPDX-License-Identifier: Apache-2.0
"""Goal: to plan and submit a block costs no more than its budget.

Method: callgrind counts the instructions inside lend_transfer_post() over the null transport, for
few blocks and for many; what does not grow with the blocks cancels out. The budget is 50 ns a block
for scattered numbers and 10 ns in runs. Few machines need more than 0.3 ns for an instruction, so
that is 166 and 33 instructions; the limits are lower, about 1.5 times what was measured. The time
that is printed beside decides nothing.
"""
import re
import shutil
import subprocess
import sys
import tempfile

SKIPPED = 77
FEW, MANY, POSTS = 2000, 18000, 3
LIMITS = {("scattered", 32): 50, ("scattered", 64): 50, ("runs", 32): 33, ("runs", 64): 33}


def count(program, shape, bits, blocks):
    """Instructions of all posts."""
    with tempfile.NamedTemporaryFile(prefix="callgrind.") as out:
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", "--toggle-collect=lend_transfer_post",
             f"--callgrind-out-file={out.name}", program, shape, str(bits), str(blocks),
             str(POSTS)], capture_output=True, text=True, check=True)
    return int(re.search(r"Collected : (\d+)", done.stderr).group(1))


def main():
    program = sys.argv[1]
    if shutil.which("valgrind") is None:
        print("skipped: no valgrind on this machine")
        sys.exit(SKIPPED)

    wrong = []
    for (shape, bits), limit in LIMITS.items():
        few, many = (count(program, shape, bits, blocks) for blocks in (FEW, MANY))
        each = (many - few) / (POSTS * (MANY - FEW))
        fixed = few / POSTS - each * FEW
        time = subprocess.run([program, shape, str(bits), str(MANY), "101"], capture_output=True,
                              text=True, check=True).stdout.strip()
        print(f"{shape}, int{bits}: {each:.1f} instructions a block (limit {limit}), "
              f"{fixed:.0f} a post; {time} ns a block")
        if few == 0 or each > limit:
            wrong.append(f"{shape}, int{bits}: {each:.1f} instructions a block, over {limit}")
    sys.exit("\n".join(wrong) or 0)


main()
