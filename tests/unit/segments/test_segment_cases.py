"""Timelines in tests/cases/segments: one rule, one person's history, and what is to be said at which instants.

A case: about, when (the rule), events [{at, name, properties}], traits, consent, timezone, segments (rules that it
refers to), and at [{now, matched, recheck_at, because}]: recheck_at must be exactly this, because only where given.
Events after `now` have not been heard of yet, unless the case says `foreseen` (a sender's clock is ahead of ours).
"""

import json
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from connector.clock import Millis, isoformat, parse_instant
from connector.domain import Facts, SegmentConfig, StoredEvent, StoreInfo
from connector.segments.evaluate import RuleSet

CASES = sorted((Path(__file__).parents[2] / "cases" / "segments").glob("*.json"))


def instants() -> Iterator[Any]:
    for path in CASES:
        case = json.loads(path.read_text())
        for expected in case["at"]:
            yield pytest.param(case, expected, id=f"{path.stem}@{expected['now']}")


def facts_at(case: dict[str, Any], zone: ZoneInfo, now: Millis) -> Facts:
    events: dict[str, list[StoredEvent]] = {}
    for entry in sorted(case["events"], key=lambda entry: parse_instant(entry["at"])):
        at = parse_instant(entry["at"])
        if at > now and not case["foreseen"]:
            continue
        day = (datetime.fromtimestamp(at / 1000, zone).date() - date(1970, 1, 1)).days
        events.setdefault(entry["name"], []).append(StoredEvent(at, day, entry.get("properties", {})))
    return Facts(case.get("traits", {}), case.get("consent", {}), events)


def shown(at: Millis | None) -> str | None:
    return None if at is None else isoformat(at)


@pytest.mark.parametrize(("case", "expected"), instants())
def test_a_timeline_says_what_it_should_at_each_instant(case: dict[str, Any], expected: dict[str, Any]) -> None:
    rules = {"case": case["when"]} | case.get("segments", {})
    zone = case.get("timezone", "UTC")
    store = StoreInfo(timezone=zone)
    ruleset = RuleSet({id: SegmentConfig(id, id, when) for id, when in rules.items()}, store)
    now = parse_instant(expected["now"])
    answer = ruleset.evaluate(facts_at(case, ZoneInfo(zone), now), now)["case"]
    recheck_at = None if expected["recheck_at"] is None else parse_instant(expected["recheck_at"])
    assert (answer.matched, shown(answer.recheck_at)) == (expected["matched"], shown(recheck_at)), answer.because
    if "because" in expected:
        assert answer.because == expected["because"]
