"""The reports of a fake audience: campaigns, and what each person did with them."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from adapters.values import millis
from connector.simulator.vendors.account import Refusal, Route, route
from connector.simulator.vendors.server import Request, Response


@dataclass
class _Campaign:
    id: str
    title: str
    subject: str
    sent: float
    activity: dict[str, list[dict[str, str]]] = field(default_factory=dict)

    def last(self, action: str) -> str:
        return max(
            (one["timestamp"] for some in self.activity.values() for one in some if one["action"] == action), default=""
        )

    def count(self, **stated: str) -> int:
        return sum(stated.items() <= one.items() for some in self.activity.values() for one in some)


class Reports:
    """The campaigns of one audience. `page` cuts a list as the request's count and offset want it."""

    def __init__(
        self,
        list_id: str,
        now: Callable[[], float],
        page: Callable[[Request, list[Any]], tuple[list[Any], int]],
    ) -> None:
        self._list_id = list_id
        self._now = now
        self._page = page
        self._campaigns: dict[str, _Campaign] = {}

    def routes(self) -> Sequence[Route]:
        return (
            route("GET", "/3.0/reports", self._read_reports),
            route("GET", "/3.0/reports/{id}/email-activity", self._read_activity),
        )

    def send(self, title: str, subject: str, to: Iterable[str]) -> str:
        """The id of a campaign that is sent to these addresses now."""
        id_ = hashlib.sha256(f"{title}/{len(self._campaigns)}".encode()).hexdigest()[:10]
        self._campaigns[id_] = _Campaign(id_, title, subject, self._now(), {email.lower(): [] for email in to})
        return id_

    def note(self, campaign: str, email: str, action: str, **more: str) -> None:
        """Somebody opens, clicks, or their mail comes back."""
        noted = {"action": action, "timestamp": _iso(self._now()), "ip": "203.0.113.7", **more}
        self._campaigns[campaign].activity[email.lower()].append(noted)

    def _read_reports(self, request: Request, _: Mapping[str, str]) -> Response:
        since = millis(request.query.get("since_send_time", "")) or 0
        found = [one for one in self._campaigns.values() if one.sent * 1000 >= since]
        page, total = self._page(request, found)
        return Response(200, {"reports": [self._shown(one) for one in page], "total_items": total})

    def _read_activity(self, request: Request, parts: Mapping[str, str]) -> Response:
        """Everybody whom the campaign was sent to, with what they did since: also those who did nothing."""
        campaign = self._campaigns.get(parts["id"])
        if campaign is None:
            raise Refusal(Response(404, {"title": "Resource Not Found", "status": 404, "detail": "No such campaign."}))
        since = millis(request.query.get("since", "")) or 0
        people = [
            {
                "campaign_id": campaign.id,
                "list_id": self._list_id,
                "email_id": hashlib.md5(email.encode(), usedforsecurity=False).hexdigest(),
                "email_address": email,
                "activity": [one for one in did if (millis(one["timestamp"]) or 0) > since],
            }
            for email, did in campaign.activity.items()
        ]
        page, total = self._page(request, people)
        return Response(200, {"emails": page, "campaign_id": campaign.id, "total_items": total})

    def _shown(self, campaign: _Campaign) -> dict[str, Any]:
        return {
            "id": campaign.id,
            "campaign_title": campaign.title,
            "type": "regular",
            "list_id": self._list_id,
            "subject_line": campaign.subject,
            "emails_sent": len(campaign.activity),
            "send_time": _iso(campaign.sent),
            "bounces": {
                "hard_bounces": campaign.count(action="bounce", type="hard"),
                "soft_bounces": campaign.count(action="bounce", type="soft"),
                "syntax_errors": 0,
            },
            "opens": {"opens_total": campaign.count(action="open"), "last_open": campaign.last("open")},
            "clicks": {"clicks_total": campaign.count(action="click"), "last_click": campaign.last("click")},
        }


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
