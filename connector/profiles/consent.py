"""Consent per channel: the latest word counts, and of two words at the same instant the stricter."""

from collections.abc import Iterable, Mapping

from connector.clock import isoformat
from connector.domain import Consent, Json

_STRICTNESS = {"subscribed": 0, "pending": 1, "not_subscribed": 2, "invalid": 3, "unsubscribed": 4, "redacted": 5}


def apply(current: Mapping[str, Json], consents: Iterable[Consent], source: str) -> dict[str, Json]:
    """Channel -> {state, at (ms), since (RFC 3339), source, opt_in_level} after these words, whatever their order."""
    after = dict(current)
    for consent in consents:
        known = after.get(consent.channel)
        if known is None or _rank(consent.at, consent.state) > _rank(known["at"], known["state"]):
            after[consent.channel] = {
                "state": consent.state,
                "at": consent.at,
                "since": isoformat(consent.at),
                "source": source,
                "opt_in_level": consent.opt_in_level,
            }
    return after


def merge(left: Mapping[str, Json], right: Mapping[str, Json]) -> dict[str, Json]:
    """The consent of two people found to be one: per channel the stricter state wins, then the later."""
    after = dict(left)
    for channel, theirs in right.items():
        mine = after.get(channel)
        if mine is None or (_STRICTNESS[theirs["state"]], theirs["at"]) > (_STRICTNESS[mine["state"]], mine["at"]):
            after[channel] = theirs
    return after


def says_no(word: Mapping[str, Json] | None) -> bool:
    """Whether a channel's word is as strict as `unsubscribed`, or stricter."""
    return word is not None and _STRICTNESS[word["state"]] >= _STRICTNESS["unsubscribed"]


def states(consent: Mapping[str, Json]) -> dict[str, str]:
    """Channel -> state. A channel that is missing is unknown, and unknown is not subscribed."""
    return {channel: word["state"] for channel, word in consent.items()}


def _rank(at: int, state: str) -> tuple[int, int]:
    return at, _STRICTNESS[state]
