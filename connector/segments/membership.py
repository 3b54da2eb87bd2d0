"""What changes in a profile's memberships: a comparison of what is stored with what was decided."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from connector.clock import Millis
from connector.domain import Verdict
from connector.segments.evaluate import Answer


class Row(NamedTuple):
    """A stored membership. `since` is the instant at which `matched` became what it is."""

    matched: bool
    since: Millis
    because: str
    recheck_at: Millis | None


class MembershipChange(NamedTuple):
    """One segment's change for one profile. `row` is what to store, None to delete what is stored.

    kind: entered, left, or moved (only the instant to look again, and the reason, are new).
    """

    segment: str
    kind: Literal["entered", "left", "moved"]
    row: Row | None


def changes(before: Mapping[str, Row], verdicts: Mapping[str, Verdict | Answer], now: Millis) -> list[MembershipChange]:
    """What to store and to tell, in the order of the verdicts. Nobody is stored as out without an instant to look
    again. Rows of segments without a verdict are left to refill."""
    found: list[MembershipChange] = []
    for segment, verdict in verdicts.items():
        row = before.get(segment)
        matched, recheck = verdict.matched, verdict.recheck_at
        if row is None:
            if matched:
                found.append(MembershipChange(segment, "entered", Row(True, now, verdict.because, recheck)))
            elif recheck is not None:
                found.append(MembershipChange(segment, "moved", Row(False, now, verdict.because, recheck)))
        elif row.matched is not matched:
            kept = Row(matched, now, verdict.because, recheck) if matched or recheck is not None else None
            found.append(MembershipChange(segment, "entered" if matched else "left", kept))
        elif recheck != row.recheck_at:
            kept = Row(matched, row.since, verdict.because, recheck) if matched or recheck is not None else None
            found.append(MembershipChange(segment, "moved", kept))
    return found
