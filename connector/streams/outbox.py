"""What is published: stored events and changes of membership as CloudEvents 1.0, put in the outbox in the transaction
that makes them true. published.schema.json says what is in them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection

from connector.clock import Millis, isoformat
from connector.domain import Json, Published, StreamConfig
from connector.streams import store


@dataclass(frozen=True, slots=True)
class Outbox:
    """The outbox of one version of the configuration; without a stream that publishes it does nothing."""

    streams: Mapping[str, StreamConfig]

    def events(self, tx: Connection, rows: Sequence[Mapping[str, Any]], now: Millis) -> None:
        """Publish these rows of the table `event`, but for those that are stored already. Call it before they are."""
        if not rows or not (streams := self._publishing("events")):
            return
        known = store.known_events(tx, (row["id"] for row in rows))
        fresh = {row["id"]: row for row in rows if row["id"] not in known}
        _put(tx, streams, [(row["profile_id"], event(row)) for row in fresh.values()], now)

    def changes(self, tx: Connection, rows: Sequence[Mapping[str, Any]], now: Millis) -> None:
        """Publish those of these rows of the table `change` that tell who is in a segment, or who is who."""
        if not rows or not (streams := self._publishing("memberships")):
            return
        meant = ((row["profile_id"], _MEANT[row["kind"]](row)) for row in rows if row["kind"] in _MEANT)
        _put(tx, streams, [(person, told) for person, told in meant if told is not None], now)

    def filled(self, tx: Connection, segment: str, inside: Mapping[int, bool], because: str, now: Millis) -> None:
        """Publish that the filling of a segment found these people in it, or no more."""
        if not inside or not (streams := self._publishing("memberships")):
            return
        moved = [(person, membership(person, segment, entered, because, now)) for person, entered in inside.items()]
        _put(tx, streams, moved, now)

    def _publishing(self, what: Published) -> list[str]:
        return [stream.name for stream in self.streams.values() if what in stream.publish]


def _put(tx: Connection, streams: Sequence[str], meant: Iterable[tuple[int, Json]], now: Millis) -> None:
    bodies = [(person, orjson.dumps(one).decode()) for person, one in meant]
    store.put(
        tx,
        [
            {"stream": stream, "profile_id": person, "at": now, "body": body}
            for stream in streams
            for person, body in bodies
        ],
    )


def event(row: Mapping[str, Any]) -> dict[str, Json]:
    """A stored event."""
    data = {
        "profile_id": row["profile_id"],
        "name": row["name"],
        "source": row["source"],
        "properties": orjson.loads(row["properties"]),
    }
    return _cloud_event(row["id"], f"/sources/{row['source']}", "storecue.event", row["profile_id"], row["at"], data)


def membership(person: int, segment: str, entered: bool, because: str, at: Millis) -> dict[str, Json]:
    """A profile entered a segment, or left it."""
    word = "entered" if entered else "left"
    data = {"profile_id": person, "segment": segment, "in": entered, "because": because}
    id_ = f"{segment}:{word}:{person}:{at}"
    return _cloud_event(id_, f"/segments/{segment}", f"storecue.segment.{word}", person, at, data)


def _moved(row: Mapping[str, Any]) -> dict[str, Json]:
    told = orjson.loads(row["data"])
    return membership(row["profile_id"], told["segment"], told["in"], told["because"], row["at"])


def _united(row: Mapping[str, Any]) -> dict[str, Json] | None:
    """The profile is from now on also what another was, which is no more. The other has an entry too, which tells
    nobody anything new."""
    person, at, told = row["profile_id"], row["at"], orjson.loads(row["data"])
    if "from" not in told:
        return None
    data = {"profile_id": person, "merged": told["from"], "because": told["because"]}
    return _cloud_event(
        f"merged:{person}:{told['from']}:{at}", "/profiles", "storecue.profile.merged", person, at, data
    )


_MEANT: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Json] | None]] = {"segment": _moved, "merged": _united}
"""Kind of change -> what it means to those who follow."""


def _cloud_event(id_: str, source: str, type_: str, person: int, at: Millis, data: Json) -> dict[str, Json]:
    return {
        "specversion": "1.0",
        "id": id_,
        "source": source,
        "type": type_,
        "subject": str(person),
        "time": isoformat(at),
        "datacontenttype": "application/json",
        "data": data,
    }
