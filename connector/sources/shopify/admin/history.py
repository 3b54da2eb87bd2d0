"""A shop's past, asked of its Admin API: the `History` of the source of kind `shopify`."""

from collections.abc import Iterator, Sequence
from typing import Any

from adapters.destination import Clock
from adapters.errors import DeliveryError, Misconfigured, Rejected, Transient
from connector.clock import DAY, SECOND, Millis, isoformat, parse_instant
from connector.domain import AdminConfig
from connector.ports import Bulk, Finding, New, Page, Record
from connector.sources.shopify.admin import download, queries, records
from connector.sources.shopify.admin.client import Client, TooCostly
from connector.sources.shopify.admin.queries import KINDS
from connector.sources.shopify.admin.subscriptions import TOPICS, Topic

_UNDER_WAY = ("CREATED", "RUNNING", "COMPLETED")
_BUSY = ("OPERATION_IN_PROGRESS", "LIMIT_REACHED")
_SKEW: Millis = 60 * SECOND  # between Shopify's clock and ours
_ENDS_SOON: Millis = 60 * DAY


class ShopHistory:
    """The Admin API of one shop as a History. `name` is that of the configured source."""

    kinds: Sequence[str] = tuple(KINDS)

    def __init__(self, name: str, config: AdminConfig, clock: Clock) -> None:
        self._name = name
        self._config = config
        self.signs = config.client_secret
        self._client = Client(config, clock)
        self._sizes = {kind: one.page for kind, one in KINDS.items()}

    def count(self, kind: str, since: Millis | None) -> int | None:
        """About how many there are."""
        found = self._client.ask(queries.counted(kind), search=queries.since_filter(since))
        counted = found.get(f"{KINDS[kind].root}Count") or {}
        count = counted.get("count")
        return count if isinstance(count, int) else None

    # --- in bulk ------------------------------------------------------------------------------------------------------

    def begin(self, kind: str, since: Millis | None, asked_at: Millis) -> str | None:
        """The id of the operation; None when Shopify will not take it in bulk. Raises Transient when too many run."""
        query = queries.bulk(kind, since)
        for one in _nodes(self._client.ask(queries.OPERATIONS), "bulkOperations"):
            begun = parse_instant(one["createdAt"])
            if one["query"] == query and one["status"] in _UNDER_WAY and begun >= asked_at - _SKEW:
                return str(one["id"])  # it was begun before a crash, which has lost its id
        told = self._client.ask(queries.RUN, once=True, query=query)["bulkOperationRunQuery"]
        if not (errors := told["userErrors"]):
            return str(told["bulkOperation"]["id"])
        words = "; ".join(str(error["message"]) for error in errors)
        if any(error.get("code") in _BUSY for error in errors) or "already in progress" in words:
            raise Transient(f"other bulk operations of the app are running: {words}", retry_after=60.0, reason="busy")
        return None

    def look(self, operation: str) -> Bulk:
        """How the operation stands."""
        found = self._client.ask(queries.OPERATION, id=operation)["bulkOperation"]
        if found is None:
            return Bulk("failed", 0, message="Shopify does not know the operation any more")
        status = found["status"]
        objects, ended = int(found["objectCount"] or 0), found.get("completedAt")
        ended_at = parse_instant(ended) if ended else None
        if status == "COMPLETED":
            size = found.get("fileSize")
            return Bulk(
                "ready",
                objects,
                int(found["rootObjectCount"] or 0),
                None if size is None else int(size),
                found.get("url"),  # none: there was nothing to find
                ended_at,
            )
        if status in ("CREATED", "RUNNING", "CANCELING"):
            return Bulk("running", objects)
        partial = found.get("partialDataUrl")
        message = f"the bulk operation is {status.lower()} ({found.get('errorCode') or 'no reason given'})"
        return Bulk("failed", objects, url=partial, ended_at=ended_at, partial=partial is not None, message=message)

    def cancel(self, operation: str) -> None:
        """Stop the operation; one that has ended stays as it is."""
        self._client.ask(queries.CANCEL, id=operation)

    def download(self, url: str, start: int) -> tuple[int, Iterator[bytes]]:
        """Where the pieces begin, which is `start` or 0, and the pieces of the result."""
        return download.pieces(download.permitted(url, self._config), start, self._config)

    def owner(self, line: bytes) -> tuple[str, bool]:
        """The id of the thing that a line of the result belongs to, and whether it is the thing's own line."""
        return records.owner(line)

    def record(self, kind: str, line: bytes, parts: Sequence[bytes]) -> Record:
        """The thing of a line with the lines that belong to it."""
        return records.record(kind, line, parts)

    # --- by pages -----------------------------------------------------------------------------------------------------

    def page(self, kind: str, since: Millis | None, cursor: str | None) -> Page:
        """The next things that changed since, the oldest change first where Shopify can."""
        while True:
            size = self._sizes[kind]
            try:
                found = self._client.ask(
                    queries.page(kind), first=size, after=cursor, search=queries.since_filter(since)
                )
            except TooCostly:
                if size == 1:
                    raise
                self._sizes[kind] = max(1, size // 2)
                continue
            root = found[KINDS[kind].root]
            info = root["pageInfo"]
            following = info["endCursor"] if info["hasNextPage"] else None
            return Page([records.of(one) for one in root["nodes"] if one], following)

    def delivery(self, kind: str, record: Record, received_at: Millis, *, quiet: bool) -> New:
        """The thing as a delivery of the source."""
        return records.delivery(self._name, self._config.shop, kind, record, received_at, quiet=quiet)

    # --- subscriptions ------------------------------------------------------------------------------------------------

    def subscriptions(self, address: str) -> dict[str, bool]:
        """Topic that we use and may read -> whether it is sent to `address`."""
        scopes, held, cursor = self._scopes(), set[str](), None
        while True:
            found = self._client.ask(queries.SUBSCRIPTIONS, after=cursor)["webhookSubscriptions"]
            held |= {one["topic"] for one in found["nodes"] if one["uri"].rstrip("/") == address.rstrip("/")}
            if not found["pageInfo"]["hasNextPage"]:
                return {name: topic.enum in held for name, topic in TOPICS.items() if _may(topic, scopes)}
            cursor = found["pageInfo"]["endCursor"]

    def subscribe(self, topics: Sequence[str], address: str) -> dict[str, str]:
        """Topic -> why it could not be subscribed."""
        refused = {}
        for name in topics:
            try:
                told = self._client.ask(queries.SUBSCRIBE, once=True, topic=TOPICS[name].enum, uri=address)
                errors = told["webhookSubscriptionCreate"]["userErrors"]
            except (Rejected, Misconfigured) as error:
                errors = [{"message": error.message}]
            words = "; ".join(str(error["message"]) for error in errors)
            if words and "already been taken" not in words:  # somebody else was faster
                refused[name] = words
        return refused

    # --- checks -------------------------------------------------------------------------------------------------------

    def findings(self, now: Millis) -> list[Finding]:
        """The login, the scopes, the age of the version."""
        try:
            found = self._client.ask(queries.ACCESS)
        except DeliveryError as error:
            return [Finding("login", False, error.message)]
        shop = found["shop"]["myshopifyDomain"]
        scopes = _handles(found)
        wanted = {one.scope: kind for kind, one in reversed(KINDS.items())}
        told = [Finding("login", True, f"Shopify knows us at {shop}")]
        for scope, kind in sorted(wanted.items()):
            good = _granted(scope, scopes)
            words = "granted" if good else f"missing: without it {kind} cannot be read; add it to the app, release the "
            told.append(Finding(scope, good, words if good else f"{words}version, and accept it in the shop"))
        if _granted("read_orders", scopes):
            every = "read_all_orders" in scopes
            words = "granted" if every else "missing: Shopify shows orders of the last 60 days only"
            told.append(Finding("read_all_orders", every, words))
        told.append(self._version(found["publicApiVersions"], now))
        return told

    def days(self, days: Sequence[tuple[Millis, Millis]]) -> list[int]:
        """How many orders were placed in each of these spans."""
        found = self._client.ask(queries.per_day(list(days)))
        return [int(found[f"d{number}"]["count"]) for number in range(len(days))]

    def close(self) -> None:
        self._client.close()

    def _version(self, public: Sequence[dict[str, Any]], now: Millis) -> Finding:
        version = self._config.version
        supported = any(one["handle"] == version and one["supported"] for one in public)
        ends = parse_instant(f"{int(version[:4]) + 1}{version[4:]}-01")  # each is supported for a year at least
        day = isoformat(ends)[:10]
        if not supported or ends <= now:
            words = f"is no longer supported since {day}: set `admin.version` to a later one"
        elif ends - now < _ENDS_SOON:
            words = f"is supported until {day} at least: set `admin.version` to a later one before"
        else:
            words = f"is supported until {day} at least"
        return Finding(f"API version {version}", supported and ends - now >= _ENDS_SOON, words)

    def _scopes(self) -> set[str]:
        return _handles(self._client.ask(queries.ACCESS))


def _handles(found: dict[str, Any]) -> set[str]:
    return {one["handle"] for one in found["currentAppInstallation"]["accessScopes"]}


def _granted(scope: str, scopes: set[str]) -> bool:
    """A scope to write contains the one to read."""
    return scope in scopes or scope.replace("read_", "write_", 1) in scopes


def _may(topic: Topic, scopes: set[str]) -> bool:
    return topic.scope is None or _granted(topic.scope, scopes)


def _nodes(found: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [one for one in found[name]["nodes"] if one]
