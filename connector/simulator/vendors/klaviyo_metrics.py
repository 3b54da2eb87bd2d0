"""The metrics that a fake Klaviyo account records itself: what people do with its mails."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from adapters.values import millis
from connector.simulator.vendors.account import Route, route
from connector.simulator.vendors.server import Request, Response

_WANTED = re.compile(r'equals\(metric_id,"([^"]+)"\),greater-or-equal\(datetime,([^)]+)\)')


@dataclass
class _Event:
    id: str
    metric: str
    profile: str
    email: str
    at: float
    properties: Mapping[str, Any]


class Metrics:
    """Metrics and events of one account. `page` answers with a page of a list as the request wants it."""

    def __init__(self, now: Callable[[], float], page: Callable[[Request, list[Any], int, int], Response]) -> None:
        self._now = now
        self._page = page
        self._ids: dict[str, str] = {}
        self._events: list[_Event] = []

    def routes(self, few: tuple[int, ...], many: tuple[int, ...]) -> Sequence[Route]:
        return (
            route("GET", "/api/metrics", self._read_metrics, limit=few),
            route("GET", "/api/events", self._read_events, limit=many),
        )

    def note(self, metric: str, profile: str, email: str, **properties: Any) -> str:
        """Somebody does something; the id of the event."""
        self._ids.setdefault(metric, f"M{len(self._ids) + 1:05d}")
        event = _Event(f"E{len(self._events) + 1:08d}", metric, profile, email, self._now(), properties)
        self._events.append(event)
        return event.id

    def _read_metrics(self, request: Request, _: Mapping[str, str]) -> Response:
        shown = [
            {
                "type": "metric",
                "id": id_,
                "attributes": {"name": name, "integration": {"object": "integration", "name": "Klaviyo"}},
            }
            for name, id_ in self._ids.items()
        ]
        return self._page(request, shown, 200, 200)

    def _read_events(self, request: Request, _: Mapping[str, str]) -> Response:
        wanted = _WANTED.fullmatch(request.query.get("filter", ""))
        metric, since = (wanted[1], millis(wanted[2]) or 0) if wanted else ("", 0)
        found = [one for one in self._events if self._ids[one.metric] == metric and one.at * 1000 >= since]
        answer = self._page(request, [self._shown(one) for one in sorted(found, key=lambda one: one.at)], 200, 1000)
        there = {one["relationships"]["profile"]["data"]["id"] for one in answer.body["data"]}
        people = {one.profile: one.email for one in found if one.profile in there}
        included = [{"type": "profile", "id": id_, "attributes": {"email": email}} for id_, email in people.items()]
        return Response(answer.status, {**answer.body, "included": included}, answer.headers, answer.media_type)

    def _shown(self, event: _Event) -> dict[str, Any]:
        return {
            "type": "event",
            "id": event.id,
            "attributes": {
                "timestamp": int(event.at),
                "event_properties": dict(event.properties),
                "datetime": datetime.fromtimestamp(event.at, UTC).isoformat(timespec="seconds"),
                "uuid": f"uuid-{event.id}",
            },
            "relationships": {
                "profile": {"data": {"type": "profile", "id": event.profile}},
                "metric": {"data": {"type": "metric", "id": self._ids[event.metric]}},
            },
        }
