"""The org's API: what has changed since, by SOQL over `queryAll`, which also shows what was deleted."""

import re
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any
from urllib.parse import urlencode, urlsplit

import orjson

from adapters.destination import Clock
from adapters.destination import Settings as AccountSettings
from adapters.errors import DeliveryError, Misconfigured, Rejected, Transient, Unauthorized
from adapters.http import Answer, Fault, Http, Vendor, judge
from connector.clock import MINUTE, Millis, isoformat
from connector.domain import AdminConfig
from connector.inbox.deliveries import HISTORY, REPLAY
from connector.ports import Changes, New
from connector.sources.instants import read_instant

_LOGIN = "/services/oauth2/token"
_OVERLAP: Millis = 10 * MINUTE
"""SystemModstamp is set before the transaction ends, which Salesforce lets last that long: what was committed late lies
behind the watermark."""

_SHARED = "Id, FirstName, LastName, Email, Phone, MobilePhone, HasOptedOutOfEmail, IsDeleted, MasterRecordId"
_STAMPS = "CreatedDate, SystemModstamp"
_FIELDS: Mapping[str, str] = {
    "Contact": f"{_SHARED}, MailingCity, MailingCountry, {_STAMPS}",
    "Lead": f"{_SHARED}, City, Country, ConvertedContactId, {_STAMPS}",
}
_NEXT = re.compile(r"/services/data/v[1-9][0-9]\.0/query(?:All)?/[A-Za-z0-9-]{1,200}")
_TOKEN = re.compile(r"[!-~]{10,2000}")

_CODES: Mapping[str, tuple[Fault, str]] = {
    "INVALID_SESSION_ID": (Fault(Unauthorized, "unauthorized"), "Salesforce does not take the token"),
    "API_DISABLED_FOR_ORG": (
        Fault(Unauthorized, "api_disabled"),
        "this edition of Salesforce, or the user's profile, has no API: enable it for the integration user",
    ),
    "INSUFFICIENT_ACCESS": (Fault(Unauthorized, "forbidden"), "the integration user may not read these records"),
    "INVALID_FIELD": (
        Fault(Misconfigured, "missing_field"),
        "the integration user cannot see a field: give its permission set read access to the fields that the docs list",
    ),
    "INVALID_TYPE": (
        Fault(Misconfigured, "missing_object"),
        "the integration user cannot see this object: give its permission set read access to it, or leave it out of "
        "`options.objects`",
    ),
    "REQUEST_LIMIT_EXCEEDED": (Fault(Transient, "rate_limited", 900.0), "the org's API calls of 24 hours are used up"),
    "INVALID_QUERY_LOCATOR": (Fault(Transient, "cursor_ended", 1.0), "the pages have ended: asked anew"),
    "QUERY_TIMEOUT": (Fault(Transient, "timed_out", 60.0), "the query took Salesforce too long"),
}
_LOGIN_SAID: Mapping[str, str] = {
    "invalid_client_id": "no app has this client_id: copy the Consumer Key again",
    "invalid_client": "client_secret is not the app's: copy the Consumer Secret again",
    "invalid_grant": "the app has no user to run as: name one under Policies > Client Credentials Flow (Run As)",
    "unsupported_grant_type": "switch on the Client Credentials Flow in the app's settings",
}


