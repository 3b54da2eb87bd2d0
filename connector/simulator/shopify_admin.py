"""A fake Admin API of Shopify (2026-10) on loopback: tokens, points, pages, bulk operations, subscriptions, refusals.

    python -m connector.simulator.shopify_admin          # with the demo's shop; prints the `admin` for storecue.yaml

Given the published schema, it refuses what Shopify would refuse, with graphql-core (of the extra `test`).
"""

import gzip
import json
import random
import re
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from connector.clock import DAY, Millis, isoformat, now, parse_instant
from connector.simulator.shopify_query import Field, cost, parse, pick
from connector.simulator.shopify_things import Node, things
from connector.simulator.store import Shop
from connector.simulator.vendors.server import Request, Response, Server

SCOPES = ("read_customers", "read_orders", "read_all_orders", "read_products", "read_customer_merge")
_NEEDS = {"customers": "read_customers", "orders": "read_orders", "abandonedCheckouts": "read_orders"}
_NEEDS |= {"products": "read_products"}
_FILTER = re.compile(r"(updated_at|created_at|processed_at):(>=|<)'([^']+)'")
_FIELDS = {"updated_at": "updatedAt", "created_at": "createdAt", "processed_at": "processedAt"}
_SORTED = {"UPDATED_AT": "updatedAt", "CREATED_AT": "createdAt"}
_PIECE = 64 * 1024
_MOST_RUNNING = 5  # bulk queries of one app and shop, since 2026-01
_CEILING = 1000  # points of one query


