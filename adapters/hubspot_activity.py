"""What HubSpot's contacts tell of mails: when each opened or clicked one last, who opted out, whose address bounces.

Events of single mails need Enterprise; these properties are there on every plan. The search finds contacts by when they
were last changed, also by us: what they tell is known by its own instant, so that a push of ours is no news.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from adapters.destination import Activity, ActivityKind, ActivityPage, Clock
from adapters.http import Http
from adapters.outcomes import chunked
from adapters.shape import dig, records, word
from adapters.values import millis

SEARCH = "search"
"""The family of the search's own limit: 5 calls a second for the whole account, counted apart from all others."""

_PAGE = 200
_MOST = 10_000  # results of one search
_HISTORY = 50  # contacts in a read with histories
_OVERLAP = 5 * 60_000  # milliseconds: the search lags behind
_OLD = 86_400_000  # milliseconds: what happened so long before the last look was told by an earlier one
_DATED: Mapping[str, ActivityKind] = {"hs_email_last_open_date": "opened", "hs_email_last_click_date": "clicked"}
_STATED: Mapping[str, ActivityKind] = {
    "hs_email_optout": "unsubscribed",
    "hs_email_hard_bounce_reason_enum": "bounced_for_good",
}
_SAYS = {"hs_email_optout": {"operator": "EQ", "value": "true"}}


class Contacts:
    """Asks one account for contacts that have something to tell."""

    def __init__(self, http: Http, version: str, clock: Clock) -> None:
        self._http = http
        self._clock = clock
        self._path = f"/crm/objects/{version}/contacts"

    def activity(self, since: int, defined: Collection[str]) -> Iterator[ActivityPage]:
        """What happened since, in the order in which contacts were changed; each page says how far it reaches. Of the
        properties only those are asked for that are `defined`: one that is not refuses the whole search."""
        asked = [name for name in (*_DATED, *_STATED) if name in defined]
        now, news = int(self._clock.time() * 1000), since - _OLD
        start, after = since - _OVERLAP, 0
        if not asked:
            yield ActivityPage((), now)
            return
        while True:
            body = _search(asked, start, after)
            answer = self._http.call("POST", f"{self._path}/search", body=body, family=SEARCH)
            found = records(answer.data, "results")
            changed = [at for contact in found if (at := _at(contact, "lastmodifieddate")) is not None]
            told = tuple(self._told(found, news))
            after += _PAGE
            if not dig(answer.data, "paging", "next", "after"):
                yield ActivityPage(told, now)
                return
            yield ActivityPage(told, max(changed, default=None))
            if after + _PAGE > _MOST:  # the next results lie beyond: a new search begins at the last one
                start, after = max([start + 1, *changed]), 0

    def _told(self, found: Sequence[Mapping[str, Any]], news: int) -> Iterator[Activity]:
        for contact in found:
            for name, kind in _DATED.items():
                at = _at(contact, name)
                if at is not None and at >= news:
                    yield _activity(contact, name, kind, at)
        stating = {word(c, "id"): c for c in found if any(_is_said(c, name) for name in _STATED)}
        for id_, name, at in self._since_when(stating):
            if at >= news:
                yield _activity(stating[id_], name, _STATED[name], at)

    def _since_when(self, contacts: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, int]]:
        """Record id, property and since when it has said so: by its history, or else by the contact's last change."""
        for piece in chunked(sorted(contacts), _HISTORY):
            body = {"inputs": [{"id": id_} for id_ in piece], "properties": [], "propertiesWithHistory": [*_STATED]}
            answer = self._http.call("POST", f"{self._path}/batch/read", body=body)
            histories = {word(one, "id"): dig(one, "propertiesWithHistory") for one in records(answer.data, "results")}
            for id_ in piece:
                for name in _STATED:
                    if not _is_said(contacts[id_], name):
                        continue
                    at = _last_time(records(histories.get(id_), name)) or _at(contacts[id_], "lastmodifieddate")
                    if at is not None:
                        yield id_, name, at


def _search(asked: Sequence[str], start: int, after: int) -> dict[str, Any]:
    """Contacts changed since, the longest ago first, that tell one of the things: groups are alternatives."""
    changed = {"propertyName": "lastmodifieddate", "operator": "GTE", "value": str(start)}
    says = [{"propertyName": n, **_SAYS.get(n, {"operator": "HAS_PROPERTY"})} for n in asked]
    body: dict[str, Any] = {
        "filterGroups": [{"filters": [changed, one]} for one in says],
        "sorts": [{"propertyName": "lastmodifieddate", "direction": "ASCENDING"}],
        "properties": ["email", "lastmodifieddate", *asked],
        "limit": _PAGE,
    }
    return {**body, "after": str(after)} if after else body


def _is_said(contact: Mapping[str, Any], name: str) -> bool:
    value = word(contact, "properties", name)
    return value == "true" if name == "hs_email_optout" else bool(value)


def _at(contact: Mapping[str, Any], name: str) -> int | None:
    return millis(word(contact, "properties", name))


def _last_time(history: Iterable[Mapping[str, Any]]) -> int | None:
    """The latest instant at which the property began to say something."""
    times = [millis(word(one, "timestamp")) for one in history if word(one, "value") not in ("", "false")]
    return max((at for at in times if at is not None), default=None)


def _activity(contact: Mapping[str, Any], name: str, kind: ActivityKind, at: int) -> Activity:
    id_ = word(contact, "id")
    email = word(contact, "properties", "email").lower()
    return Activity(kind, f"hubspot:contact:{id_}:{kind}:{at}", at, email, id_, {"property": name})
