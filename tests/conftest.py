"""What tests of the whole line share: a StoreCue in a temporary folder, and Shopify's deliveries made by hand."""

import base64
import functools
import hashlib
import hmac
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import select

from connector.config import store as configuration_store
from connector.config.schema import configuration_from
from connector.config.settings import Settings
from connector.config.yaml_file import parse
from connector.domain import Configuration, RawRequest
from connector.services import Services
from connector.storage.tables import membership, sync_state
from connector.web.webhooks import Answer, Receiver
from connector.worker import Worker
from tests import databases
from tests.chaos.figures import figure as figure
from tests.chaos.figures import pytest_terminal_summary as pytest_terminal_summary  # hears of the tests of every folder
from tests.postgres import create_database, server

SECRET = "hush"
FEW_PARTITIONS = {"STORECUE_PARTITIONS": "4"}
"""So that the few deliveries of a test make batches of several, in several parts of the log."""
NOON = 1_795_000_000_000
"""2026-11-18T11:06:40Z: when the frozen clock of these tests starts."""

CONFIG = """
version: 1
store: {name: Aurora Outfitters, timezone: Europe/Paris, currency: EUR}
sources:
  shop: {kind: shopify, secrets: [hush]}
fields:
  total_spent: {from: traits.total_spent}
  orders_count: {from: traits.orders_count}
segments:
  recent-buyers:
    name: Bought in the last 7 days
    when: {event: Order Completed, within: 7d}
  vip:
    name: VIP
    when: {any: [{trait: total_spent, ">=": 1000}, {trait: tags, contains: vip}]}
  lapsed-vip:
    name: Lapsed VIP
    when: {all: [{segment: vip}, {not: {segment: recent-buyers}}]}
  abandoned-checkout:
    name: Abandoned checkout
    when: {event: Checkout Started, not_followed_by: Order Completed, same: checkout_token, after: 30m, within: 7d}
"""

