"""The whole suite in one command, with sizes that fit two cores, written to benchmarks/RESULTS.md.

    python -m benchmarks            about a quarter of an hour
    python -m benchmarks --quick    about three minutes: does everything still run, and roughly how fast
    python -m benchmarks --long     growth, identity and refill to 1,000,000 people and 10,000,000 events as well
    python -m benchmarks --only ingest growth      the others' results stay as they are

Each benchmark runs alone, in a process of its own and within a bounded time. What a machine does beside shows in every
figure: the load at the start of each stands beside it, and ratios of one run are to be read before absolute numbers.
"""

import argparse
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from benchmarks import peers
from benchmarks.serving import ROOT

RESULTS = Path(__file__).parent / "RESULTS.md"
_CEILING = 3_600.0  # seconds for one benchmark with --long; a quarter of it otherwise


class Run(NamedTuple):
    """A benchmark and its arguments: as a rule, with --quick (None: left out), with --long (None: as a rule)."""

    name: str
    usual: str
    quick: str | None = None
    long: str | None = None


SUITE = (
    Run("ingest", "--seconds 4 --rounds 2", "--seconds 2 --rounds 1"),
    Run("tracking", "--seconds 3 --rounds 2"),
    Run("slow_disk", "--seconds 3 --orders 2000", "--seconds 1 --orders 500 --delays 0 5"),
    Run("normalise", "", ""),
    Run("processing", "--orders 8000", "--orders 2000"),
    Run("poison", "--orders 2000"),
    Run("workers", "--orders 4000 --rounds 2", "--orders 1000 --rounds 1 --log database"),
    Run("flow", "--seconds 6 --rounds 1", "--seconds 2 --rounds 1"),
    Run("latency", "--seconds 5", "--seconds 2 --rates 50"),
    Run("windows", "--people 20000 --events 200000 --seconds 10"),
    Run("refill", "--people 100000 --events 1000000", "--people 20000 --events 200000", ""),
    Run(
        "growth",
        "--sizes 10000 100000 --orders 1500",
        "--sizes 2000 10000 --orders 500",
        "--sizes 10000 100000 1000000",
    ),
    Run("identity", "--profiles 100000 --deliveries 2000", None, "--profiles 1000000"),
    Run("calls", "", ""),
    Run("push", "--seconds 15"),
    Run("planning", "--people 50000", "--people 10000"),
    Run("streams", "--rounds 1", "--events 5000 --rounds 1"),
    Run("start", "--rounds 1"),
    Run("sizing", "", ""),
    Run("queueing", "", ""),
)


class Target(NamedTuple):
    """A number that the last match of `pattern` in a benchmark's output must reach (at least) or keep to (at most)."""

    name: str
    says: str
    pattern: str
    least: float | None = None
    most: float | None = None


_RATE = r"\|[^|]*\|[^|]*\|[^|]*\|[^|]*\| ([\d.]+) \|[^|]*\|$"  # the column of ratios in ingest's table
TARGETS = (
    Target("ingest", "SQLite, of the Flask no-op with HMAC", r"^\| StoreCue, SQLite +" + _RATE, least=0.8),
    Target("ingest", "PostgreSQL, of the same", r"^\| StoreCue, PostgreSQL +" + _RATE, least=0.5),
    Target("ingest", "Kafka (mock), of the same", r"^\| StoreCue, Kafka \(mock\) +" + _RATE, least=0.8),
    Target("ingest", "SQLite, to Node-RED, which keeps nothing", r"SQLite / Node-RED: ([\d.]+)", least=2.0),
    Target("processing", "orders a second on one core", r"^processing +(\d+)", least=1_000),
    Target("workers", "two workers to one, log in PostgreSQL", r"\| database \| two to one \| ([\d.]+)", least=1.7),
    Target("flow", "finished, to Node-RED", r"\| Node-RED .*\| ([\d.]+) \|[^|]*\|$", least=1.0),
    Target("flow", "CPU for each, to Node-RED", r"\| Node-RED .*\| ([\d.]+) \|$", most=1.0),
    Target("latency", "ms at 50/s to the platform, p50", r"\| StoreCue +\| 50 \|[^|]*\|[^|]*\| ([\d.]+)", most=60),
    Target("latency", "ms at 50/s to the platform, p99", r"\| StoreCue +\| 50 \|.*\| ([\d.]+) \|$", most=250),
    Target("windows", "ms that a flip is late, p99", r"p99 (\d+) ms", most=1_000),
    Target("refill", "all segments, to SQL written by hand", r"^all .* ([\d.]+)$", most=1.5),
    Target(
        "growth",
        "an order in the largest store to the smallest, SQLite",
        r"^\| sqlite \|.*\| ([\d.]+) \| [\d.]+ thousand",
        most=1.5,
    ),
    Target("growth", "the same, PostgreSQL", r"^\| postgresql \|.*\| ([\d.]+) \| [\d,]+ rows", most=1.5),
    Target("identity", "finding a person", r"^find a person .* ([\d.]+)$", most=1.5),
    Target("identity", "merging two people", r"^merge the visitor .* ([\d.]+)$", most=1.5),
    Target("push", "% of what HubSpot allows", r"^hubspot .*? ([\d.]+)%", least=95),
    Target("push", "% of what Klaviyo allows", r"^klaviyo .*? ([\d.]+)%", least=95),
    Target("push", "% of what Mailchimp allows, one by one", r"^mailchimp .*? ([\d.]+)%", least=95),
    Target("start", "seconds to the first answer", r"^later starts: +([\d.]+)", most=2.0),
)


