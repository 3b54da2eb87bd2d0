"""What each kind of source and destination wants to be told."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from connector.domain import CreatePolicy


@dataclass(frozen=True, slots=True)
class DestinationKind:
    """What a destination of one kind takes: the names of its credentials (all required), whether it needs `list_id`,
    the names of its options, and who may be created when the file does not say."""

    credentials: tuple[str, ...]
    list_id: bool = False
    options: tuple[str, ...] = ()
    create_contacts: CreatePolicy = "always"


@dataclass(frozen=True, slots=True)
class Kinds:
    """The kinds that there are."""

    sources: tuple[str, ...]
    destinations: Mapping[str, DestinationKind] = field(default_factory=dict)


# Read where an adapter does not declare it itself: this table is the one place outside `adapters` with vendors' names.
_DESTINATIONS = {
    "klaviyo": DestinationKind(("api_key",), options=("revision",)),
    "hubspot": DestinationKind(("access_token",), options=("version",)),
    "mailchimp": DestinationKind(("api_key",), list_id=True, create_contacts="consented"),
    "console": DestinationKind(()),
}


def known_kinds() -> Kinds:
    """The kinds that are built in, from `connector.sources` and `adapters`."""
    from adapters import DESTINATIONS
    from connector.sources import SOURCES

    return Kinds(tuple(SOURCES), {kind: _DESTINATIONS.get(kind, DestinationKind(())) for kind in DESTINATIONS})
