"""What `storecue status` shows: lines on how things stand, and a bar for each segment that is being refilled."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from connector.clock import isoformat

_LOOK_EVERY = 0.5  # seconds


def lines(status: Mapping[str, Any]) -> str:
    """How things stand, a line each. `status` is what reporting.status gives."""
    found = [_log(status["log"]), _waiting(status)]
    if (parked := status["parked"])["customers"]:
        found.append(parked_line(parked))
    found += [_process(one, status["at"]) for one in status["processes"]]
    found += [_turn(one, status["at"]) for one in status["turns"]]
    for destination in status["destinations"]:
        line = f"{destination['name']}: {destination['state']}, {destination['pending']:,} contacts to push"
        found.append(f"{line} ({destination['message']})" if destination["message"] else line)
        if destination["last_verification"] is not None:
            found.append(f"  {_verified(destination['last_verification'])}")
        if destination["engagement"] is not None:
            found.append(f"  {_told(destination['engagement'])}")
    found += [_stream(stream) for stream in status["streams"]]
    found += [_asked(source) for source in status["sources"]]
    found += [_erased(row) for row in status["erasures"]]
    found += [f"dead letters: {row['count']:,} {row['kind']}, {row['reason']}" for row in status["dead_letters"]]
    if not status["refills"]:
        found.append("no segment is being refilled")
    return "\n".join(found)


def _log(told: Mapping[str, Any]) -> str:
    """One line on the log of deliveries."""
    line = f"log: {told['name']}, {told['partitions']:,} partitions"
    return f"{line} ({told['message']})" if told["message"] else line


def _waiting(status: Mapping[str, Any]) -> str:
    """One line on what waits in it."""
    if status["lag"] is None:
        return "deliveries waiting: not known"
    line = f"deliveries waiting: {status['lag']:,}"
    behind = status["partitions"]
    since = status["oldest_waiting_at"]
    where = f" in {len(behind):,} of {status['log']['partitions']:,} partitions" if behind else ""
    return line + where + (f", the oldest since {isoformat(since)}" if since is not None else "")


def parked_line(parked: Mapping[str, Any]) -> str:
    """One line on deliveries that wait behind one that broke us."""
    whose = f"{parked['deliveries']:,} deliveries of {parked['customers']:,} customers"
    return f"parked: {whose}, tried again by themselves (since {isoformat(parked['oldest_at'])})"


def _process(told: Mapping[str, Any], now: int) -> str:
    """One line on a process that lives."""
    return f"{told['kind']} {told['id']}, since {isoformat(told['since'])}{_until(told, now)}"


def _turn(told: Mapping[str, Any], now: int) -> str:
    """One line on who does what only one does."""
    return f"{told['work']} {told['name']}: {told['process']}, since {isoformat(told['since'])}{_until(told, now)}"


def _until(told: Mapping[str, Any], now: int) -> str:
    return "" if told["until"] is None else f", for {max(0, told['until'] - now) / 1000:.0f} s unless it renews"


def _stream(told: Mapping[str, Any]) -> str:
    """One line on a stream."""
    lag = "" if told["lag"] is None else f", {told['lag']:,} to {told['direction']}"
    behind = "" if told["lag_ms"] is None else f", {told['lag_ms'] / 1000:,.1f} s behind"
    line = f"stream {told['name']} ({told['kind']} {told['topic']}): {told['state']}{lag}{behind}"
    return f"{line} ({told['message']})" if told["message"] else line


def _erased(told: Mapping[str, Any]) -> str:
    """One line on contacts that the law wants erased."""
    what = "wait to be erased" if told["state"] == "pending" else "were NOT erased: `storecue privacy list` says why"
    return f"{told['destination']}: {told['contacts']:,} contacts {what} (since {isoformat(told['since'])})"


def _asked(told: Mapping[str, Any]) -> str:
    """One line on a source that has to be asked."""
    line = f"source {told['source']}: {told['state']}, {told['waiting']:,} things to fetch"
    return f"{line} ({told['message']})" if told["message"] else line


def _told(asked: Mapping[str, Any]) -> str:
    """One line on up to when an account has told what people do with its mails."""
    line = f"opens and clicks are here up to {isoformat(asked['until'])}"
    return f"{line} ({asked['error']})" if asked["error"] else line


def _verified(told: Mapping[str, Any]) -> str:
    """One line on what the latest read-back came to."""
    if told["state"] == "failed":
        return f"could not be read back at {isoformat(told['at'])}: {told['error']}"
    read = f"{told['checked']:,} of {told['contacts']:,} contacts read back at {isoformat(told['at'])}"
    came_of_it = f"{told['drifted']:,} differed, {told['repaired']:,} put right"
    return f"{read}: {came_of_it}" + (f" ({told['error']})" if told["error"] else "")


def refills(look: Callable[[], Mapping[str, Any]], *, stay: bool) -> None:
    """Show a bar with the remaining time for each running refill; with `stay`, until none is left."""
    running = look()["refills"]
    if not running:
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as bars:
        tasks: dict[str, TaskID] = {}
        while running:
            for refill in running:
                name = refill["segment"]
                if name not in tasks:
                    tasks[name] = bars.add_task(name or "desired states", total=refill["last"])
                bars.update(tasks[name], completed=refill["position"])
            if not stay:
                return
            time.sleep(_LOOK_EVERY)
            running = look()["refills"]
            for name in tasks.keys() - {refill["segment"] for refill in running}:
                bars.update(tasks[name], completed=bars.tasks[tasks[name]].total)
