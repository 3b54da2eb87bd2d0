"""The kinds of sources and destinations there are, and what each destination wants to be told."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from adapters import DESTINATIONS
from adapters.destination import Takes
from connector.domain import CreatePolicy
from connector.sources import SOURCES


@dataclass(frozen=True, slots=True)
class Kinds:
    """The kinds that there are."""

    sources: tuple[str, ...]
    destinations: Mapping[str, Takes] = field(default_factory=dict)


def known_kinds() -> Kinds:
    """The kinds that are built in, from `connector.sources` and `adapters`."""
    return Kinds(tuple(SOURCES), {kind: vendor.takes for kind, vendor in DESTINATIONS.items()})


def creation_policy(takes: Takes) -> CreatePolicy:
    """Who may be created at a destination when the file does not say."""
    return "consented" if takes.consent_first else "always"
