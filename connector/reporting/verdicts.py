"""Every configured segment's verdict on one person: as stored, or decided here where nothing had to be stored."""

from sqlalchemy import Connection

from connector.clock import Millis
from connector.domain import Configuration
from connector.reporting import profiles
from connector.reporting.pages import Row
from connector.segments import store as segment_store
from connector.segments.evaluate import RuleSet


def verdicts(
    connection: Connection, configuration: Configuration, ruleset: RuleSet, profile_id: int, now: Millis
) -> list[Row]:
    """{segment, name, matched, since, because, recheck_at, stored} of each segment, in the configuration's order.

    Someone who never was in a segment, and whom no window can bring into it, has no stored verdict: it is decided
    here, so that `because` says why not; `since` is then None.
    """
    stored = {row["segment"]: row for row in profiles.memberships(connection, profile_id)}
    facts = segment_store.load_facts(connection, [profile_id], ruleset, now)
    decided = ruleset.evaluate(facts[profile_id], now)
    found = []
    for segment in configuration.segments.values():
        row = stored.get(segment.id)
        if row is None:
            verdict = decided[segment.id]
            row = {
                "segment": segment.id,
                "matched": verdict.matched,
                "since": None,
                "because": verdict.because,
                "recheck_at": verdict.recheck_at,
            }
        found.append({**row, "name": segment.name, "stored": segment.id in stored})
    return found