class _Refused(Exception):
    """An answer with `errors` instead of data."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class Operation:
    """A bulk operation: it has ended once it was looked at `looks` times."""

    id: str
    query: str
    created: Millis
    looks: int
    status: str = "CREATED"
    completed: Millis | None = None
    error: str | None = None
    path: Path | None = None
    size: int = 0
    objects: int = 0
    roots: int = 0


@dataclass
class Knobs:
    """What can go wrong, to be set at any time.

    looks: before a bulk operation has ended. refuse_bulk: with this message. fail_bulk: (status, error code, how many
    lines of the result are there all the same). stray: parts of things stand anywhere in the result. escape: slashes as
    \\/. break_off: bytes after which a download ends. ranges: whether downloads can be resumed. foreign: where results
    lie instead. max_cost: a query's ceiling. throttle: answers THROTTLED that many times.
    """

    looks: int = 1
    refuse_bulk: str | None = None
    fail_bulk: tuple[str, str, int] | None = None
    stray: bool = False
    escape: bool = True
    break_off: list[int] = field(default_factory=list)
    ranges: bool = True
    foreign: str | None = None
    max_cost: int = _CEILING
    throttle: int = 0
    status: list[int] = field(default_factory=list)


class FakeShopifyAdmin:
    """The Admin API of one shop. `held` are its things by connection; change them at will. `asked` names the root of
    each query that came, `refused` what the schema had against any. `clock` gives epoch milliseconds, `monotonic`
    seconds for the points."""

    def __init__(
        self,
        held: Mapping[str, list[Node]] | None = None,
        *,
        client_id: str = "client",
        client_secret: str = "hush",
        access_token: str | None = None,
        scopes: Iterable[str] = SCOPES,
        clock: Callable[[], Millis] = now,
        monotonic: Callable[[], float] = time.monotonic,
        schema: Path | None = None,
        port: int = 0,
        restore: float = 100.0,
    ) -> None:
        self.held: dict[str, list[Node]] = {name: [] for name in _NEEDS} | dict(held or {})
        self.knobs = Knobs()
        self.scopes = set(scopes)
        self.subscriptions: dict[str, set[str]] = {}
        self.operations: dict[str, Operation] = {}
        self.asked: list[str] = []
        self.refused: list[str] = []
        self.downloads: list[int] = []
        self.logins = 0
        self.tokens: dict[str, float] = {} if access_token is None else {access_token: float("inf")}
        self.shop = "aurora.myshopify.com"
        self.versions = ["2026-01", "2026-04", "2026-07", "2026-10"]
        self._credentials = (client_id, client_secret)
        self._clock, self._monotonic = clock, monotonic
        self._schema = None if schema is None else _schema(schema)
        self._restore, self._most = restore, restore * 20
        self._left, self._at = self._most, monotonic()
        self._lock = threading.Lock()
        self._folder = tempfile.TemporaryDirectory(prefix="shopify-bulk-")
        self._server = Server(self._answer, "shopify-admin", port)

    @property
    def url(self) -> str:
        return self._server.url

    def close(self) -> None:
        self._server.close()
        self._folder.cleanup()

    def __enter__(self) -> "FakeShopifyAdmin":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- requests -----------------------------------------------------------------------------------------------------

    def _answer(self, request: Request) -> Response | None:
        if self.knobs.status:
            return Response(self.knobs.status.pop(0), {"errors": "scripted"})
        if request.path.startswith("/bulk/"):
            return self._download(request)
        if request.path == "/admin/oauth/access_token":
            return self._login(request)
        match = re.fullmatch(r"/admin/api/([0-9]{4}-[0-9]{2})/graphql\.json", request.path)
        if request.method != "POST" or match is None or match[1] not in self.versions:
            return Response(404, {"errors": "Not Found"})
        if self.tokens.get(request.headers.get("x-shopify-access-token", ""), 0.0) <= self._monotonic():
            return Response(
                401, {"errors": "[API] Invalid API key or access token (unrecognized login or wrong password)"}
            )
        with self._lock:
            return self._asked(request.json["query"], request.json.get("variables") or {})

    def _login(self, request: Request) -> Response:
        told = request.json
        if told.get("grant_type") != "client_credentials" or told.get("client_id") != self._credentials[0]:
            return Response(400, {"error": "application_cannot_be_found"})
        if told.get("client_secret") != self._credentials[1]:
            return Response(401, {"error": "invalid_client"})
        self.logins += 1
        token = f"shpat_simulated_{self.logins}"
        self.tokens[token] = self._monotonic() + 86_399
        return Response(200, {"access_token": token, "scope": ",".join(sorted(self.scopes)), "expires_in": 86_399})

    def _asked(self, query: str, variables: Mapping[str, Any]) -> Response:
        try:
            mutation, wants = parse(query, variables)
            self._validate(query, variables)
        except (ValueError, IndexError) as error:
            return Response(200, {"errors": [{"message": str(error), "extensions": {"code": "BAD_QUERY"}}]})
        self.asked += [one.name for one in wants.values()]
        wanted = float(10 if mutation else max(1, cost(wants)))
        told: dict[str, Any]
        try:
            if wanted > self.knobs.max_cost:
                message = f"Query cost is {wanted:.0f}, which exceeds the single query max cost limit."
                raise _Refused("MAX_COST_EXCEEDED", message)
            self._refill()
            if self.knobs.throttle or wanted > self._left:
                self.knobs.throttle = max(0, self.knobs.throttle - 1)
                raise _Refused("THROTTLED", "Throttled")
            self._left -= wanted
            told = {"data": {alias: self._root(one) for alias, one in wants.items()}}
        except _Refused as refused:
            told = {"errors": [{"message": str(refused), "extensions": {"code": refused.code}}]}
        status = {"maximumAvailable": self._most, "currentlyAvailable": self._left, "restoreRate": self._restore}
        told["extensions"] = {"cost": {"requestedQueryCost": wanted, "throttleStatus": status}}
        return Response(200, told)

    def _validate(self, query: str, variables: Mapping[str, Any]) -> None:
        if self._schema is None:
            return
        from graphql import parse as read
        from graphql import validate

        for text in (query, variables.get("query") if "bulkOperationRunQuery" in query else None):
            faults = validate(self._schema, read(text)) if text else []
            if faults:
                self.refused.append(faults[0].message)
                raise ValueError(faults[0].message)

    def _refill(self) -> None:
        moment = self._monotonic()
        self._left = min(self._most, self._left + (moment - self._at) * self._restore)
        self._at = moment

    # --- roots --------------------------------------------------------------------------------------------------------

    def _root(self, one: Field) -> Any:
        if one.name in _NEEDS:
            return self._page(one)
        if one.name.endswith("Count"):
            name = one.name.removesuffix("Count")
            return pick({"count": len(self._found(name, one.arguments.get("query"))), "precision": "EXACT"}, one.wants)
        return pick(_ROOTS[one.name](self, one), one.wants)

    def _found(self, name: str, search: str | None) -> list[Node]:
        if _NEEDS[name] not in self.scopes:
            message = f"Access denied for {name} field. Required access: `{_NEEDS[name]}` access scope."
            raise _Refused("ACCESS_DENIED", message)
        found = self.held[name]
        for key, sign, instant in _FILTER.findall(search or ""):
            at = parse_instant(instant)
            found = [
                one
                for one in found
                if (parse_instant(one[_FIELDS[key]]) >= at if sign == ">=" else parse_instant(one[_FIELDS[key]]) < at)
            ]
        return found

    def _page(self, one: Field) -> Any:
        key = _SORTED[one.arguments.get("sortKey", "CREATED_AT")]
        found = sorted(
            self._found(one.name, one.arguments.get("query")),
            key=lambda thing: (parse_instant(thing[key]), thing["id"]),
        )
        after, first = one.arguments.get("after"), one.arguments["first"]
        start = int(after.removeprefix("c")) if after else 0
        page = found[start : start + first]
        more = start + first < len(found)
        info = {"hasNextPage": more, "endCursor": f"c{start + len(page)}" if page else None}
        return pick({"nodes": page, "pageInfo": info}, one.wants)

    def _access(self, _: Field) -> Any:
        return {"accessScopes": [{"handle": scope} for scope in sorted(self.scopes)]}

    def _versions(self, _: Field) -> Any:
        return [{"handle": version, "supported": True} for version in self.versions]

    def _shop(self, _: Field) -> Any:
        return {"myshopifyDomain": self.shop, "currencyCode": "EUR", "ianaTimezone": "Europe/Paris"}

    def _subscribed(self, _: Field) -> Any:
        nodes = [
            {"id": f"gid://shopify/WebhookSubscription/{topic}", "topic": topic, "uri": uri, "format": "JSON"}
            for topic, uris in self.subscriptions.items()
            for uri in sorted(uris)
        ]
        return {"nodes": nodes, "pageInfo": {"hasNextPage": False, "endCursor": None}}

    def _subscribe(self, one: Field) -> Any:
        topic, uri = one.arguments["topic"], one.arguments["webhookSubscription"]["uri"]
        held = self.subscriptions.setdefault(topic, set())
        if uri in held:
            message = "Address for this topic has already been taken"
            return {"webhookSubscription": None, "userErrors": [{"field": ["uri"], "message": message}]}
        held.add(uri)
        return {"webhookSubscription": {"id": f"gid://shopify/WebhookSubscription/{topic}"}, "userErrors": []}

    # --- bulk operations ----------------------------------------------------------------------------------------------

    def _run(self, one: Field) -> Any:
        running = [other for other in self.operations.values() if other.status in ("CREATED", "RUNNING")]
        if self.knobs.refuse_bulk is not None or len(running) >= _MOST_RUNNING:
            message = self.knobs.refuse_bulk or "A bulk query operation for this app and shop is already in progress"
            code = "INVALID" if self.knobs.refuse_bulk is not None else "LIMIT_REACHED"
            error = {"field": ["query"], "message": message, "code": code}
            return {"bulkOperation": None, "userErrors": [error]}
        id_ = f"gid://shopify/BulkOperation/{len(self.operations) + 1}"
        operation = Operation(id_, one.arguments["query"], self._clock(), self.knobs.looks)
        self.operations[id_] = operation
        return {"bulkOperation": self._told(operation), "userErrors": []}

    def _look(self, one: Field) -> Any:
        operation = self.operations.get(one.arguments["id"])
        if operation is None:
            return None
        if operation.status in ("CREATED", "RUNNING"):
            operation.looks -= 1
            operation.status = "RUNNING"
            if operation.looks < 0:
                self._finish(operation)
        return self._told(operation)

    def _listed(self, _: Field) -> Any:
        return {"nodes": [self._told(one) for one in reversed(self.operations.values())]}

    def _cancel(self, one: Field) -> Any:
        operation = self.operations[one.arguments["id"]]
        if operation.status in ("CREATED", "RUNNING"):
            operation.status = "CANCELED"
        return {"bulkOperation": self._told(operation), "userErrors": []}

    def _finish(self, operation: Operation) -> None:
        operation.completed = self._clock()
        _, wants = parse(operation.query)
        root = next(iter(wants.values()))
        try:
            found = self._found(root.name, root.arguments.get("query"))
        except _Refused as refused:
            operation.status, operation.error = "FAILED", refused.code
            return
        lines = list(_lines(found, root.wants["edges"].wants["node"].wants))
        operation.status, operation.roots = "COMPLETED", len(found)
        if self.knobs.stray:
            random.Random(len(lines)).shuffle(lines)
        if self.knobs.fail_bulk is not None:
            operation.status, operation.error, kept = self.knobs.fail_bulk
            lines = lines[:kept]
        operation.objects = len(lines)
        if lines:
            text = "".join(f"{json.dumps(line, separators=(',', ':'))}\n" for line in lines)
            self.serve(operation, text.replace("/", "\\/") if self.knobs.escape else text)

    def serve(self, operation: Operation, text: str) -> None:
        """Give an operation this result."""
        operation.path = Path(self._folder.name) / f"{operation.id.rpartition('/')[2]}.jsonl"
        operation.path.write_text(text, encoding="utf-8")
        operation.size = operation.path.stat().st_size

    def _told(self, operation: Operation) -> Node:
        ended = operation.completed is not None
        host = self.knobs.foreign or self._server.url
        url = f"{host}/bulk/{operation.id.rpartition('/')[2]}?signature=simulated" if operation.path else None
        failed = operation.status not in ("COMPLETED", "CREATED", "RUNNING")
        return {
            "id": operation.id,
            "status": operation.status,
            "errorCode": operation.error,
            "query": operation.query,
            "createdAt": isoformat(operation.created),
            "completedAt": isoformat(operation.completed) if operation.completed is not None else None,
            "objectCount": str(operation.objects),
            "rootObjectCount": str(operation.roots),
            "fileSize": str(operation.size) if ended and not failed and operation.path else None,
            "url": None if failed else url,
            "partialDataUrl": url if failed else None,
        }

    def _download(self, request: Request) -> Response:
        found = self.operations.get(f"gid://shopify/BulkOperation/{request.path.rpartition('/')[2]}")
        if found is None or found.path is None or "x-shopify-access-token" in request.headers:
            return Response(403, b"<Error>AccessDenied</Error>", media_type="application/xml")
        start, status, headers = 0, 200, {}
        asked = re.fullmatch(r"bytes=([0-9]+)-", request.headers.get("range", ""))
        if asked and self.knobs.ranges:
            start, status = int(asked[1]), 206
            if start >= found.size:
                return Response(416, b"")
            headers["Content-Range"] = f"bytes {start}-{found.size - 1}/{found.size}"
        self.downloads.append(start)
        headers["Content-Length"] = str(found.size - start)
        most = self.knobs.break_off.pop(0) if self.knobs.break_off else found.size
        return Response(status, None, headers, "application/jsonl", _pieces(found.path, start, most))


_ROOTS: Mapping[str, Callable[[FakeShopifyAdmin, Field], Any]] = {
    "currentAppInstallation": FakeShopifyAdmin._access,
    "publicApiVersions": FakeShopifyAdmin._versions,
    "shop": FakeShopifyAdmin._shop,
    "webhookSubscriptions": FakeShopifyAdmin._subscribed,
    "webhookSubscriptionCreate": FakeShopifyAdmin._subscribe,
    "bulkOperationRunQuery": FakeShopifyAdmin._run,
    "bulkOperationCancel": FakeShopifyAdmin._cancel,
    "bulkOperation": FakeShopifyAdmin._look,
    "bulkOperations": FakeShopifyAdmin._listed,
}


def _lines(found: Iterable[Node], wants: Mapping[str, Field]) -> Iterator[Node]:
    """The lines of a result: each thing, then the parts of its connections."""
    own = {alias: one for alias, one in wants.items() if "edges" not in one.wants}
    for thing in found:
        yield pick(thing, own)
        for alias in wants.keys() - own.keys():
            inner = wants[alias].wants["edges"].wants["node"].wants
            for part in (thing.get(wants[alias].name) or {"nodes": []})["nodes"]:
                yield {**pick(part, inner), "__parentId": thing["id"]}


def _pieces(path: Path, start: int, most: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while most > 0 and (piece := file.read(min(_PIECE, most))):
            most -= len(piece)
            yield piece


@cache
def _schema(path: Path) -> Any:
    from graphql import build_client_schema

    opened = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    document = json.loads(opened)
    schema = build_client_schema(document.get("data", document), assume_valid=True)
    schema._validation_errors = []  # six deprecations fail its check of itself (2026-10)
    return schema


def main() -> None:
    """Serves the demo's shop until Ctrl-C."""
    ended = threading.Event()
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, lambda *_: ended.set())
    shop, at = Shop(7), now()
    for _ in shop.history(at - 90 * DAY, at):
        pass
    with FakeShopifyAdmin(things(shop, at)) as admin:
        print(
            f"    admin: {{shop: {admin.shop}, client_id: client, client_secret: hush, base_url: '{admin.url}', "
            "allow_insecure: true}",
            flush=True,
        )
        ended.wait()


if __name__ == "__main__":
    main()
