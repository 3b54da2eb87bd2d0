"""A fake Salesforce org on loopback: client-credentials tokens, SOQL over `queryAll` as we write it, pages, deletions.

python -m connector.simulator.salesforce      # prints the `admin` for storecue.yaml, and stays
"""

import itertools
import re
import signal
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from connector.clock import Millis, isoformat, now, parse_instant
from connector.simulator.vendors.server import Request, Response, Server

Record = dict[str, Any]

_QUERY = re.compile(
    r"SELECT (?P<fields>[A-Za-z, ]+) FROM (?P<object>[A-Za-z]+)"
    r"(?: WHERE SystemModstamp >= (?P<since>[0-9T:.Z-]+))? ORDER BY SystemModstamp, Id"
)
_KNOWN = {
    "Contact": "Id FirstName LastName Email Phone MobilePhone HasOptedOutOfEmail IsDeleted MasterRecordId MailingCity "
    "MailingCountry CreatedDate SystemModstamp",
    "Lead": "Id FirstName LastName Email Phone MobilePhone HasOptedOutOfEmail IsDeleted MasterRecordId City Country "
    "ConvertedContactId CreatedDate SystemModstamp",
}


class FakeSalesforce:
    """One org. `records` by object, then by id; `put` and `remove` stamp them by `clock`. `page` records to a page;
    `hidden` fields are refused; `host` is what nextRecordsUrl names before its path; `logins` and `queries` count;
    `refuse` answers that many requests with this (status, errorCode)."""

    def __init__(
        self,
        client_id: str = "consumer-key-of-the-fake-org",
        client_secret: str = "consumer-secret-of-the-fake-org",
        *,
        clock: Callable[[], Millis] = now,
        page: int = 2000,
        port: int = 0,
    ) -> None:
        self.records: dict[str, dict[str, Record]] = {name: {} for name in _KNOWN}
        self.hidden: set[str] = set()
        self.refuse: list[tuple[int, str]] = []
        self.host = ""
        self.page = page
        self.logins = 0
        self.queries: list[str] = []
        self.credentials = (client_id, client_secret)
        self._clock = clock
        self._tokens: set[str] = set()
        self._cursors: dict[str, tuple[list[Record], int]] = {}
        self._numbers = itertools.count(1)
        self._server = Server(self._answer, "salesforce", port)
        self.url = self._server.url

    def __enter__(self) -> "FakeSalesforce":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._server.close()

    def put(self, name: str, id_: str, at: Millis | None = None, **fields: Any) -> None:
        """Write fields of a record, which is there from now on; `at`: when, if not now."""
        stamp = _written(self._clock() if at is None else at)
        blank: Record = dict.fromkeys(_KNOWN[name].split())
        fresh = {**blank, "Id": id_, "IsDeleted": False, "HasOptedOutOfEmail": False, "CreatedDate": stamp}
        known = self.records[name].get(id_, fresh)
        self.records[name][id_] = {**known, **fields, "SystemModstamp": stamp}

    def remove(self, name: str, id_: str, master: str | None = None) -> None:
        """Put a record into the recycle bin, or merge it into another."""
        self.put(name, id_, IsDeleted=True, MasterRecordId=master)

    def revoke(self) -> None:
        """End all tokens."""
        self._tokens.clear()

    # --- answers ------------------------------------------------------------------------------------------------------

    def _answer(self, request: Request) -> Response:
        if request.path == "/services/oauth2/token" and request.method == "POST":
            return self._login(request)
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token not in self._tokens:
            return _error(401, "INVALID_SESSION_ID", "Session expired or invalid")
        if self.refuse:
            status, code = self.refuse.pop(0)
            return _error(status, code, "as told")
        if match := re.fullmatch(r"/services/data/v[0-9.]+/queryAll(?:/(.+))?", request.path):
            return self._query(request.query.get("q", "")) if match[1] is None else self._more(match[1])
        return _error(404, "NOT_FOUND", "The requested resource does not exist")

    def _login(self, request: Request) -> Response:
        form = {name: values[-1] for name, values in parse_qs(request.body.decode()).items()}
        if form.get("grant_type") != "client_credentials":
            return Response(400, {"error": "unsupported_grant_type", "error_description": "not supported"})
        if form.get("client_id") != self.credentials[0]:
            return Response(400, {"error": "invalid_client_id", "error_description": "client identifier invalid"})
        if form.get("client_secret") != self.credentials[1]:
            return Response(400, {"error": "invalid_client", "error_description": "invalid client credentials"})
        self.logins += 1
        token = f"00Dfake!token.number.{next(self._numbers)}"
        self._tokens.add(token)
        told = {"access_token": token, "token_type": "Bearer", "instance_url": "https://elsewhere.example"}
        return Response(200, told)

    def _query(self, text: str) -> Response:
        self.queries.append(text)
        match = _QUERY.fullmatch(text)
        if match is None:
            return _error(400, "MALFORMED_QUERY", f"not understood: {text}")
        name, fields = match["object"], match["fields"].split(", ")
        if name not in _KNOWN:
            return _error(400, "INVALID_TYPE", f"sObject type '{name}' is not supported.")
        for one in fields:
            if one not in _KNOWN[name].split() or one in self.hidden:
                return _error(400, "INVALID_FIELD", f"No such column '{one}' on entity '{name}'.")
        since = match["since"]
        found = [
            {"attributes": {"type": name, "url": f"/services/data/v67.0/sobjects/{name}/{one['Id']}"}}
            | {field: one[field] for field in fields}
            for one in self.records[name].values()
            if since is None or parse_instant(one["SystemModstamp"].replace("+0000", "Z")) >= parse_instant(since)
        ]
        found.sort(key=lambda one: (one["SystemModstamp"], one["Id"]))
        return self._page(found, 0)

    def _more(self, cursor: str) -> Response:
        known = self._cursors.pop(cursor, None)
        return _error(400, "INVALID_QUERY_LOCATOR", "invalid query locator") if known is None else self._page(*known)

    def _page(self, found: list[Record], start: int) -> Response:
        end = start + self.page
        told: Record = {"totalSize": len(found), "done": end >= len(found), "records": found[start:end]}
        if end < len(found):
            cursor = f"01gFAKE{next(self._numbers)}-{end}"
            self._cursors[cursor] = (found, end)
            told["nextRecordsUrl"] = f"{self.host}/services/data/v67.0/queryAll/{cursor}"
        return Response(200, told)


def _written(at: Millis) -> str:
    return isoformat(at - at % 1000).replace("Z", "+0000")


def _error(status: int, code: str, message: str) -> Response:
    return Response(status, [{"message": message, "errorCode": code}])


def main() -> None:
    """Serve an org with one contact until interrupted."""
    with FakeSalesforce() as fake:
        fake.put("Contact", "003000000000001AAA", FirstName="Ada", LastName="Brandt", Email="ada@aurora.example")
        id_, secret = fake.credentials
        print(
            f"admin: {{shop: aurora.my.salesforce.com, client_id: {id_}, client_secret: {secret}, "
            f"base_url: '{fake.url}', allow_insecure: true}}"
        )
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main()
