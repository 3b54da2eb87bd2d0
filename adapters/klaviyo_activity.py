"""What people did with Klaviyo's mails: the events that it records itself, metric by metric."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs

from adapters.destination import Activity, ActivityKind, ActivityPage, Clock
from adapters.http import Http
from adapters.shape import dig, records, word
from adapters.values import instant, millis

METRICS: Mapping[str, ActivityKind] = {
    "Opened Email": "opened",
    "Clicked Email": "clicked",
    "Bounced Email": "bounced",
    "Marked Email as Spam": "complained",
    "Unsubscribed from Email Marketing": "unsubscribed",
    "Subscribed to Email Marketing": "subscribed",
}
"""By name, of the metrics that are Klaviyo's own: a shop may have another one of the same name. Mails that were
received are not asked for: there are as many as were sent, and nobody did anything."""

_PAGE = 200
_OVERLAP = 15 * 60_000  # milliseconds: what is recorded late, and a clock that is not ours
_SHOWN = {
    "email_id": "$message",
    "email_subject": "Subject",
    "campaign_name": "Campaign Name",
    "flow_id": "$flow",
    "variation_id": "$variation",
    "link_url": "URL",
}


class Metrics:
    """The metrics of one account."""

    def __init__(self, http: Http, clock: Clock) -> None:
        self._http = http
        self._clock = clock

    def activity(self, since: int) -> Iterator[ActivityPage]:
        """What happened since, metric by metric; only the last page says up to when all of it was told."""
        now = int(self._clock.time() * 1000)
        for id_, kind in self._ids().items():
            wanted = f'equals(metric_id,"{id_}"),greater-or-equal(datetime,{instant(since - _OVERLAP)})'
            query = {"filter": wanted, "sort": "datetime", "page[size]": _PAGE}
            query |= {"include": "profile", "fields[profile]": "email"}
            for page in self._pages("/api/events", query, "events-read"):
                emails = {word(p, "id"): word(p, "attributes", "email").lower() for p in records(page, "included")}
                told = (_told(kind, event, emails) for event in records(page, "data"))
                yield ActivityPage(tuple(one for one in told if one is not None), None)
        yield ActivityPage((), now)

    def _ids(self) -> dict[str, ActivityKind]:
        """The kinds by the metrics' ids, as far as the account has recorded any."""
        found: dict[str, ActivityKind] = {}
        for page in self._pages("/api/metrics", {"filter": 'equals(integration.name,"Klaviyo")'}, "metrics"):
            for metric in records(page, "data"):
                kind = METRICS.get(word(metric, "attributes", "name"))
                if kind is not None and word(metric, "id"):
                    found[word(metric, "id")] = kind
        return found

    def _pages(self, path: str, query: Mapping[str, object], family: str) -> Iterator[Mapping[str, Any]]:
        asked = dict(query)
        while True:
            page = self._http.call("GET", path, query=asked, family=family).data
            yield page
            cursor = parse_qs(word(page, "links", "next").partition("?")[2]).get("page[cursor]")
            if not cursor or cursor[0] == asked.get("page[cursor]"):
                return
            asked["page[cursor]"] = cursor[0]


def _told(kind: ActivityKind, event: Mapping[str, Any], emails: Mapping[str, str]) -> Activity | None:
    id_, at = word(event, "id"), millis(word(event, "attributes", "datetime"))
    profile = word(event, "relationships", "profile", "data", "id")
    held = dig(event, "attributes", "event_properties")
    if not id_ or at is None or not profile:
        return None
    if kind == "bounced" and word(held, "Bounce Type").lower() == "hard":
        kind = "bounced_for_good"
    properties = {name: word(held, theirs) for name, theirs in _SHOWN.items() if word(held, theirs)}
    machine = dig(held, "machine_open")
    told = {**properties, **({"machine": machine} if isinstance(machine, bool) else {})}
    return Activity(kind, f"klaviyo:event:{id_}"[:900], at, emails.get(profile, ""), profile, told)
