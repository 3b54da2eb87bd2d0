"""What a sender can get wrong, through the WSGI application: a clear 4xx, or a dead letter; never a 500, never lost."""

import base64
import copy
import hashlib
import hmac
import io
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError, OperationalError
from werkzeug.test import Client, EnvironBuilder, TestResponse, run_wsgi_app

from connector.app import create_app
from connector.clock import MINUTE
from connector.pipeline import line
from connector.sources.shopify.topics import TOPICS
from connector.web import current
from connector.web.ingress import Ingress
from tests.conftest import NOON, SECRET, Shop, checkout, iso, order
from tests.integration.emptied import empty
from tests.unit.web.over_rsgi import OverRsgi

PATH = "/webhooks/shopify/shop"
LIMIT = 5 * 1024 * 1024


def signed(body: bytes, topic: str | None = "orders/create", secret: str = SECRET) -> dict[str, str]:
    signature = base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()
    topic_header = {} if topic is None else {"X-Shopify-Topic": topic}
    return {"X-Shopify-Hmac-Sha256": signature, "Content-Type": "application/json", **topic_header}


@pytest.fixture(scope="module")
def one_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    shop = Shop(tmp_path_factory.mktemp("bad-input"))
    yield shop
    shop.close()


@pytest.fixture
def shop(one_shop: Shop) -> Shop:
    return empty(one_shop)


@pytest.fixture(scope="module", params=["in front of Flask", "Flask alone"])
def client(one_shop: Shop, request: pytest.FixtureRequest) -> Client:
    app = create_app(services=one_shop.services, now=lambda: one_shop.time)
    if request.param == "Flask alone":
        return Client(app)
    return Client(OverRsgi(Ingress(app.wsgi_app, current.of(app).receiver, current.of(app).tracker)))


def raw(client: Client, stream: Any, headers: dict[str, str], **environ: Any) -> TestResponse:
    """The answer to a POST whose environ is as a server makes it, untouched by the test client."""
    builder = EnvironBuilder(path=PATH, method="POST", headers=headers)
    made = {name: value for name, value in builder.get_environ().items() if name != "CONTENT_LENGTH"}
    made |= {"wsgi.input": stream, **environ}
    return TestResponse(*run_wsgi_app(client.application, made), builder.get_request())


CHUNKED: dict[str, Any] = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}


def refused(answer: TestResponse, status: int) -> str:
    """The problem's detail, once everything else about it is as it should be."""
    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"
    problem = json.loads(answer.data)
    assert problem["status"] == status
    assert problem["title"]
    return str(problem.get("detail", ""))


def nothing_kept(shop: Shop) -> None:
    assert shop.work() == 0


# --- refused ----------------------------------------------------------------------------------------------------------


class Untouched(io.RawIOBase):
    """A body that must not be read."""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        raise AssertionError("the body was read")

    readinto = readline = read  # type: ignore[assignment]


def test_a_body_that_is_announced_too_large_is_not_read(shop: Shop, client: Client) -> None:
    refused(raw(client, Untouched(), signed(b"{}"), CONTENT_LENGTH=str(LIMIT + 1)), 413)
    nothing_kept(shop)


def test_an_unannounced_body_is_read_no_further_than_the_limit(shop: Shop, client: Client) -> None:
    stream = io.BytesIO(b" " * (LIMIT + 100_000))
    refused(raw(client, stream, signed(b"{}"), **CHUNKED), 413)
    assert stream.tell() <= LIMIT + 65_536
    nothing_kept(shop)


def test_an_unannounced_body_of_fair_size_is_taken(shop: Shop, client: Client) -> None:
    body = json.dumps(order()).encode()
    assert raw(client, io.BytesIO(body), signed(body), **CHUNKED).status_code == 200
    shop.work()
    assert shop.rows("SELECT count(*) FROM shop_order") == [(1,)]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, gzip", "zstd"])
def test_a_compressed_body_is_not_inflated(shop: Shop, client: Client, encoding: str) -> None:
    body = b"\x1f\x8b" + b"\0" * 100
    answer = client.post(PATH, data=body, headers={**signed(body), "Content-Encoding": encoding})
    assert "uncompressed" in refused(answer, 415)
    nothing_kept(shop)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_other_methods_are_refused(shop: Shop, client: Client, method: str) -> None:
    answer = client.open(PATH, method=method, data=b"{}", headers=signed(b"{}"))
    refused(answer, 405)
    assert "POST" in answer.headers["Allow"]
    nothing_kept(shop)


