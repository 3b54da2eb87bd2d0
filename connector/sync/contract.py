"""What a destination will make of every field and tag that is configured for it, told before anything is pushed."""

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from adapters.destination import Destination, FieldSpec, Fit, Forecast
from connector.domain import Configuration, DestinationConfig, Json
from connector.storage.database import Database
from connector.sync import store

_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Example:
    """One profile as it would be pushed: its tags and the fields that have a value, texts cut as the vendor would."""

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
    specs = [FieldSpec(one.name, one.type, one.label) for one in configuration.fields.values()]
    tags = sorted(s for s in configuration.segments if config.segments is None or s in config.segments)
    told = Contract(adapter.foresee(specs, tags))
    longest = {fit.name: fit.longest for fit in told.forecast.fields}
    fullest: list[tuple[int, int, str]] = []  # those with the most to show, the lowest id first
    with database.read() as connection:
        for person, text in store.desired_texts(connection, config.name):
            state: Mapping[str, Json] = orjson.loads(text)
            values = {name: value for name, value in state["fields"].items() if value is not None}
            told.contacts += 1
            told.filled.update(values.keys())
            told.tagged.update(state["tags"])
            told.cut.update(name for name, value in values.items() if fitted(value, longest.get(name)) != value)
            rank = (len(values) + len(state["tags"]), -person, text)
            (heapq.heappush if len(fullest) < _EXAMPLES else heapq.heappushpop)(fullest, rank)
    told.examples = [_example(-person, text, longest) for _, person, text in sorted(fullest, reverse=True)]
    return told


def fitted(value: Json, longest: int | None) -> Json:
    """The value as a vendor keeps it that cuts texts to so many bytes."""
    if longest is None or not isinstance(value, str):
        return value
    return value.encode()[:longest].decode(errors="ignore")


def _example(person: int, text: str, longest: Mapping[str, int | None]) -> Example:
    state: Mapping[str, Json] = orjson.loads(text)
    fields = {name: fitted(value, longest.get(name)) for name, value in state["fields"].items() if value is not None}
    return Example(person, state["tags"], fields)