def main() -> None:
    """Runs, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--only", nargs="+", choices=[run.name for run in SUITE], metavar="NAME")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    peers.install()
    sections = sections_of(given.results.read_text()) if given.only and given.results.exists() else {}
    for run in SUITE:
        wanted = run.quick if given.quick else run.long if given.long and run.long is not None else run.usual
        if wanted is None or (given.only and run.name not in given.only):
            continue
        sections[run.name] = measured(run.name, wanted.split(), _CEILING if given.long else _CEILING / 4)
        page = [head(), targets(sections), *(sections[each.name] for each in SUITE if each.name in sections)]
        given.results.write_text("\n".join(page))


def sections_of(page: str) -> dict[str, str]:
    """What an earlier run has left of each benchmark."""
    parts = re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    return {name: f"## {name}\n{rest.rstrip()}\n" for name, rest in parts if name != "Targets"}


def head() -> str:
    """What the page is, and the machine."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal: +(\d+)", Path("/proc/meminfo").read_text())
    rows = {
        "Cores": f"{len(os.sched_getaffinity(0))} of {model[1] if model else platform.machine()}",
        "Memory": f"{round(int(memory[1]) / 2**20) if memory else 0} GB",
        "Kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"""# Results

Written by `python -m benchmarks`; [README.md](README.md) says what each benchmark asks. Each has its date, and the load
average when it began, which is what else the machine did. Read the ratios of one run before absolute numbers.

| | |
|---|---|
{table}
"""


def measured(name: str, arguments: Sequence[str], ceiling: float) -> str:
    """The section of one benchmark, with what it printed."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    print(f"--- {name} {' '.join(arguments)}", flush=True)
    load, began, date = os.getloadavg()[0], time.monotonic(), datetime.now(UTC)
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=ceiling)
        said = done.stdout.rstrip()
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [""])[-1]
            said = f"{said}\nended with {done.returncode}: {last}".strip()
    except subprocess.TimeoutExpired as late:
        said = (late.stdout or b"").decode().rstrip() + f"\nstopped after {ceiling:.0f} s"
    print(said, flush=True)
    called = " ".join(["python -m benchmarks." + name, *arguments])
    when = f"{date:%Y-%m-%d %H:%M} UTC, load {load:.1f}, {time.monotonic() - began:.0f} s"
    return f"## {name}\n\n`{called}` ({when})\n\n```text\n{said}\n```\n"


def targets(sections: dict[str, str]) -> str:
    """The table of what was promised, met or not."""
    rows = ["## Targets\n", "| benchmark | | target | measured | |", "|---|---|---|---|---|"]
    for target in TARGETS:
        if target.name not in sections:
            continue
        found = re.findall(target.pattern, sections[target.name], re.MULTILINE)
        bound = f"at least {target.least:g}" if target.least is not None else f"at most {target.most:g}"
        if not found:
            rows.append(f"| {target.name} | {target.says} | {bound} | | not measured |")
            continue
        value = float(found[-1])
        met = value >= target.least if target.least is not None else value <= (target.most or 0)
        rows.append(f"| {target.name} | {target.says} | {bound} | {value:g} | {'met' if met else '**not met**'} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