databases.install()
settings.register_profile(
    "patient", parent=settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")  # how long an example takes says how busy the machine is


def pytest_runtest_setup(item: pytest.Item) -> None:
    databases.as_in_production = item.get_closest_marker("durable") is not None or "chaos" in item.path.parts


ON_POSTGRES = os.environ.get("STORECUE_TEST_DATABASE") == "postgresql"
"""Whether the tests of the whole line run on PostgreSQL instead of SQLite."""

_databases: dict[Path, str] = {}


def database_of(folder: Path) -> dict[str, str]:
    """The environment of a StoreCue in this folder: the same database whenever it is started again there."""
    if not ON_POSTGRES:
        return {}
    if folder not in _databases:
        _databases[folder] = create_database(server())
    return {"DATABASE_URL": _databases[folder]}


class NoMetrics:
    """Counts what the receiver reports."""

    def __init__(self) -> None:
        self.accepted_count = 0
        self.reasons: list[str] = []

    def accepted(self, _source: str, _seconds: float, count: int = 1) -> None:
        self.accepted_count += count

    def rejected(self, _source: str, reason: str) -> None:
        self.reasons.append(reason)


class Shop:
    """One StoreCue with one Shopify source, on a clock that only the test moves. Nothing runs by itself."""

    def __init__(
        self, folder: Path, config: str = CONFIG, url: str | None = None, more: Mapping[str, str] | None = None
    ) -> None:
        self.time = NOON
        environ = database_of(folder) if url is None else {"DATABASE_URL": url}
        os.environ.update(environ)  # commands find it there
        given = {**FEW_PARTITIONS, **environ, **(more or {})}
        self.services = Services(Settings.from_environment(given, data_dir=folder))
        self.metrics = NoMetrics()
        self.receiver = Receiver(self.services, self.metrics, lambda: self.time)  # type: ignore[arg-type]
        self._ids = itertools.count(1)
        self.configure(config)
        self.worker = Worker(self.services, lambda: self.time, push=False)
        self.work()

    def configure(self, config: str) -> None:
        """Apply a storecue.yaml."""
        configuration_store.apply(self.services.database, self.services.vault, _wanted(config), self.time)
        if hasattr(self, "worker"):
            self.worker.refresh(force=True)

    def deliver(self, topic: str, body: Any, *, id: str | None = None, **headers: str) -> Answer:
        """The answer to a signed delivery; `body` is sent as JSON unless it is bytes."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        signature = base64.b64encode(hmac.new(SECRET.encode(), raw, hashlib.sha256).digest()).decode()
        given = {
            "x-shopify-topic": topic,
            "x-shopify-hmac-sha256": signature,
            "x-shopify-api-version": "2026-10",
            "x-shopify-shop-domain": "aurora.myshopify.com",
            "x-shopify-webhook-id": id or f"w{next(self._ids)}",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        request = RawRequest("POST", "/webhooks/shopify/shop", given, raw, received_at=self.time)
        return self.receiver.receive("shopify", "shop", request)

    def work(self) -> int:
        """Do everything that is waiting at this instant."""
        total = 0
        while done := self.worker.step():
            total += done
        return total

    def at(self, instant: int) -> None:
        """Move the clock and let everything due happen."""
        self.time = instant
        self.work()

    def segments(self, profile: int = 1) -> set[str]:
        with self.services.database.read() as connection:
            query = select(membership.c.segment).where(membership.c.profile_id == profile, membership.c.matched == 1)
            return set(connection.execute(query).scalars())

    def desired(self, destination: str, profile: int = 1) -> dict[str, Any] | None:
        with self.services.database.read() as connection:
            query = select(sync_state.c.desired).where(
                sync_state.c.destination == destination, sync_state.c.profile_id == profile
            )
            found = connection.execute(query).scalar()
            return None if found is None else json.loads(found)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.services.database.read() as connection:
            query = query.replace("%", "%%") if self.services.database.dialect == "postgresql" else query
            return [tuple(row) for row in connection.exec_driver_sql(query)]

    def close(self) -> None:
        self.worker.close()
        self.services.close()
        os.environ.pop("DATABASE_URL", None)


@pytest.fixture(scope="session")
def postgres() -> str:
    """The URL of a PostgreSQL server's maintenance database, the same for all tests of this process."""
    return server()


@pytest.fixture(scope="session")
def new_postgres(postgres: str) -> Callable[[], str]:
    """Makes a new, empty database and returns its URL."""
    return lambda: create_database(postgres)


@functools.cache
def _wanted(config: str) -> Configuration:
    """Most tests share a few texts, and reading YAML takes longer than applying it."""
    return configuration_from(parse(config))


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    yield shop
    shop.close()


@pytest.fixture
def make_shop(tmp_path: Path) -> Iterator[Callable[[str], Shop]]:
    """Makes a Shop with another configuration."""
    made: list[Shop] = []

    def make(config: str) -> Shop:
        made.append(Shop(tmp_path, config))
        return made[-1]

    yield make
    for one in made:
        one.close()


def iso(at: int) -> str:
    from connector.clock import isoformat

    return isoformat(at)


def order(
    id: int = 1001,
    *,
    customer: int | None = 501,
    email: str | None = "ada@example.com",
    total: str = "100.00",
    at: int = NOON,
    updated: int | None = None,
    **more: Any,
) -> dict[str, Any]:
    """A Shopify order as 2026-10 sends it, with what the tests look at."""
    return {
        "id": id,
        "admin_graphql_api_id": f"gid://shopify/Order/{id}",
        "name": f"#{id}",
        "email": email,
        "created_at": iso(at),
        "processed_at": iso(at),
        "updated_at": iso(at if updated is None else updated),
        "cancelled_at": None,
        "currency": "EUR",
        "total_price": total,
        "total_price_set": {"shop_money": {"amount": total, "currency_code": "EUR"}},
        "checkout_token": f"checkout-{id}",
        "cart_token": None,
        "test": False,
        "customer": None
        if customer is None
        else {"id": customer, "admin_graphql_api_id": f"gid://shopify/Customer/{customer}", "email": email},
        "line_items": [{"id": id * 10, "product_id": 632910392, "variant_id": 1, "quantity": 1, "price": total}],
        "refunds": [],
        **more,
    }


def checkout(
    token: str = "checkout-1001", *, at: int = NOON, email: str = "ada@example.com", **more: Any
) -> dict[str, Any]:
    """A Shopify checkout as 2026-10 sends it: no id, joined by its token."""
    return {
        "token": token,
        "cart_token": None,
        "email": email,
        "created_at": iso(at),
        "updated_at": iso(at),
        "completed_at": None,
        "currency": "EUR",
        "total_price": "80.00",
        "abandoned_checkout_url": f"https://aurora.example/checkouts/{token}/recover",
        "customer": None,
        "line_items": [{"product_id": 632910392, "variant_id": 1, "quantity": 2, "price": "40.00", "title": "Mug"}],
        **more,
    }
