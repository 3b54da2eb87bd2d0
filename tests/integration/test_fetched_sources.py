"""BigCommerce and Salesforce through the whole line, against their fakes: what is only named is fetched, what is told
by nobody is asked for, and a crash before or after any write changes nothing."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from connector.clock import HOUR, MINUTE, SECOND
from connector.config.schema import configuration_from
from connector.config.yaml_file import parse
from connector.domain import RawRequest
from connector.errors import ConfigurationError, NotDurable
from connector.fetch import store
from connector.reporting.status import status
from connector.simulator.bigcommerce import FakeBigCommerce
from connector.simulator.salesforce import FakeSalesforce
from connector.storage.tables import source_poll
from connector.web.webhooks import Answer
from tests.conftest import NOON, Shop

CART = "d30016e2-23c0-4a90-884f-2e92ac135476"
BIG = """
version: 1
store: {{name: Aurora Outfitters, timezone: Europe/Paris, currency: EUR}}
sources:
  shop:
    kind: bigcommerce
    secrets: [{secret}]
    admin: {{shop: {store}, access_token: {token}, base_url: '{url}', allow_insecure: true}}
fields:
  total_spent: {{from: traits.total_spent}}
segments:
  buyers: {{when: {{trait: orders_count, ">=": 1}}}}
  abandoned:
    when: {{event: Checkout Started, not_followed_by: Order Completed, same: checkout_token, after: 30m, within: 7d}}
"""
FORCE = """
version: 1
store: {{name: Aurora Outfitters, timezone: Europe/Paris, currency: EUR}}
sources:
  crm:
    kind: salesforce
    admin:
      shop: aurora.my.salesforce.com
      client_id: {id}
      client_secret: {secret}
      base_url: '{url}'
      allow_insecure: true
    options: {{objects: [Contact, Lead]}}
segments:
  known: {{when: {{trait: email, exists: true}}}}