class OrgApi:
    """One org. Used by one thread. Tokens are kept in memory only: a new one costs one call."""

    def __init__(
        self, name: str, config: AdminConfig, clock: Clock, objects: Sequence[str], every: Millis, version: str
    ) -> None:
        self.kinds = tuple(objects)
        self.every = every
        self._name = name
        self._config = config
        self._clock = clock
        self._query = f"/services/data/v{version}/queryAll"
        self._calls: Http | None = None

    def changes(self, kind: str, since: Millis | None, cursor: str | None, begun_at: Millis, now: Millis) -> Changes:
        """A page of records, the oldest change first."""
        path, query = (self._query, {"q": soql(kind, since)}) if cursor is None else (cursor, None)
        answer = self._get(path, query)
        records = answer.at("records")
        if not isinstance(records, list) or not all(isinstance(one, dict) for one in records):
            raise Transient("the records are no list of objects", retry_after=60.0, reason="unreadable_answer")
        told = [self._delivery(kind, one, begun_at, now) for one in records]
        stamps = [_stamp(one) for one in records]
        return Changes(told, max(stamps) if stamps else None, _following(answer))

    def close(self) -> None:
        if self._calls is not None:
            self._calls.close()
            self._calls = None

    def _delivery(self, kind: str, record: Mapping[str, Any], begun_at: Millis, now: Millis) -> New:
        body = orjson.dumps({name: value for name, value in record.items() if name != "attributes"})
        id_, stamp = str(record.get("Id"))[:40], _stamp(record)
        topic = f"fetched/{kind}"
        return New(
            key=f"customer:{id_}",
            source=self._name,
            delivery_id=f"{topic}:{id_}:{stamp}:{blake2b(body, digest_size=6).hexdigest()}",
            topic=topic,
            received_at=now,
            headers=orjson.dumps({REPLAY: HISTORY} if stamp < begun_at else {}).decode(),
            body=body,
        )

    # --- calls --------------------------------------------------------------------------------------------------------

    def _get(self, path: str, query: Mapping[str, object] | None) -> Answer:
        """The answer, with a new token when ours has ended: nobody says how long one lasts."""
        fresh = self._calls is None
        http = self._calls = self._calls or self._login()
        try:
            return http.call("GET", path, query=query)
        except Unauthorized as error:
            self.close()
            if fresh or error.reason != "unauthorized":
                raise
        self._calls = self._login()
        return self._calls.call("GET", path, query=query)

    def _login(self) -> Http:
        config = self._config
        form = {
            "grant_type": "client_credentials",
            "client_id": config.client_id,
            "client_secret": config.client_secret,
        }
        http = self._http({"Content-Type": "application/x-www-form-urlencoded"})
        try:
            answer = http.call("POST", _LOGIN, body=urlencode(form).encode(), expect=(400, 401, 403))
        finally:
            http.close()
        token = answer.data.get("access_token")
        if answer.status != 200 or not isinstance(token, str) or not _TOKEN.fullmatch(token):
            code = str(answer.data.get("error") or answer.status)
            raise Unauthorized(f"Salesforce gives no token: {_LOGIN_SAID.get(code, code[:100])}", reason="no_token")
        # instance_url is not looked at: calls go to the host that is configured.
        return self._http({"Authorization": f"Bearer {token}"}, token)

    def _http(self, headers: Mapping[str, str], *secrets: str) -> Http:
        config = self._config
        vendor = Vendor(
            name="Salesforce",
            address=f"https://{config.shop}",
            headers={"Accept": "application/json", **headers},
            secrets=(*secrets, *(one for one in (config.client_secret,) if one)),
            judge=_judged,
            concurrency=1,
            windows={},
            lists=True,
        )
        settings = AccountSettings(credentials={}, base_url=config.base_url, allow_insecure=config.allow_insecure)
        return Http(vendor, settings, self._clock)


def soql(kind: str, since: Millis | None) -> str:
    """The query for what has changed since, and a little before."""
    where = "" if since is None else f" WHERE SystemModstamp >= {isoformat(since - _OVERLAP)}"
    return f"SELECT {_FIELDS[kind]} FROM {kind}{where} ORDER BY SystemModstamp, Id"  # noqa: S608  of our own words


def _stamp(record: Mapping[str, Any]) -> Millis:
    try:
        return read_instant(record["SystemModstamp"])
    except (KeyError, TypeError, ValueError):
        raise Transient("a record has no SystemModstamp", retry_after=60.0, reason="unreadable_answer") from None


def _following(answer: Answer) -> str | None:
    """The path of the next page; its host, if it names one, counts for nothing."""
    following = answer.data.get("nextRecordsUrl")
    if answer.data.get("done", True) or not isinstance(following, str):
        return None
    path = urlsplit(following).path
    if not _NEXT.fullmatch(path):
        raise Rejected("the next page is not where pages are", reason="unreadable_answer")
    return path


def _judged(answer: Answer, now: float) -> DeliveryError:
    listed = answer.data.get("items")
    first = listed[0] if isinstance(listed, list) and listed and isinstance(listed[0], dict) else {}
    code = str(first.get("errorCode") or "")
    fault, words = _CODES.get(code, (None, code))
    faults = {answer.status: fault} if fault is not None else {}
    return judge(answer, now, words, faults=faults)
