#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draw and tabulate what `lend bench --output FILE` has measured.

    python3 scripts/plot.py FILE --plots docs/plots      (bandwidth.svg, post.svg, revoke.svg)
    python3 scripts/plot.py FILE --table                 (Markdown, to standard output)
    python3 scripts/plot.py FILE --into docs/bench.md    (the same, between the marks in that file)

The plots are drawn by gnuplot (Debian: gnuplot-nox). Without it there are none, and the exit code
is 3. What was not measured is left out of a plot, and stands in the table with its reason.
"""
import argparse
import json
import pathlib
import shutil
import subprocess
import sys

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
NO_GNUPLOT = 3
COLOURS = {"memcpy": "#666666", "process_vm_readv": "#bb9944", "process_vm_writev": "#bb9944",
           "local/served": "#1f77b4", "local/mapped": "#2ca02c", "local/cross-memory": "#d62728",
           "local/mapped, first": "#98df8a"}


def is_measured(row):
    return row["why"] is None


def sized(count):
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:g} {unit}"
        count /= 1024
    return f"{count:g} GiB"


# What is drawn


class Drawing:
    """A script for gnuplot: its settings, and lines of data with how to draw them."""

    def __init__(self, path, size="760,420"):
        self.script = [f"set terminal svg size {size} font 'sans,12' background '#ffffff'",
                       f"set output {quoted(path)}", "set grid", "set key outside right top"]
        self.blocks = 0

    def set(self, *lines):
        self.script += lines

    def block(self, rows):
        """Name a block of data; its rows are lists of what str() makes words of."""
        name = f"$data{self.blocks}"
        self.blocks += 1
        self.script += [f"{name} << EOD", *(" ".join(map(str, row)) for row in rows), "EOD"]
        return name

    def plot(self, parts):
        self.script.append("plot " + ", ".join(parts) if parts else "plot NaN notitle")

    def run(self):
        subprocess.run(["gnuplot"], input="\n".join(self.script) + "\n", text=True, check=True)


def quoted(text):
    return "'" + str(text).replace("'", "''") + "'"


def tics(labels):
    """The setting of the tics of x: by their places, what is written there."""
    places = ", ".join(f'"{label}" {place}' for place, label in sorted(labels.items()))
    return f"set xtics ({places}) noenhanced"


def curve(drawing, title, points, style=""):
    """What plots a curve through the points; nothing if there are none."""
    if not points:
        return []
    colour = COLOURS.get(title)
    colour = f"lc rgb '{colour}' " if colour else ""
    return [f"{drawing.block(sorted(points))} using 1:2 with linespoints {colour}{style} "
            f"pt 7 ps 0.5 title {quoted(title)} noenhanced"]


def rates(rows, direction):
    """Of each way, points of block size and GB/s: lend's paths, and each raw peer."""
    curves = {}
    for row in rows:
        if row["direction"] != direction or not is_measured(row):
            continue
        first = row["what"].endswith("first")
        name = row["path"] + (", first" if first else "")
        curves.setdefault(name, set()).add((row["block_bytes"], row["bytes_per_second"] / 1e9))
        for beside in () if first else row["beside"]:
            rate = row["block_bytes"] * row["block_count"] / beside["median_ns"]
            curves.setdefault(beside["what"], set()).add((row["block_bytes"], rate))
    return curves


def draw_bandwidth(rows, path):
    drawing = Drawing(path, "760,720")
    drawing.set("set multiplot layout 2,1", "set logscale x 2", "set yrange [0:*]",
                "set ylabel 'GB/s'", "set xlabel 'size of a block'", "set rmargin 26",
                tics({row["block_bytes"]: sized(row["block_bytes"]) for row in rows}))
    for direction in ("read", "write"):
        drawing.set(f"set title '{direction} scattered blocks'")
        drawing.plot([part for name, points in rates(rows, direction).items()
                      for part in curve(drawing, name, points,
                                        "dt 2" if "/" not in name else "")])
    drawing.run()


def draw_post(rows, path):
    drawing = Drawing(path)
    drawing.set("set logscale xy", "set xlabel 'blocks a post'", "set ylabel 'ns a block'",
                "set title 'planning and posting'", "set key inside",
                tics({row["block_count"]: f"{row['block_count']:,}" for row in rows}))
    parts = []
    for what in dict.fromkeys(row["what"] for row in rows):
        of_it = [row for row in rows if row["what"] == what and is_measured(row)]
        parts += curve(drawing, what, [(row["block_count"], row["median_ns"]) for row in of_it])
        parts += curve(drawing, f"{what.split(', ')[-1]}: {of_it[0]['beside'][0]['what']}",
                       [(row["block_count"], row["beside"][0]["median_ns"]) for row in of_it],
                       "dt 2")
    drawing.plot(parts)
    drawing.run()


