# SPDX-License-Identifier: Apache-2.0
"""Goal: what the library takes for a work request of a NIC is no more than its budget.

Method: callgrind counts the instructions of READs and WRITEs by a rail, on a fake libibverbs whose
NIC does nothing; of so many pieces that what does not grow with them does not count. The budget is
50 ns a page of a strided transfer and 100 ns a free descriptor; 24 ns of either were measured where
the numbers are from, at 0.07 ns an instruction. The limits are about 1.25 times what was counted.
The time that is printed beside decides nothing.
"""
import callgrind

PIECES, TIMES = 6000, 2
LIMITS = {("strided", "read"): 410, ("strided", "write"): 430, ("free", "read"): 410,
          ("free", "write"): 430}


def measure(program):
    for (shape, direction), limit in LIMITS.items():
        each = callgrind.count("works_move", program, shape, direction, PIECES, TIMES)
        each /= TIMES * PIECES
        time = callgrind.run([program, shape, direction, PIECES, 25]).stdout.strip()
        print(f"{shape}, {direction}: {each:.1f} instructions a piece (limit {limit}); {time} ns a "
              "piece")
        if each == 0 or each > limit:
            yield f"{shape}, {direction}: {each:.1f} instructions a piece, over {limit}"


callgrind.judge(measure)
