# SPDX-License-Identifier: Apache-2.0
"""Goal: to plan and submit a block costs no more than its budget.

Method: callgrind counts the instructions inside lend_transfer_post() over the null transport, for
few blocks and for many; what does not grow with the blocks cancels out. The budget is 50 ns a block
for scattered numbers and 10 ns in runs. Few machines need more than 0.3 ns for an instruction, so
that is 166 and 33 instructions; the limits are lower, about 1.5 times what was measured. The time
that is printed beside decides nothing.
"""
import callgrind

FEW, MANY, POSTS = 2000, 18000, 3
LIMITS = {("scattered", 32): 50, ("scattered", 64): 50, ("runs", 32): 33, ("runs", 64): 33}


def measure(program):
    for (shape, bits), limit in LIMITS.items():
        few, many = (callgrind.count("lend_transfer_post", program, shape, bits, blocks, POSTS)
                     for blocks in (FEW, MANY))
        each = (many - few) / (POSTS * (MANY - FEW))
        fixed = few / POSTS - each * FEW
        time = callgrind.run([program, shape, bits, MANY, 101]).stdout.strip()
        print(f"{shape}, int{bits}: {each:.1f} instructions a block (limit {limit}), "
              f"{fixed:.0f} a post; {time} ns a block")
        if few == 0 or each > limit:
            yield f"{shape}, int{bits}: {each:.1f} instructions a block, over {limit}"


callgrind.judge(measure)