"""
CUSTOMER = {
    "id": 32,
    "email": "ada@aurora.example",
    "first_name": "Ada",
    "last_name": "Brandt",
    "date_created": "2026-11-01T10:00:00Z",
    "date_modified": "2026-11-18T10:00:00Z",
}
ORDER = {
    "id": 250,
    "status_id": 11,
    "customer_id": 32,
    "cart_id": CART,
    "date_created": "Wed, 18 Nov 2026 11:00:00 +0000",
    "date_modified": "Wed, 18 Nov 2026 11:00:00 +0000",
    "total_inc_tax": "129.0000",
    "default_currency_code": "EUR",
    "refunded_amount": "0.0000",
    "billing_address": {"email": "ada@aurora.example", "first_name": "Ada", "country_iso2": "FR"},
}
LINE = {"product_id": 7, "variant_id": 71, "name": "Rain jacket", "quantity": 1, "price_inc_tax": "129.0000"}


class BigShop(Shop):
    def __init__(self, folder: Path) -> None:
        self.fake = FakeBigCommerce(clock=lambda: self.time)
        super().__init__(folder, self.text())

    def text(self) -> str:
        fake = self.fake
        return BIG.format(secret=fake.secret, store=fake.store, token=fake.token, url=fake.url)

    def tell(self, scope: str, **data: Any) -> Answer:
        headers, raw = self.fake.callback(scope, data)
        request = RawRequest("POST", "/webhooks/bigcommerce/shop", headers, raw, received_at=self.time)
        return self.receiver.receive("bigcommerce", "shop", request)

    def fetch(self) -> None:
        """Work off what was told, ask for what it named, and work that off."""
        self.work()
        while self.worker.errands.step():
            pass
        self.work()

    def waiting(self) -> list[tuple[Any, ...]]:
        return self.rows('SELECT kind, id, asked, attempts FROM "fetch" ORDER BY kind, id')

    def events(self) -> list[str]:
        return [name for (name,) in self.rows("SELECT name FROM event ORDER BY at, name")]

    def crash(self) -> None:
        """Another worker takes over."""
        self.worker.close()
        self.worker = type(self.worker)(self.services, lambda: self.time, push=False)
        self.worker.refresh(force=True)

    def close(self) -> None:
        super().close()
        self.fake.close()


class Org(Shop):
    def __init__(self, folder: Path) -> None:
        self.fake = FakeSalesforce(clock=lambda: self.time)
        id_, secret = self.fake.credentials
        super().__init__(folder, FORCE.format(id=id_, secret=secret, url=self.fake.url))

    def poll(self) -> None:
        while self.worker.errands.step():
            pass
        self.work()

    def people(self) -> list[tuple[Any, ...]]:
        return self.rows("SELECT value FROM identifier WHERE kind = 'email' ORDER BY value")

    def consent(self, email: str) -> Any:
        [(found,)] = self.rows(
            "SELECT json_extract(p.consent, '$.email.state') FROM profile p JOIN identifier i ON i.profile_id = p.id "
            f"WHERE i.value = '{email}'"
        )
        return found

    def close(self) -> None:
        super().close()
        self.fake.close()


@pytest.fixture
def big(tmp_path: Path) -> Iterator[BigShop]:
    shop = BigShop(tmp_path)
    shop.fake.put("customer", CUSTOMER)
    shop.fake.put("order", ORDER, [LINE])
    yield shop
    shop.close()


@pytest.fixture
def org(tmp_path: Path) -> Iterator[Org]:
    shop = Org(tmp_path)
    yield shop
    shop.close()


# --- BigCommerce: what is named is fetched ----------------------------------------------------------------------------


def test_ten_callbacks_of_one_order_are_one_fetch(big: BigShop) -> None:
    for _ in range(10):
        assert big.tell("store/order/updated", type="order", id=250).status == 200
    big.work()
    assert [(kind, id_) for kind, id_, *_ in big.waiting()] == [("order", "250")]
    assert big.fake.asked == []  # neither the answer to a callback nor the line asks anybody anything
    big.fetch()
    assert big.waiting() == []
    assert big.fake.asked == ["/stores/x4qr8mw2pt/v2/orders/250", "/stores/x4qr8mw2pt/v2/orders/250/products"]
    assert big.segments() == {"buyers"}
    assert big.events() == ["Order Completed"]
    [(total,)] = big.rows("SELECT json_extract(traits, '$.total_spent') FROM profile")
    assert total == 129.0


def test_a_callback_that_comes_while_its_thing_is_fetched_is_not_lost(big: BigShop) -> None:
    def change(path: str) -> None:
        if path.endswith("/products"):  # the order itself was read already
            big.fake.before = None
            big.fake.put("order", {**ORDER, "status_id": 5, "date_modified": "Wed, 18 Nov 2026 11:05:00 +0000"}, [LINE])
            big.tell("store/order/statusUpdated", type="order", id=250)
            big.work()

    big.tell("store/order/created", type="order", id=250)
    big.fake.before = change
    big.fetch()
    assert big.events() == ["Order Completed", "Order Cancelled"]
    assert big.segments() == set()
    assert big.waiting() == []


@pytest.mark.parametrize("point", ["before the log", "after the log"])
def test_a_crash_on_either_side_of_a_write_is_harmless(
    big: BigShop, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    big.tell("store/order/created", type="order", id=250)
    big.work()

    class Crash(Exception):
        pass

    def broken(*_: Any) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        if point == "before the log":
            patch.setattr(big.services.log, "append", broken)
        else:
            patch.setattr(store, "settle", broken)
        with pytest.raises(Crash):
            big.worker.errands.step()
    assert big.waiting() == [("order", "250", 1, 0)]
    big.crash()
    big.fetch()
    assert big.waiting() == []
    assert big.events() == ["Order Completed"]
    [(deliveries,)] = big.rows("SELECT count(*) FROM seen WHERE delivery_id LIKE 'fetched/%'")
    assert deliveries == 1


def test_a_full_log_keeps_what_was_named(big: BigShop, monkeypatch: pytest.MonkeyPatch) -> None:
    big.tell("store/order/created", type="order", id=250)
    big.work()

    def full(*_: Any) -> None:
        raise NotDurable("the disk is full", retry_after=2000)

    with monkeypatch.context() as patch:
        patch.setattr(big.services.log, "append", full)
        assert big.worker.errands.step() is False
    assert big.worker.errands.step() is False  # it rests
    big.at(NOON + 3 * SECOND)
    big.fetch()
    assert big.segments() == {"buyers"}


def test_orders_by_status_and_refund(big: BigShop) -> None:
    refund = {"id": 3, "order_id": 250, "total_amount": 29.0, "reason": "one button", "created": "2026-11-18T11:04:00Z"}
    later = {"date_modified": "Wed, 18 Nov 2026 11:04:00 +0000", "date_shipped": "Wed, 18 Nov 2026 11:03:00 +0000"}
    for status_id, refunded, refunds in ((7, "0.0000", []), (10, "29.0000", [refund])):
        big.fake.put("order", {**ORDER, **later, "status_id": status_id, "refunded_amount": refunded}, [LINE], refunds)
        big.tell("store/order/updated", type="order", id=250)
        big.fetch()
    assert big.events() == ["Checkout Started", "Order Completed", "Order Fulfilled", "Order Refunded"]
    [(total,)] = big.rows("SELECT json_extract(traits, '$.total_spent') FROM profile")
    assert total == 100.0


def test_a_cart_with_an_address_is_an_abandoned_checkout_until_it_is_bought(big: BigShop) -> None:
    item = {"product_id": 7, "variant_id": 71, "name": "Rain jacket", "quantity": 1, "sale_price": 129}
    cart = {
        "id": CART,
        "customer_id": 0,
        "email": "ada@aurora.example",
        "currency": {"code": "EUR"},
        "cart_amount": 129,
        "line_items": {"physical_items": [item]},
        "created_time": "2026-11-18T10:58:00Z",
        "updated_time": "2026-11-18T10:59:00Z",
    }
    big.fake.put("cart", cart)
    big.tell("store/cart/abandoned", type="cart", id=CART, token="1eed6d2d979776ff18e695ceeb10ea61")
    big.fetch()
    assert big.events() == ["Checkout Started", "Product Added"]
    big.at(NOON + HOUR)
    assert big.segments() == {"abandoned"}
    big.fake.remove("cart", CART)
    big.tell("store/cart/converted", type="cart", id=CART, orderId=250)
    big.fetch()
    big.at(NOON + HOUR + MINUTE)
    assert big.segments() == {"buyers"}


def test_consent_follows_the_list_of_subscribers(big: BigShop) -> None:
    entry = {"id": 5, "email": "ada@aurora.example", "date_created": "2026-11-18T10:00:00Z"}
    big.fake.put("subscriber", entry)
    big.tell("store/customer/created", type="customer", id=32)
    big.tell("store/subscriber/created", type="subscriber", id=5)
    big.fetch()
    state = "SELECT json_extract(consent, '$.email.state') FROM profile"
    assert big.rows(state) == [("subscribed",)]
    big.fake.remove("subscriber", 5)
    big.at(NOON + MINUTE)
    big.tell("store/subscriber/deleted", type="subscriber", id=5)
    asked = len(big.fake.asked)
    big.fetch()
    assert big.rows(state) == [("unsubscribed",)]
    assert len(big.fake.asked) == asked  # the callback says it all


def test_what_is_gone_before_it_is_read_is_deleted(big: BigShop) -> None:
    big.tell("store/customer/created", type="customer", id=32)
    big.tell("store/order/created", type="order", id=250)
    big.fetch()
    assert big.segments() == {"buyers"}
    big.at(NOON + MINUTE)
    big.fake.remove("order", 250)
    big.tell("store/order/updated", type="order", id=250)
    big.fetch()
    assert big.segments() == set()
    assert big.waiting() == []


def test_limits_are_kept_and_nothing_counts_as_a_failure(big: BigShop) -> None:
    for number in range(251, 256):
        big.fake.put("order", {**ORDER, "id": number, "cart_id": None}, [LINE])
        big.tell("store/order/created", type="order", id=number)
    big.work()
    big.fake.left = 4
    assert not big.worker.errands.step()
    asked = len(big.fake.asked)
    assert asked == 4  # two orders: the counter in the answers said that the next call would be one too many
    assert not big.worker.errands.step()
    assert len(big.fake.asked) == asked
    assert [attempts for *_, attempts in big.waiting()] == [0, 0, 0]


def test_one_thing_that_fails_waits_alone(big: BigShop) -> None:
    big.fake.put("product", {"id": 7, "name": "Rain jacket", "price": 129})
    big.fake.statuses = [422, 200, 200]
    big.tell("store/order/created", type="order", id=250)
    big.work()
    big.at(NOON + 1)
    big.tell("store/product/updated", type="product", id=7)
    big.fetch()
    assert big.waiting() == [("order", "250", 1, 1)]
    assert big.rows("SELECT id FROM entity WHERE kind = 'product'") == [("7",)]
    big.at(NOON + MINUTE)
    big.fetch()
    assert big.waiting() == [] and big.segments() == {"buyers"}


def test_a_refused_token_pauses_the_source_and_status_says_why(big: BigShop) -> None:
    right, big.fake.token = big.fake.token, "another-token-of-the-fake-store"
    big.tell("store/order/created", type="order", id=250)
    big.fetch()
    with big.services.database.read() as state:
        told = status(state, big.services.log, big.services.turns, [], {}, big.time)["sources"]
    assert [(one["source"], one["state"], one["waiting"]) for one in told] == [("shop", "stopped", 1)]
    assert "access token" in told[0]["message"] and right not in told[0]["message"]
    asked = len(big.fake.asked)
    big.fetch()
    assert len(big.fake.asked) == asked  # paused, and nothing is lost: callbacks are still taken in
    assert big.tell("store/order/updated", type="order", id=250).status == 200
    big.configure(big.text())  # with the token that is right now
    big.fetch()
    assert big.segments() == {"buyers"}
    with big.services.database.read() as state:
        assert status(state, big.services.log, big.services.turns, [], {}, big.time)["sources"] == []


def test_another_store_of_the_same_app_is_none_of_ours(big: BigShop) -> None:
    big.fake.store = "another9store"
    big.tell("store/order/created", type="order", id=250)
    big.fetch()
    assert big.waiting() == [] and big.fake.asked == []


def test_a_forged_callback_names_nothing(big: BigShop) -> None:
    big.fake.secret = "another-secret"
    assert big.tell("store/order/created", type="order", id=250).status == 401
    big.work()
    assert big.waiting() == []


def test_whoever_was_erased_after_the_callback_stays_erased(big: BigShop) -> None:
    big.tell("store/order/created", type="order", id=250)
    big.work()
    [row] = big.rows('SELECT asked_at FROM "fetch"')
    big.time = NOON + HOUR
    big.fetch()
    [(received_at,)] = [
        tuple(one)
        for one in big.services.inbox.engine.connect().exec_driver_sql(
            "SELECT received_at FROM delivery WHERE topic = 'fetched/order'"
        )
    ]
    assert received_at == row[0] == NOON


def test_the_worker_asks_from_a_thread_of_its_own(big: BigShop) -> None:
    asked = threading.Event()
    big.fake.before = lambda _: asked.set()
    big.tell("store/order/created", type="order", id=250)
    big.work()
    big.worker.errands.start()
    assert asked.wait(20)


def test_only_one_worker_asks(big: BigShop) -> None:
    big.tell("store/order/created", type="order", id=250)
    big.work()
    other = type(big.worker)(big.services, lambda: big.time, push=False)
    try:
        assert big.worker.errands.step()
        assert not other.errands.step()
    finally:
        other.close()


def test_what_a_removed_source_leaves_is_forgotten(big: BigShop) -> None:
    big.tell("store/order/created", type="order", id=250)
    big.work()
    big.configure("version: 1")
    big.worker.errands.step()
    assert big.waiting() == []


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{kind: bigcommerce, secrets: [s]}", "/sources/shop/admin: is missing; bigcommerce needs it"),
        ("{kind: bigcommerce, admin: {shop: x4qr8mw2pt, access_token: t}}", "/sources/shop/secrets: is missing"),
        (
            "{kind: bigcommerce, secrets: [s], admin: {shop: 'evil.example/x', access_token: t}}",
            "/sources/shop/admin/shop: must be the shop's own address, such as the store hash",
        ),
        (
            "{kind: bigcommerce, secrets: [s], admin: {shop: x4qr8mw2pt}}",
            "/sources/shop/admin/access_token: is missing",
        ),
        (
            "{kind: bigcommerce, secrets: [s], admin: {shop: x4qr8mw2pt, access_token: t, base_url: 'http://10.0.0.1'}}",
            "/sources/shop/admin/base_url: ",
        ),
        (
            "{kind: salesforce, admin: {shop: evil.example, client_id: a, client_secret: b}}",
            "/sources/shop/admin/shop: must be the shop's own address",
        ),
        (
            "{kind: salesforce, admin: {shop: a.my.salesforce.com, access_token: t}}",
            "/sources/shop/admin/client_id: is missing",
        ),
        (
            "{kind: salesforce, admin: {shop: a.my.salesforce.com, client_id: a, client_secret: b}, "
            "options: {objects: [Account]}}",
            "/sources/shop/options/objects: must be a list of Contact and Lead",
        ),
        (
            "{kind: salesforce, admin: {shop: a.my.salesforce.com, client_id: a, client_secret: b}, "
            "options: {every: 5s}}",
            "/sources/shop/options/every: must be from 1m to 1d",
        ),
    ],
)
def test_what_is_wrong_with_a_configuration_is_said(source: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        configuration_from(parse(f"version: 1\nsources: {{shop: {source}}}"))
    assert said in str(refused.value)


def test_credentials_are_kept_encrypted(big: BigShop) -> None:
    kept = str(big.rows("SELECT * FROM config_object"))
    assert "enc:" in kept and big.fake.token not in kept


# --- Salesforce: what nobody tells is asked for -----------------------------------------------------------------------


def test_contacts_and_leads_are_asked_for_in_pages(org: Org) -> None:
    org.fake.page = 2
    for number in range(5):
        org.fake.put("Contact", f"00300000000000{number}AAA", NOON - HOUR, Email=f"c{number}@aurora.example")
    org.fake.put("Lead", "00Q000000000001AAA", NOON - HOUR, Email="lead@aurora.example")
    org.fake.host = "https://elsewhere.example"  # nobody goes there: only the path counts
    org.poll()
    assert [email for (email,) in org.people()] == [f"c{n}@aurora.example" for n in range(5)] + ["lead@aurora.example"]
    assert org.fake.logins == 1
    assert org.rows("SELECT kind, watermark FROM source_poll ORDER BY kind") == [
        ("Contact", (NOON - HOUR) // 1000 * 1000),
        ("Lead", (NOON - HOUR) // 1000 * 1000),
    ]


def test_only_what_changed_is_asked_for_and_an_overlap_puts_nothing_in_line_twice(org: Org) -> None:
    org.fake.put("Contact", "003000000000001AAA", Email="ada@aurora.example")
    org.poll()
    org.at(NOON + 5 * MINUTE)
    org.fake.put("Contact", "003000000000001AAA", FirstName="Ada", HasOptedOutOfEmail=True)
    org.fake.put("Contact", "003000000000002AAA", NOON - 5 * MINUTE, Email="late@aurora.example")  # committed late
    org.poll()
    assert "SystemModstamp >= 2026-11-18T10:56:40.000Z" in org.fake.queries[-2]
    assert org.people() == [("ada@aurora.example",), ("late@aurora.example",)]
    assert org.consent("ada@aurora.example") == "unsubscribed"
    assert org.consent("late@aurora.example") is None  # not to have opted out is no consent
    count = org.services.inbox.engine.connect().exec_driver_sql("SELECT count(*) FROM delivery").scalar()
    assert count == 3


def test_a_crash_after_the_append_repeats_a_page_harmlessly(org: Org, monkeypatch: pytest.MonkeyPatch) -> None:
    org.fake.put("Contact", "003000000000001AAA", Email="ada@aurora.example")

    class Crash(Exception):
        pass

    def broken(*_: Any, **__: Any) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(store, "set_poll", broken)
        with pytest.raises(Crash):
            org.worker.errands.step()
    with org.services.database.read() as connection:
        assert connection.execute(select(source_poll.c.watermark)).scalars().all() in ([], [None])
    org.worker.close()
    org.worker = type(org.worker)(org.services, lambda: org.time, push=False)
    org.worker.refresh(force=True)
    org.poll()
    assert org.people() == [("ada@aurora.example",)]
    assert org.rows("SELECT count(*) FROM seen") == [(1,)]


def test_deleted_merged_and_converted(org: Org) -> None:
    org.fake.put("Contact", "003000000000001AAA", Email="ada@aurora.example")
    org.fake.put("Contact", "003000000000002AAA", Email="a.brandt@aurora.example")
    org.fake.put("Lead", "00Q000000000001AAA", Email="lead@aurora.example")
    org.poll()
    org.at(NOON + 5 * MINUTE)
    org.fake.remove("Contact", "003000000000002AAA", master="003000000000001AAA")
    org.fake.put("Lead", "00Q000000000001AAA", ConvertedContactId="003000000000003AAA")
    org.poll()
    holders = org.rows("SELECT value, profile_id FROM identifier WHERE kind = 'email' ORDER BY value")
    people = dict(holders)
    assert people["a.brandt@aurora.example"] == people["ada@aurora.example"]
    [(lead,)] = org.rows("SELECT profile_id FROM identifier WHERE value = 'crm:003000000000003AAA'")
    assert lead == people["lead@aurora.example"]
    org.at(NOON + 10 * MINUTE)
    org.fake.remove("Contact", "003000000000001AAA")
    org.poll()
    assert org.rows("SELECT deleted FROM entity WHERE id = '003000000000001AAA'") == [(1,)]


def test_a_token_that_has_ended_is_renewed_and_wrong_credentials_stop_the_source(org: Org) -> None:
    org.poll()
    org.fake.revoke()
    org.at(NOON + 5 * MINUTE)
    org.fake.put("Contact", "003000000000001AAA", Email="ada@aurora.example")
    org.poll()
    assert org.fake.logins == 2 and org.people() == [("ada@aurora.example",)]
    org.fake.revoke()
    org.fake.credentials = ("another-key", "another-secret")
    org.at(NOON + 10 * MINUTE)
    org.poll()
    with org.services.database.read() as connection:
        [(name, row)] = store.stopped(connection).items()
    assert name == "crm" and "Consumer Key" in row["message"] and "another" not in row["message"]


def test_a_hidden_field_stops_the_source_and_says_who_must_act(org: Org) -> None:
    org.fake.hidden = {"HasOptedOutOfEmail"}
    org.poll()
    with org.services.database.read() as connection:
        assert "permission set" in store.stopped(connection)["crm"]["message"]


def test_nobody_can_send_anything_to_a_source_that_is_only_asked(org: Org) -> None:
    request = RawRequest("POST", "/webhooks/salesforce/crm", {}, b'{"Id":"003"}', received_at=org.time)
    assert org.receiver.receive("salesforce", "crm", request).status in (401, 503)
