# SPDX-License-Identifier: Apache-2.0
"""Large tables of descriptors as the few runs that they are: ranges of one length at one distance.

A table of six million blocks of an engine's cache is some dozens of runs. Looked up whole, each
descriptor would cost tens of bytes and as many nanoseconds, before the first request. As runs, it
costs a look at its rows; a request then takes the rows that it names, and those alone are looked
up.
"""
from __future__ import annotations

from typing import Any, Callable, List, Optional, Tuple

ROWS_MIN = 1 << 16  # a smaller table is looked up whole: its requests are a little cheaper then
RUNS_MAX = 1 << 14
_STEP = 1 << 15  # rows looked at in one go: they stay in the processor's cache

try:
    import numpy
except ImportError:  # then every table is looked up whole
    numpy = None


class Rows:
    """Rows as they are, copied."""

    def __init__(self, rows: Any):
        self._rows = rows.copy()

    def __len__(self) -> int:
        return len(self._rows)

    def first(self) -> Optional[Tuple[int, int, int]]:
        """The first row that has bytes."""
        found = numpy.flatnonzero(self._rows[:, 1])
        return tuple(self._rows[found[0]].tolist()) if len(found) else None

    def take(self, indices: Any) -> Any:
        return self._rows[indices]


class Runs:
    """Rows of which row i of a run is (address + i * step, length, device)."""

    def __init__(self, starts: Any, count: int, first: Any, step: Any):
        self._starts, self._count, self._step = starts, count, step  # step is modulo 2^64
        self._ends = numpy.append(starts[1:], count)
        self._address, self._length, self._device = (first[:, i].copy() for i in range(3))

    @classmethod
    def of(cls, rows: Any, starts: List[int]) -> "Runs":
        starts = numpy.array(starts, "int64")
        ends = numpy.append(starts[1:], len(rows))
        first, second = rows[starts], rows[numpy.minimum(starts + 1, ends - 1)]
        return cls(starts, len(rows), first, second[:, 0] - first[:, 0])

    def __len__(self) -> int:
        return self._count

    def first(self) -> Optional[Tuple[int, int, int]]:
        return int(self._address[0]), int(self._length[0]), int(self._device[0])

    def take(self, indices: Any) -> Any:
        run = numpy.searchsorted(self._starts, indices, "right") - 1
        taken = numpy.empty((len(indices), 3), "uint64")
        offset = (indices - self._starts[run]).astype("uint64")
        taken[:, 0] = self._address[run] + offset * self._step[run]
        taken[:, 1], taken[:, 2] = self._length[run], self._device[run]
        return taken

    def hulls(self) -> List[Tuple[int, int, int]]:
        """A range around each run: where that is registered, the run is."""
        return [self._hull(run, 0, end - begin) for run, (begin, end) in
                enumerate(zip(self._starts.tolist(), self._ends.tolist()))]

    def _hull(self, run: int, begin: int, end: int) -> Tuple[int, int, int]:
        """Around some rows of a run."""
        step = int(self._step[run])
        step = step if step < 1 << 63 else step - (1 << 64)
        first = int(self._address[run]) + begin * step
        reach = (end - begin - 1) * step
        return first + min(reach, 0), int(self._length[run]) + abs(reach), int(self._device[run])

    def cut(self, registration: Callable[[Tuple[int, int, int]], Any]) -> Optional["Runs"]:
        """The same in runs of which each lies within one registration, of which a row is told the
        address and length; None where a row lies in none, or where so many runs would be needed
        that they are no good."""
        starts, of_run = [], []
        for run, (begin, end) in enumerate(zip(self._starts.tolist(), self._ends.tolist())):
            at, count = 0, end - begin
            while at < count:
                around = registration(self._hull(run, at, at + 1))
                if around is None or len(starts) == RUNS_MAX:
                    return None
                starts.append(begin + at)
                of_run.append(run)
                at = min(at + self._reach(run, at, *around), count)
        starts = numpy.array(starts, "int64")
        return Runs(starts, self._count, self.take(starts), self._step[numpy.array(of_run)])

    def _reach(self, run: int, at: int, address: int, length: int) -> int:
        """How many rows from this one on, which does, lie within a range."""
        first, size, _ = self._hull(run, at, at + 1)
        step = int(self._step[run])
        if step == 0:
            return self._count
        if step < 1 << 63:
            return (address + length - size - first) // step + 1
        return (first - address) // ((1 << 64) - step) + 1


def runs_of(rows: Any) -> Optional[Runs]:
    """The runs of a table of N x 3 uint64; None where it has too many, or empty ranges."""
    count = len(rows)
    starts, start = [0], 0
    for begin in range(0, count, _STEP):
        # Two rows before these, so that the first of them has a step before it.
        first = max(begin - 2, 0)
        part = rows[first:begin + _STEP]
        address = part[:, 0].copy()
        length, device = part[:, 1].copy(), part[:, 2]
        if not length.all():
            return None
        step = address[1:] - address[:-1]
        is_other = (length[1:] != length[:-1]) | (device[1:] != device[:-1])
        is_broken = is_other.copy()
        is_broken[1:] |= step[1:] != step[:-1]
        for at in numpy.flatnonzero(is_broken).tolist():
            row = first + at + 1
            # Behind the first row of a run any step is the run's own.
            if row >= begin and row > start and (is_other[at] or row > start + 1):
                start = row
                starts.append(row)
        if len(starts) > RUNS_MAX:
            return None
    return Runs.of(rows, starts)


def rows_of(rows: Any):
    """A large table as runs, if it is some; any other as it is."""
    return (runs_of(rows) if len(rows) >= ROWS_MIN else None) or Rows(rows)
