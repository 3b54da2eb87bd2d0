"""What people did with the campaigns of a Mailchimp audience: opens, clicks and bounces, from the reports."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from adapters.destination import Activity, ActivityKind, ActivityPage, Clock
from adapters.http import Http
from adapters.shape import records, word
from adapters.values import instant, millis

_PAGE = 1000
_LASTS = 30 * 86_400_000  # milliseconds: whoever opens a campaign later is not asked for
_OVERLAP = 15 * 60_000  # what Mailchimp counts late, and a clock that is not ours
_BOUNCES = 4 * 86_400_000  # mail servers give up after that long
_REPORT = "id,list_id,campaign_title,subject_line,send_time,opens.last_open,clicks.last_click,bounces"
_KINDS: Mapping[str, ActivityKind] = {"open": "opened", "click": "clicked", "bounce": "bounced"}


class Reports:
    """The reports of one audience's campaigns."""

    def __init__(self, http: Http, list_id: str, clock: Clock) -> None:
        self._http = http
        self._list_id = list_id
        self._clock = clock

    def activity(self, since: int) -> Iterator[ActivityPage]:
        """What happened since, campaign by campaign; only the last page says up to when all of it was told."""
        now = int(self._clock.time() * 1000)
        after = since - _OVERLAP
        for report in list(self._campaigns(now)):
            if not _is_quiet(report, after):
                yield from self._of(report, after)
        yield ActivityPage((), now)

    def _campaigns(self, now: int) -> Iterator[Mapping[str, Any]]:
        fields = ",".join(f"reports.{name}" for name in _REPORT.split(","))
        query = {"since_send_time": instant(now - _LASTS), "fields": f"{fields},total_items"}
        for report in self._pages("/3.0/reports", "reports", query):
            if word(report, "list_id") == self._list_id:
                yield report

    def _of(self, report: Mapping[str, Any], after: int) -> Iterator[ActivityPage]:
        campaign = word(report, "id")
        fields = "emails.email_address,emails.email_id,emails.activity,total_items"
        query = {"since": instant(after), "fields": fields}
        told = []
        for person in self._pages(f"/3.0/reports/{quote(campaign, safe='')}/email-activity", "emails", query):
            found = (_told(report, person, activity) for activity in records(person, "activity"))
            told += [one for one in found if one is not None and one.at >= after]
            if len(told) >= _PAGE:
                yield ActivityPage(tuple(told), None)
                told = []
        if told:
            yield ActivityPage(tuple(told), None)

    def _pages(self, path: str, name: str, query: Mapping[str, object]) -> Iterator[Mapping[str, Any]]:
        offset = 0
        while True:
            answer = self._http.call("GET", path, query={**query, "count": _PAGE, "offset": offset})
            found = records(answer.data, name)
            yield from found
            offset += _PAGE
            if len(found) < _PAGE:
                return


def _is_quiet(report: Mapping[str, Any], after: int) -> bool:
    """True when the report itself says that nothing happened since; where it does not say, it is asked. When the last
    mail came back is not said at all: that counts for some days."""
    lasts = [millis(word(report, "opens", "last_open")), millis(word(report, "clicks", "last_click"))]
    sent = millis(word(report, "send_time"))
    bounced = any(word(report, "bounces", kind) not in ("", "0") for kind in ("hard_bounces", "soft_bounces"))
    fresh = sent is None or sent >= after - _BOUNCES
    return not (bounced and fresh) and all(last is not None and last < after for last in lasts)


def _told(report: Mapping[str, Any], person: Mapping[str, Any], activity: Mapping[str, Any]) -> Activity | None:
    kind, at = _KINDS.get(word(activity, "action")), millis(word(activity, "timestamp"))
    email, campaign, id_ = word(person, "email_address").lower(), word(report, "id"), word(person, "email_id")
    if kind is None or at is None or not email:
        return None
    url, key = word(activity, "url"), f"mailchimp:campaign:{campaign}:{id_}"
    if kind == "bounced" and word(activity, "type") == "hard":
        kind, key = "bounced_for_good", f"{key}:bounced"  # under the same key as by the webhook: it happens once
    else:
        key = f"{key}:{kind}:{at}{f':{url}' if url else ''}"[:900]
    properties = {
        "campaign_id": campaign,
        "campaign_name": word(report, "campaign_title"),
        "email_subject": word(report, "subject_line"),
        "list_id": word(report, "list_id"),
        "link_url": url,
    }
    return Activity(kind, key, at, email, "", {name: value for name, value in properties.items() if value})
