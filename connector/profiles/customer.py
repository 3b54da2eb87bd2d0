"""What the shop says of a customer, put together from partial payloads: per key the latest word counts."""

from collections.abc import Iterable, Mapping
from typing import Any

from connector.clock import Millis
from connector.domain import Json, TagChange

Record = dict[str, Any]
"""{"values": {key: value}, "at": {key: ms}, "tags": {tag: [on, ms]}, "tags_at": ms of the last complete list}"""


def empty() -> Record:
    return {"values": {}, "at": {}, "tags": {}, "tags_at": 0}


def update(record: Record, data: Mapping[str, Json], at: Millis) -> Record:
    """`record` after a payload as of `at`. `tags` in it is a complete list, every other key stands for itself."""
    values, stamps = dict(record["values"]), dict(record["at"])
    for key, value in data.items():
        if key != "tags" and at >= stamps.get(key, 0):
            values[key], stamps[key] = value, at
    after = {**record, "values": values, "at": stamps}
    if isinstance(complete := data.get("tags"), list) and at >= record["tags_at"]:
        later = {tag: word for tag, word in record["tags"].items() if word[1] > at}
        after["tags"] = {tag: [True, at] for tag in complete} | later
        after["tags_at"] = at
    return after


def retag(record: Record, changes: Iterable[TagChange]) -> Record:
    """`record` after tags were added or removed, whatever the order of arrival."""
    tags = dict(record["tags"])
    for change in changes:
        for tag in change.tags:
            known_at = max(tags.get(tag, [False, 0])[1], record["tags_at"])
            if change.at >= known_at:
                tags[tag] = [change.added, change.at]
    return {**record, "tags": tags}


def traits(record: Record) -> dict[str, Json]:
    """The declared traits: values that are there, and the tags as a sorted list."""
    found = {key: value for key, value in record["values"].items() if value not in (None, "")}
    if record["tags"] or record["tags_at"]:
        found["tags"] = sorted(tag for tag, (on, _) in record["tags"].items() if on)
    return found