@pytest.mark.parametrize(
    "path",
    [
        "/webhooks/shopify/other",
        "/webhooks/woocommerce/shop",
        "/webhooks/shopify/",
        "/webhooks/shopify",
        "/webhooks/",
        "/webhooks/shopify/shop/more",
        "/webhooks/shopify/..%2fshop",
        "/webhooks/shopify/%00",
        "/webhooks/shopify/%ff%fe",
        "/webhooks/shopify/" + "x" * 3000,
        "/webhooks/SHOPIFY/shop",
    ],
)
def test_an_unknown_source_is_not_found(shop: Shop, client: Client, path: str) -> None:
    body = json.dumps(order()).encode()
    refused(client.post(path, data=body, headers=signed(body)), 404)
    nothing_kept(shop)


@pytest.mark.parametrize(
    "forged",
    [
        {"X-Shopify-Hmac-Sha256": ""},
        {"X-Shopify-Hmac-Sha256": "AAAA"},
        {"X-Shopify-Hmac-Sha256": "not base64 \xe4\xf6"},
        {"X-Shopify-Hmac-Sha256": "A" * 5000},
        signed(b"another body"),
        signed(b"{}", secret="another secret"),
        {"X-Shopify-Hmac-Sha256": hmac.new(SECRET.encode(), b"{}", hashlib.sha256).hexdigest()},
        None,
    ],
    ids=["empty", "short", "no base64", "long", "of another body", "of another secret", "hexadecimal", "missing"],
)
def test_a_bad_signature_is_told_about_the_two_kinds_of_secret(
    shop: Shop, client: Client, forged: dict[str, str] | None
) -> None:
    headers = {k: v for k, v in signed(b"{}").items() if forged is not None or k != "X-Shopify-Hmac-Sha256"}
    detail = refused(client.post(PATH, data=b"{}", headers=headers | (forged or {})), 401)
    assert "client secret" in detail
    assert "Settings > Notifications" in detail
    assert SECRET not in detail
    nothing_kept(shop)


@pytest.mark.parametrize("topic", [None, "", " ", "orders create", "orders/create\x01", "\xe4/\xf6", "x" * 200])
def test_a_delivery_without_a_topic_is_refused(shop: Shop, client: Client, topic: str | None) -> None:
    assert "X-Shopify-Topic" in refused(client.post(PATH, data=b"{}", headers=signed(b"{}", topic)), 400)
    nothing_kept(shop)


@pytest.mark.parametrize("length", ["-1", "ten", "1e3", "0x10", "²", "٣"])
def test_a_content_length_that_is_no_number_is_refused_or_its_body_does_not_fit(
    shop: Shop, client: Client, length: str
) -> None:
    answer = raw(client, io.BytesIO(b"{}"), signed(b"{}"), CONTENT_LENGTH=length)
    assert 400 <= answer.status_code < 500
    nothing_kept(shop)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_signed_body_is_taken_whatever_its_type_is_called(shop: Shop, client: Client, content_type: str) -> None:
    body = json.dumps(order()).encode()
    assert client.post(PATH, data=body, headers=signed(body) | {"Content-Type": content_type}).status_code == 200
    shop.work()
    assert shop.rows("SELECT count(*) FROM shop_order") == [(1,)]


# --- taken, and then unusable -----------------------------------------------------------------------------------------

