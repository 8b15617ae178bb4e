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
import callgrind

FEW, MANY = 1000, 10000
ORDERS = ("ascending", "descending", "shuffled")
LIMITS = {"lend_region_register": 2500, "lend_region_deregister": 2500}


def measure(program):
    for order in ORDERS:
        times = callgrind.run([program, order, MANY]).stdout.split()
        for (function, limit), time in zip(LIMITS.items(), times):
            few, many = (callgrind.count(function, program, order, regions)
                         for regions in (FEW, MANY))
            each = (many - few) / (MANY - FEW)
            print(f"{function}, {order}: {each:.0f} instructions a region (limit {limit}), "
                  f"{few / FEW:.0f} of {FEW}; {time} ns a region")
            if few == 0 or each > limit:
                yield f"{function}, {order}: {each:.0f} instructions, over {limit}"


callgrind.judge(measure)
