"""What each kind of source and destination wants to be told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from adapters import DESTINATIONS
from connector.domain import CreatePolicy
from connector.sources import SOURCES


class Option(NamedTuple):
    """One of a vendor's own options: what its text must look like, and an example for who gets it wrong."""

    pattern: str
    example: str


@dataclass(frozen=True, slots=True)
class DestinationKind:
    """What a destination of one kind takes: the names of its credentials (all required), whether it needs `list_id`,
    its options, and who may be created when the file does not say."""

    credentials: tuple[str, ...]
    list_id: bool = False
    options: Mapping[str, Option] = field(default_factory=dict)
    create_contacts: CreatePolicy = "always"


@dataclass(frozen=True, slots=True)
class Kinds:
    """The kinds that there are."""

    sources: tuple[str, ...]
    destinations: Mapping[str, DestinationKind] = field(default_factory=dict)


# Read where an adapter does not declare it itself: this table is the one place outside `adapters` with vendors' names.
_DESTINATIONS = {
    "klaviyo": DestinationKind(
        credentials=("api_key",),
        options={"revision": Option(r"\d{4}-\d{2}-\d{2}(\.[a-z]+)?", "2026-07-15")},
    ),
    "hubspot": DestinationKind(
        credentials=("access_token",),
        options={
            "version": Option(r"\d{4}-\d{2}", "2026-03"),
            "requests_per_10_seconds": Option(r"[1-9]\d{0,3}", "190"),
            "custom_events": Option(r"true|false", "true"),
        },
    ),
    "mailchimp": DestinationKind(
        credentials=("api_key",),
        list_id=True,
        options={"merge_field_slots": Option(r"[1-9]\d{0,2}", "80")},
        create_contacts="consented",
    ),
    "console": DestinationKind(credentials=(), options={"name": Option(r".+", "preview")}),
}


def known_kinds() -> Kinds:
    """The kinds that are built in, from `connector.sources` and `adapters`."""
    return Kinds(tuple(SOURCES), {kind: _DESTINATIONS.get(kind, DestinationKind(())) for kind in DESTINATIONS})
