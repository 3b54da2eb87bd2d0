"""What a destination will make of every field and tag that is configured for it, told before anything is pushed."""

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from adapters.destination import Destination, FieldSpec, Fit, Forecast
from adapters.values import text
from connector.domain import Configuration, DestinationConfig, Json
from connector.storage.database import Database
from connector.sync import store

_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Example:
    """One profile as it would be pushed: its tags and the fields that have a value, texts cut or left out as they would
    be."""

    profile_id: int
    tags: Sequence[str]
    fields: Mapping[str, Json]


@dataclass(slots=True)
class Contract:
    """The vendor's side (`forecast`) and ours: how many profiles there are, how many have a value of each field and
    each tag, and in how many the text is longer than the vendor keeps."""

    forecast: Forecast
    contacts: int = 0
    filled: Counter[str] = field(default_factory=Counter)
    cut: Counter[str] = field(default_factory=Counter)
    tagged: Counter[str] = field(default_factory=Counter)
    examples: list[Example] = field(default_factory=list)

    def refused(self) -> list[Fit]:
        """The fields and tags that the vendor would not take."""
        return [fit for fit in (*self.forecast.fields, *self.forecast.tags) if fit.fate == "refused"]


def contract(
    database: Database, adapter: Destination, config: DestinationConfig, configuration: Configuration
) -> Contract:
    """What pushing to this destination would come to. Reads the account and the desired states, and changes neither.
    Raises DeliveryError when the account cannot be read."""
    specs = [FieldSpec(one.name, one.type, one.label) for one in configuration.fields_of(config.name)]
    tags = sorted(s for s in configuration.segments if config.segments is None or s in config.segments)
    told = Contract(adapter.foresee(specs, tags))
    fits = {fit.name: fit for fit in told.forecast.fields}
    fullest: list[tuple[int, int, str]] = []  # those with the most to show, the lowest id first
    with database.read() as connection:
        for person, wanted in store.desired_texts(connection, config.name):
            state: Mapping[str, Json] = orjson.loads(wanted)
            values = {name: value for name, value in state["fields"].items() if value is not None}
            told.contacts += 1
            told.filled.update(values.keys())
            told.tagged.update(state["tags"])
            told.cut.update(
                name for name, value in values.items() if name in fits and shown(value, fits[name]) != value
            )
            rank = (len(values) + len(state["tags"]), -person, wanted)
            (heapq.heappush if len(fullest) < _EXAMPLES else heapq.heappushpop)(fullest, rank)
    told.examples = [_example(-person, wanted, fits) for _, person, wanted in sorted(fullest, reverse=True)]
    return told


def fitted(value: Json, longest: int | None) -> Json:
    """The value as a vendor keeps it that cuts texts to so many bytes."""
    if longest is None or not isinstance(value, str):
        return value
    return value.encode()[:longest].decode(errors="ignore")


def shown(value: Json, fit: Fit) -> Json:
    """The value as it would be shown, None when it is too long and would be left out. Where texts have a limit, a list
    is shown as one."""
    whole = text(value) if isinstance(value, list) else value
    kept = fitted(whole, fit.longest)
    if kept == whole:
        return value
    return None if fit.beyond == "left_out" else kept


def _example(person: int, wanted: str, fits: Mapping[str, Fit]) -> Example:
    state: Mapping[str, Json] = orjson.loads(wanted)
    kept = {name: shown(value, fits[name]) if name in fits else value for name, value in state["fields"].items()}
    return Example(person, state["tags"], {name: value for name, value in kept.items() if value is not None})