def draw_revoke(rows, path):
    """Bars of medians, with a line up to the 99th percentile."""
    drawing = Drawing(path, "960,420")
    bars, labels = [], {}
    for row in rows:
        if is_measured(row) and row["what"].startswith(("revoke", "withdraw")):
            verb, state = row["what"].split()[0], row["what"].split()[-1]
            bars.append((len(labels), row["median_ns"], row["median_ns"], row["p99_ns"]))
            labels[len(labels)] = rf"{verb}\n{state}\n{row['path'].removeprefix('local/')}"
    chunks = [beside["median_ns"] for row in rows if is_measured(row)
              for beside in row["beside"] if "chunk" in beside["what"]]
    drawing.set("set logscale y", "set ylabel 'ns: median, and up to the 99th percentile'",
                "set boxwidth 0.6", "set style fill solid 0.6", "set key top left inside",
                tics(labels), "set bmargin 5", f"set xrange [-0.7:{len(labels) - 0.3}]",
                "set title 'taking back'")
    parts = []
    if bars:
        block = drawing.block(bars)
        parts = [f"{block} using 1:2 with boxes lc rgb '#1f77b4' notitle",
                 f"{block} using 1:2:3:4 with yerrorbars lc rgb '#333333' pt 0 notitle"]
    if chunks:
        parts.append(f"{sorted(chunks)[len(chunks) // 2]} with lines dt 2 lc rgb '#666666' "
                     "title 'memcpy of one chunk of 64 KiB, under load'")
    drawing.plot(parts)
    drawing.run()


def draw(result, folder):
    if shutil.which("gnuplot") is None:
        print("plot.py: gnuplot is not on this machine, so that no plot is drawn; "
              "Debian has it in gnuplot-nox", file=sys.stderr)
        return NO_GNUPLOT
    folder.mkdir(parents=True, exist_ok=True)
    for name, section, function in (("bandwidth", "bandwidth", draw_bandwidth),
                                    ("post", "post", draw_post), ("revoke", "lease", draw_revoke)):
        if section in result["sections"]:
            function(result["sections"][section], folder / f"{name}.svg")
            print(f"plot.py: {folder / name}.svg")
    return 0


# What is written


def timed(ns, is_a_block):
    if is_a_block:
        return f"{ns:.1f} ns/block"
    for limit, divisor, unit in ((1e3, 1, "ns"), (1e6, 1e3, "us"), (1e9, 1e6, "ms")):
        if ns < limit:
            return f"{ns / divisor:.4g} {unit}"
    return f"{ns / 1e9:.4g} s"


def told(row, ns):
    if row["measure"] == "rate":
        return f"{row['block_bytes'] * row['block_count'] / ns:.2f} GB/s"
    return timed(ns, row["measure"] == "time_per_block")


def line(row):
    what = row["what"] + (f", {row['direction']}" if row["direction"] else "")
    blocks = f"{row['block_count']:,} x {sized(row['block_bytes'])}" if row["block_count"] else ""
    start = f"| {what} | {row['path']} | {blocks} |"
    if not is_measured(row):
        return f"{start} | | {row['why']['status']}: {row['why']['text']} | |"
    is_late = row["target"] is not None and row["target"]["text"].startswith("p99")
    beside = "; ".join(f"{one['ratio']:.2f}x {one['what']} ({told(row, one['median_ns'])}"
                       + (f", p99 {told(row, one['p99_ns'])})" if is_late else ")")
                       for one in row["beside"])
    is_time = row["measure"] not in ("rate", "bytes")
    p99 = told(row, row["p99_ns"]) if is_time else ""
    figure = sized(row["bytes"]) if row["measure"] == "bytes" else told(row, row["median_ns"])
    target = row["target"]
    goal = "" if target is None else f"{target['text']}: {'met' if target['is_met'] else 'missed'}"
    return f"{start} {figure} | {p99} | {beside} | {goal} |"


def named(section, rows):
    """The network is one section a transport."""
    paths = {row["path"].partition("/")[0] for row in rows if row["path"]}
    return f"{section}: {', '.join(sorted(paths))}" if section == "network" else section


def tabulate(results):
    return "\n".join(tabulate_one(result) for result in results)


def tabulate_one(result):
    machine = result["machine"]
    size = f"{machine['memory_bytes'] / 2**30:.1f} GiB"
    text = [f"lend {result['version']} on {machine['cpu']}, {machine['cores']} cores, {size}, "
            f"{machine['system']} {machine['kernel']}, glibc {machine['libc']}; governor: "
            f"{machine['governor'] or 'not readable'}; load average {machine['load_average']}; "
            f"{machine['date']}. Medians of {result['rounds']} rounds, transfers of "
            f"{sized(result['bytes'])}."]
    for name, rows in result["sections"].items():
        if not rows:
            continue
        text += ["", f"### {named(name, rows)}", "",
                 "| what | path | blocks | median | p99 | beside, same rounds | target |",
                 "| --- | --- | --- | --- | --- | --- | --- |", *map(line, rows)]
        hows = dict.fromkeys((row["what"], row["how"]) for row in rows if row["how"])
        text += [f"\n{what.capitalize()}: {how}." for what, how in hows]
    return "\n".join(text) + "\n"


def put_into(path, table):
    text = path.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"plot.py: {path} has no place between {BEGIN} and {END}")
    path.write_text(f"{before}{BEGIN}\n{table}{END}{after}")
    print(f"plot.py: {path}")


def read(path):
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        sys.exit(f"plot.py: {path}: {error}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=pathlib.Path, nargs="+",
                        help="what `lend bench --output' has written; plots are of the first")
    parser.add_argument("--plots", type=pathlib.Path, metavar="FOLDER", help="draw plots there")
    parser.add_argument("--table", action="store_true", help="print the table as Markdown")
    parser.add_argument("--into", type=pathlib.Path, metavar="FILE",
                        help=f"put the table between {BEGIN} and {END} of that file")
    choice = parser.parse_args()
    results = [read(path) for path in choice.file]
    if choice.table:
        print(tabulate(results), end="")
    if choice.into:
        put_into(choice.into, tabulate(results))
    return draw(results[0], choice.plots) if choice.plots else 0


if __name__ == "__main__":
    sys.exit(main())
