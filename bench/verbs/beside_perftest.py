# SPDX-License-Identifier: Apache-2.0
"""How fast transport verbs reads and writes, beside ib_read_bw and ib_write_bw of perftest, and
ucx_perftest over rc_verbs:

    python3 bench/verbs/beside_perftest.py BUILD [--rounds N] [--bytes N] [--devices OWNER,READER]

Pieces of 64 KiB and of 1 MiB, between two processes, on two devices of soft-RoCE in the virtual
machine of tests/rdma/vm.py; with --devices, on those of this machine. All measure by turns, each
in processes of its own, and medians are told. Use an idle machine, and believe ratios alone.
"""
import argparse
import pathlib
import re
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/rdma"))
import vm  # noqa: E402

PIECES = (64 << 10, 1 << 20)
KINDS = ("read", "write")
LEND_ROUNDS = 5  # within one process; their median counts as one
LIMIT = 60       # seconds, of each turn
ADDRESS = "192.0.2.1"  # of the owner's device in the guest

# The client asks until the server listens.
PERFTEST = """
ib_{kind}_bw -d {owner} -F -s {piece} -n {count} >/dev/null 2>&1 &
for try in 1 2 3 4 5 6 7 8 9; do
    sleep 0.3
    ib_{kind}_bw -d {reader} -F -s {piece} -n {count} --report_gbits {address} 2>/dev/null &&
        break
done
wait
"""

# UCX's own layer of transports, without memory of its own on the way, and with as much under way as
# lend has of a rail (docs/verbs.md).
UCX_PERFTEST = """
test="-x rc_verbs -t {test} -D zcopy -s {piece} -n {count} -w 4 -O 16"
export UCX_LOG_LEVEL=error
ucx_perftest -d {owner}:1 $test >/dev/null 2>&1 &
for try in 1 2 3 4 5 6 7 8 9; do
    sleep 0.3
    ucx_perftest {address} -d {reader}:1 $test -f 2>/dev/null && break
done
wait
"""
UCX_TESTS = {"read": "get", "write": "put_bw"}


def steps_of(options, owner, reader):
    """By what is measured: the turns of lend, perftest and UCX, in the order of their runs."""
    rate = pathlib.Path(options.build).resolve() / "bench/verbs/verbs_rate"
    turns = {}
    for _ in range(options.rounds):
        for piece in PIECES:
            for kind in KINDS:
                ours = vm.Step([rate, owner, reader, kind, piece, options.bytes, LEND_ROUNDS],
                               LIMIT)
                theirs = [vm.Step(["sh", "-c", script.format(
                    kind=kind, test=UCX_TESTS[kind], owner=owner, reader=reader, piece=piece,
                    count=options.bytes // piece, address=options.address)], LIMIT)
                    for script in (PERFTEST, UCX_PERFTEST)]
                turns.setdefault((kind, piece), []).append((ours, *theirs))
    return turns


def in_order(turns):
    return [step for turn in zip(*turns.values()) for steps in turn for step in steps]


def run_here(steps):
    for step in steps:
        done = subprocess.run(list(map(str, step.command)), capture_output=True, text=True,
                              timeout=step.limit)
        step.status, step.out, step.err = done.returncode, done.stdout, done.stderr


def ours_of(step):
    found = re.fullmatch(r"([\d.]+) verbs/\w+\n", step.out)
    return float(found[1]) if found else None


def perftest_of(step):
    """Its average, from gigabits to millions of bytes a second."""
    found = re.search(r"^ +\d+ +\d+ +[\d.]+ +([\d.]+) ", step.out, re.M)
    return float(found[1]) * 1000 / 8 if found else None


def ucx_of(step):
    """Its average over all, from MiB to millions of bytes a second: the last but two of a line."""
    found = re.search(r"^ +\d+(?: +[\d.]+){4} +([\d.]+) +\d+ +\d+\s*$", step.out, re.M)
    return float(found[1]) * (1 << 20) / 1e6 if found else None


def median_of(steps, read):
    values = [value for value in map(read, steps) if value is not None]
    if not values:
        last = steps[-1]
        sys.exit(f"{' '.join(map(str, last.command))}\nstatus {last.status}\n{last.out}{last.err}")
    return statistics.median(values), len(values)


def main():
    parser = argparse.ArgumentParser(description="Transport verbs beside perftest.")
    parser.add_argument("build", help="the build folder")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="turns of each")
    parser.add_argument("--bytes", type=int, default=16 << 20, metavar="N", help="of each turn")
    parser.add_argument("--devices", metavar="OWNER,READER", help="of this machine, not the guest")
    parser.add_argument("--address", default=ADDRESS, help="of the owner's device")
    options = parser.parse_args()
    vm.demand("ib_read_bw", "perftest")
    vm.demand("ucx_perftest", "ucx-utils")
    owner, reader = (options.devices or "rxe0,rxe1").split(",")
    turns = steps_of(options, owner, reader)
    if options.devices:
        run_here(in_order(turns))
    else:
        try:
            vm.Machine(ROOT / "build-rdma").run(*in_order(turns), devices=2)
        except vm.MachineError as error:
            sys.exit(f"vm: {error}")
    print("| what | pieces | lend | perftest | lend beside it | ucx_perftest | lend beside it |\n"
          "| --- | --- | --- | --- | --- | --- | --- |")
    for (kind, piece), steps in turns.items():
        columns = list(zip(*steps))
        ours, count = median_of(columns[0], ours_of)
        line = f"| verbs/{kind} | {piece >> 10} KiB | {ours:.1f} MB/s ({count})"
        for column, read in zip(columns[1:], (perftest_of, ucx_of)):
            theirs, count = median_of(column, read)
            line += f" | {theirs:.1f} MB/s ({count}) | {ours / theirs:.2f}x"
        print(line + " |")


if __name__ == "__main__":
    main()
