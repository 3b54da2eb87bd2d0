"""Configured objects as entries: the JSON objects kept in the database, written to YAML and compared in a plan."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

from connector.domain import (
    AdminConfig,
    BrowserConfig,
    Configuration,
    DestinationConfig,
    FieldConfig,
    IdentityConfig,
    Json,
    SegmentConfig,
    SourceConfig,
    StoreInfo,
    StreamConfig,
    VerifyConfig,
)

KINDS = ("store", "identity", "source", "destination", "stream", "field", "segment")
"""In the order in which they refer to nothing that comes later, but for segments, which destinations name."""

STORE = "store"
"""The name of the one object of kind store."""


IDENTITY = "identity"
"""The name of the one object of kind identity."""


class Entry(NamedTuple):
    """One configured object. `definition` is complete: no default is left out."""

    kind: str
    name: str
    definition: dict[str, Json]


def entries_of(configuration: Configuration) -> Iterator[Entry]:
    """Every object of a configuration, kind by kind, each in the file's order."""
    store = configuration.store
    yield Entry("store", STORE, {"name": store.name, "timezone": store.timezone, "currency": store.currency})
    if configuration.identity != IdentityConfig():
        blocked = {kind: list(values) for kind, values in configuration.identity.blocked.items()}
        yield Entry("identity", IDENTITY, {"blocked": blocked, "limits": dict(configuration.identity.limits)})
    for source in configuration.sources.values():
        yield Entry("source", source.name, _of_source(source))
    for destination in configuration.destinations.values():
        yield Entry("destination", destination.name, _of_destination(destination))
    for stream in configuration.streams.values():
        yield Entry("stream", stream.name, _of_stream(stream))
    for one in configuration.fields.values():
        shown = None if one.destinations is None else list(one.destinations)
        told = {"from": one.source, "type": one.type, "label": one.label, "destinations": shown}
        yield Entry("field", one.name, told)
    for segment in configuration.segments.values():
        yield Entry("segment", segment.id, {"name": segment.name, "when": segment.when})


def configuration_of(entries: Iterable[Entry], version: int) -> Configuration:
    """The configuration that `entries_of` took apart."""
    found: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
    for kind, name, definition in entries:
        found[kind][name] = _BUILD[kind](name, definition)
    return Configuration(
        version=version,
        store=found["store"].get(STORE, StoreInfo()),
        identity=found["identity"].get(IDENTITY, IdentityConfig()),
        sources=found["source"],
        destinations=found["destination"],
        streams=found["stream"],
        fields=found["field"],
        segments=found["segment"],
    )


def text_of(definition: Mapping[str, Json]) -> str:
    """A definition as JSON text, its keys in their order."""
    return json.dumps(definition, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def same(left: Json, right: Json) -> bool:
    """True when two JSON values are equal: 1, 1.0 and true are three values, the order of keys means nothing."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


def _identity(name: str, definition: Mapping[str, Json]) -> IdentityConfig:
    blocked = {kind: tuple(values) for kind, values in definition["blocked"].items()}
    return IdentityConfig(blocked, definition["limits"])


def _of_source(source: SourceConfig) -> dict[str, Json]:
    browser = source.browser
    return {
        "kind": source.kind,
        "secrets": list(source.secrets),
        "browser": browser
        and {
            "keys": list(browser.keys),
            "origins": list(browser.origins),
            "events_per_second": browser.events_per_second,
        },
        "shop": source.shop,
        "silent_after": source.silent_after,
        "options": dict(source.options),
        "admin": source.admin and asdict(source.admin),
    }


def _source(name: str, definition: Mapping[str, Json]) -> SourceConfig:
    browser = definition.get("browser")
    taken = browser and BrowserConfig(tuple(browser["keys"]), tuple(browser["origins"]), browser["events_per_second"])
    admin = definition.get("admin")
    return SourceConfig(
        name,
        definition["kind"],
        tuple(definition["secrets"]),
        taken,
        definition.get("shop"),
        definition.get("silent_after"),
        definition.get("options", {}),
        admin and AdminConfig(**admin),
    )


def _of_destination(destination: DestinationConfig) -> dict[str, Json]:
    return {
        "kind": destination.kind,
        "credentials": dict(destination.credentials),
        "list_id": destination.list_id,
        "base_url": destination.base_url,
        "allow_insecure": destination.allow_insecure,
        "dry_run": destination.dry_run,
        "segments": None if destination.segments is None else list(destination.segments),
        "lists": destination.lists,
        "events": destination.events,
        "backfill": destination.backfill,
        "create_contacts": destination.create_contacts,
        "duplicates": destination.duplicates,
        "at_most_every": destination.at_most_every,
        "wait_for_more": destination.wait_for_more,
        "options": dict(destination.options),
        "verify": destination.verify is not None and asdict(destination.verify),
        "engagement": destination.engagement,
    }


def _destination(name: str, definition: Mapping[str, Json]) -> DestinationConfig:
    segments, verify = definition["segments"], definition["verify"]
    typed = {
        "segments": None if segments is None else tuple(segments),
        "verify": VerifyConfig(**verify) if verify else None,
    }
    return DestinationConfig(name=name, **{**definition, **typed})


def _of_stream(stream: StreamConfig) -> dict[str, Json]:
    return {
        "kind": stream.kind,
        "topic": stream.topic,
        "into": stream.into,
        "publish": list(stream.publish),
        "credentials": dict(stream.credentials),
        "options": dict(stream.options),
    }


def _field(name: str, definition: Mapping[str, Any]) -> FieldConfig:
    shown = definition["destinations"]
    given = (definition["from"], definition["type"], definition["label"])
    return FieldConfig(name, *given, None if shown is None else tuple(shown))


_BUILD: dict[str, Callable[[str, Mapping[str, Any]], object]] = {
    "store": lambda name, definition: StoreInfo(**definition),
    "identity": _identity,
    "source": _source,
    "destination": _destination,
    "stream": lambda name, definition: StreamConfig(name, **{**definition, "publish": tuple(definition["publish"])}),
    "field": _field,
    "segment": lambda name, definition: SegmentConfig(name, definition["name"], definition["when"]),
}