UNUSABLE: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "not_json"),
    "half": (b'{"id": 1, "total_pri', "not_json"),
    "NaN": (b'{"id": 1, "total_price": NaN}', "not_json"),
    "infinite": (b'{"id": 1, "total_price": Infinity}', "not_json"),
    "1e400": (b'{"id": 1, "created_at": "2026-01-01", "total_price": 1e400}', "not_json"),
    "deep list": (b'{"id": 1, "note": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "not_json"),
    "deep object": (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "not_json"),
    "NUL byte": (b'{"id": 1\0}', "not_json"),
    "NUL character": (json.dumps(order(email="a\0da@example.com")).encode(), "nul_character"),
    "lone surrogate": (b'{"id": 1, "email": "\\ud800@example.com"}', "not_json"),
    "no UTF-8": (b'{"id": 1, "email": "\xff\xfe"}', "not_json"),
    "UTF-16": (json.dumps(order()).encode("utf-16"), "not_json"),
    "list": (b"[1]", "not_an_object"),
    "text": (b'"order"', "not_an_object"),
    "null": (b"null", "not_an_object"),
    "bad money": (json.dumps(order(total="twelve")).encode(), "bad_money"),
    "bad instant": (json.dumps(order() | {"created_at": "yesterday", "processed_at": None}).encode(), "bad_instant"),
    "bad id": (json.dumps(order() | {"id": {"a": 1}, "admin_graphql_api_id": None}).encode(), "bad_id"),
    "address in a list": (json.dumps(order(email=["ada@example.com"])).encode(), "bad_type"),  # type: ignore[arg-type]
    "phone as a number": (json.dumps(order(phone=491701234567)).encode(), "bad_type"),
    "bad list": (json.dumps(order() | {"line_items": "none"}).encode(), "bad_type"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_cannot_be_used_is_a_dead_letter_with_its_reason(shop: Shop, client: Client, name: str) -> None:
    body, reason = UNUSABLE[name]
    good = json.dumps(order(2001)).encode()
    assert client.post(PATH, data=body, headers=signed(body)).status_code == 200
    assert client.post(PATH, data=good, headers=signed(good)).status_code == 200
    shop.work()
    assert shop.rows("SELECT reason, state, body FROM dead_letter") == [(reason, "open", body)]
    assert shop.rows("SELECT id FROM shop_order") == [("2001",)]


@pytest.mark.parametrize("fault", ["value", "row"])
def test_a_record_that_the_line_trips_over_is_buried_alone(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    faults: dict[str, Exception] = {
        "value": ValueError("boom"),
        "row": IntegrityError("INSERT", {}, Exception("UNIQUE constraint failed")),
    }
    real = line.event_rows

    def trips(meant: Any, batch: Any, zone: Any) -> Any:
        if any(one.delivery.id == "bad" for one in meant):
            raise faults[fault]
        return real(meant, batch, zone)

    monkeypatch.setattr(line, "event_rows", trips)
    for number in range(5):
        shop.deliver("orders/create", order(1000 + number), id="bad" if number == 2 else f"{fault}-{number}")
    for _ in range(5):  # attempts
        shop.at(shop.time + 10 * MINUTE)
    assert shop.rows("SELECT count(*) FROM shop_order") == [(4,)]
    assert shop.rows("SELECT reference, reason FROM dead_letter") == [("bad", "failed")]


def test_a_fault_of_the_disk_is_nobodys_dead_letter(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OperationalError("INSERT", {}, Exception("database or disk is full"))

    shop.deliver("orders/create", order())
    with monkeypatch.context() as patched:
        patched.setattr(line, "event_rows", full)
        for _ in range(3):
            with pytest.raises(OperationalError):
                shop.work()
    shop.work()
    assert shop.rows("SELECT count(*) FROM shop_order") == [(1,)]
    assert shop.rows("SELECT count(*) FROM dead_letter") == [(0,)]


# --- taken, odd, and usable -------------------------------------------------------------------------------------------


def taken(shop: Shop, client: Client, body: bytes, topic: str = "orders/create") -> None:
    """Deliver it; it must have its effect, and not as a dead letter."""
    assert client.post(PATH, data=body, headers=signed(body, topic)).status_code == 200
    shop.work()
    assert shop.rows("SELECT reason, message FROM dead_letter") == []


def test_ten_thousand_line_items(shop: Shop, client: Client) -> None:
    lines = [
        {"id": n, "product_id": n, "variant_id": n, "quantity": 1, "price": "1.00", "title": "M"}
        for n in range(1, 10_001)
    ]
    body = json.dumps(order(total="10000.00", line_items=lines)).encode()
    began = time.process_time()
    taken(shop, client, body)
    assert time.process_time() - began < 5
    assert shop.rows("SELECT total FROM shop_order") == [(1_000_000,)]
    assert shop.segments(shop.rows("SELECT id FROM profile")[0][0]) == {"recent-buyers", "vip"}


def test_the_last_of_two_keys_counts(shop: Shop, client: Client) -> None:
    body = json.dumps(order(total="10.00")).encode()
    taken(shop, client, body[:-1] + b', "total_price": "20.00", "total_price_set": null}')
    assert shop.rows("SELECT total FROM shop_order") == [(2000,)]


def test_negative_quantities_and_totals(shop: Shop, client: Client) -> None:
    lines = [{"id": 1, "product_id": 1, "variant_id": 1, "quantity": -3, "price": "-10.00"}]
    taken(shop, client, json.dumps(order(total="-30.00", line_items=lines)).encode())
    assert shop.rows("SELECT json_extract(traits, '$.total_spent') FROM profile") == [(-30,)]


@pytest.mark.parametrize(
    "stated",
    [
        "1970-01-01T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "0001-01-01T00:00:00Z",
        "2099-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
    ],
)
def test_no_event_is_later_than_its_arrival_and_none_is_older_than_the_trade(
    shop: Shop, client: Client, stated: str
) -> None:
    taken(shop, client, json.dumps(order() | {"created_at": stated, "processed_at": stated}).encode())
    [(at,)] = shop.rows("SELECT at FROM event")
    assert 946_684_800_000 <= at <= shop.time
    assert shop.rows("SELECT json_extract(traits, '$.orders_count') FROM profile") == [(1,)]


@pytest.mark.parametrize(
    "email",
    [
        "",
        " ",
        "@",
        "ada",
        "ada@",
        "@example.com",
        "a b@example.com",
        "x" * 5000 + "@example.com",
        "ada@ex\tample",
    ],
)
def test_an_address_that_is_none_names_nobody(shop: Shop, client: Client, email: Any) -> None:
    body = order() | {"email": email, "contact_email": email}
    body["customer"]["email"] = email
    taken(shop, client, json.dumps(body).encode())
    assert shop.rows("SELECT kind, value FROM identifier WHERE kind = 'email'") == []
    assert shop.rows("SELECT value FROM identifier WHERE kind = 'customer_id'") == [("shop:501",)]


@pytest.mark.parametrize("phone", ["", "0", "+", "call me", "+999999999999999999999", "1" * 5000, "+49"])
def test_a_phone_number_that_is_none_names_nobody(shop: Shop, client: Client, phone: Any) -> None:
    body = order() | {"phone": phone}
    body["customer"]["phone"] = phone
    taken(shop, client, json.dumps(body).encode())
    assert shop.rows("SELECT value FROM identifier WHERE kind = 'phone'") == []
    assert shop.rows("SELECT count(*) FROM shop_order") == [(1,)]


def test_ids_of_64_bits_stay_whole(shop: Shop, client: Client) -> None:
    taken(shop, client, json.dumps(order(2**63 - 1, customer=2**63 - 2)).encode())
    assert shop.rows("SELECT id FROM shop_order") == [(str(2**63 - 1),)]
    assert (f"shop:{2**63 - 2}",) in shop.rows("SELECT value FROM identifier")


@pytest.mark.parametrize("total", ["99999999999999999999.99", "1e30", "9007199254740993.00", "-99999999999999999999"])
def test_money_beyond_all_money_harms_nobody(shop: Shop, client: Client, total: str) -> None:
    body = json.dumps(order(total=total)).encode()
    good = json.dumps(order(2001, customer=502, email="bob@example.com")).encode()
    for one in (body, good):
        assert client.post(PATH, data=one, headers=signed(one)).status_code == 200
    shop.work()
    assert ("2001",) in shop.rows("SELECT id FROM shop_order")
    assert {reason for (reason,) in shop.rows("SELECT reason FROM dead_letter")} <= {"bad_money"}


# --- anything ---------------------------------------------------------------------------------------------------------

CUSTOMER = {
    "id": 501,
    "email": "ada@example.com",
    "phone": "+33612345678",
    "created_at": iso(NOON),
    "updated_at": iso(NOON),
}
CONSENT = {"state": "subscribed", "opt_in_level": "single_opt_in", "consent_updated_at": iso(NOON)}
REFUND = {
    "id": 77,
    "order_id": 1001,
    "created_at": iso(NOON),
    "processed_at": iso(NOON),
    "refund_line_items": [{"id": 1, "quantity": 1, "line_item_id": 10010, "subtotal": 10.0, "total_tax": 1.0}],
    "order_adjustments": [],
    "transactions": [{"id": 1, "kind": "refund", "status": "success", "amount": "30.00", "currency": "EUR"}],
}
BASES: dict[str, dict[str, Any]] = {
    "orders/create": order(refunds=[REFUND], discount_codes=[{"code": "HELLO", "amount": "1.00"}]),
    "orders/cancelled": order(cancelled_at=iso(NOON), cancel_reason="customer"),
    "orders/edited": {"order_edit": {"id": 5, "order_id": 1001, "created_at": iso(NOON), "line_items": {}}},
    "orders/delete": {"id": 1001},
    "refunds/create": REFUND,
    "checkouts/create": checkout(customer=CUSTOMER),
    "carts/update": {"id": "cart-1", "token": "cart-1", "updated_at": iso(NOON), "line_items": order()["line_items"]},
    "customers/update": CUSTOMER | {"tags": "vip, new", "email_marketing_consent": CONSENT, "default_address": {}},
    "customers/merge": {
        "admin_graphql_api_customer_kept_id": "gid://shopify/Customer/501",
        "admin_graphql_api_customer_deleted_id": "gid://shopify/Customer/502",
        "status": "completed",
    },
    "customer.tags_added": {"customerId": "gid://shopify/Customer/501", "tags": ["vip"], "occurredAt": iso(NOON)},
    "customers_email_marketing_consent/update": {"customer_id": 501, "email_marketing_consent": CONSENT},
    "products/update": {"id": 1, "title": "Mug", "updated_at": iso(NOON), "variants": [{"id": 1, "price": "1.00"}]},
    "shop/update": {"id": 1, "name": "Aurora", "updated_at": iso(NOON)},
    "web_pixels/product_viewed": {
        "id": "e1",
        "clientId": "c1",
        "name": "product_viewed",
        "timestamp": iso(NOON),
        "data": {
            "productVariant": {"id": "1", "price": {"amount": 1.0, "currencyCode": "EUR"}, "product": {"id": "1"}}
        },
    },
}
ODD: list[Any] = [
    None, "", " ", "x", "0", -1, 0, 1, 2**31, 2**53 + 1, 2**63, 2**64, 10**40, 1e308, -0.0, 0.1, True, False,
    [], {}, [[]], [None], [1], {"": None}, {"id": None}, "\ud800", "\0", "\u202e", "é" * 300, "x" * 20_000,
    "gid://shopify/Customer/1", "gid://shopify/Order/", "-5.00", "1e999", "NaN", "٣", "2026-02-30T00:00:00Z",
    "2026-11-18", "0000-00-00", iso(NOON + 10**12), "ada@example.com", "bob@example.com", "+33612345678",
    501, 502, 1001,
]  # fmt: skip


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything in a document."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return found + [place for key, inner in items for place in _places(inner, (*path, key))]


@st.composite
def mutated(draw: Callable[..., Any]) -> tuple[str, bytes]:
    """A topic and a body with some of its values odd, missing or doubled, or with damaged bytes."""
    base = draw(st.sampled_from(sorted(BASES)))
    document = copy.deepcopy(BASES[base])
    for _ in range(draw(st.integers(0, 4))):
        places = _places(document)
        if not places:
            break
        *path, last = draw(st.sampled_from(places))
        inner: Any = document
        for step in path:
            inner = inner[step]
        match draw(st.integers(0, 5)):
            case 0:
                del inner[last]
            case 1 if isinstance(inner, list):
                inner.extend([inner[last]] * 3)
            case _:
                inner[last] = copy.deepcopy(draw(st.sampled_from(ODD)))
    body = json.dumps(document).encode()
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(body)))
        body = body[:at] + draw(st.binary(max_size=3)) + body[at + draw(st.integers(0, 3)) :]
    topic = draw(st.sampled_from(sorted(TOPICS))) if draw(st.integers(0, 9)) == 0 else base
    return topic, body


@given(batch=st.lists(mutated(), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_is_signed_is_worked_off_or_a_dead_letter(one_shop: Shop, batch: list[tuple[str, bytes]]) -> None:
    shop = empty(one_shop)
    ids = {f"fuzz-{number}": body for number, (_, body) in enumerate(batch)}
    for number, (topic, body) in enumerate(batch):
        assert shop.deliver(topic, body, id=f"fuzz-{number}").status == 200
    assert shop.deliver("orders/create", order(9001, customer=9, email="good@example.com"), id="good").status == 200
    shop.work()
    worked = {id_ for (id_,) in shop.rows("SELECT delivery_id FROM seen")}
    assert worked == {*ids, "good"}
    letters = shop.rows("SELECT reference, reason, message FROM dead_letter")
    assert [letter for letter in letters if letter[1] in ("failed", "error")] == []
    assert shop.rows("SELECT count(*) FROM event WHERE id LIKE '%:9001:%'") == [(1,)]
    for (text,) in shop.rows("SELECT traits FROM profile UNION ALL SELECT properties FROM event"):
        assert isinstance(json.loads(text), dict)
