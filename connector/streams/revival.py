"""Dead letters of streams put in line again: records that can be filed by now, and what is to be published anew."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import RowMapping

from connector.clock import Millis
from connector.domain import StreamConfig
from connector.errors import RejectedDelivery
from connector.ports import New
from connector.streams.arrival import Arrival
from connector.streams.port import Record
from connector.streams.store import DEAD, KEY


@dataclass(slots=True)
class Revival:
    """What comes of letters: deliveries for the log, rows for the outbox, and the ids of those that stay dead."""

    deliveries: list[New] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    dead: set[int] = field(default_factory=set)


def revived(
    letters: Iterable[RowMapping],
    streams: Mapping[str, StreamConfig],
    arrival: Callable[[str], Arrival],
    now: Millis,
) -> Revival:
    """`arrival` gives that of a source by its name. What is of no stream any more, or is refused again, stays dead."""
    found = Revival()
    for letter in letters:
        if letter["kind"] != DEAD:
            continue
        stream = streams.get(letter["origin"])
        if stream is not None and stream.into is None:
            found.rows.append(_row(letter, now))
        elif stream is not None and stream.into is not None:
            try:
                found.deliveries += arrival(stream.into).deliveries(_record(letter), now)
            except RejectedDelivery:
                found.dead.add(letter["id"])
        else:
            found.dead.add(letter["id"])
    return found


def _record(letter: RowMapping) -> Record:
    headers = orjson.loads(letter["headers"])
    key = headers.pop(KEY, None)
    return Record(letter["reference"], "", key, headers, letter["body"], letter["at"])


def _row(letter: RowMapping, now: Millis) -> dict[str, Any]:
    body = letter["body"].decode()
    return {"stream": letter["origin"], "profile_id": int(orjson.loads(body)["subject"]), "at": now, "body": body}
