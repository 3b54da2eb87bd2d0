"""The tracking API from the request to the person: keys, origins, answers, consent, and who may say what."""

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client, TestResponse

from connector.app import create_app
from connector.clock import isoformat
from connector.domain import IdentityConfig
from connector.web import current
from connector.web.ingress import Ingress
from tests.conftest import CONFIG, NOON, Shop, order
from tests.unit.web.over_rsgi import OverRsgi

SERVER_KEY, BROWSER_KEY, SLOW_KEY = "sk_server_key", "wk_public_key", "wk_slow_site"
PAGE = "https://aurora.example"
SITE = f"""
  site:
    kind: segment_api
    secrets: [{SERVER_KEY}]
    browser: {{keys: [{BROWSER_KEY}], origins: ["{PAGE}", "null"]}}
    shop: shop
  apart:
    kind: segment_api
    secrets: [sk_apart_key]
    browser: {{keys: [{SLOW_KEY}], origins: ["https://other.example"], events_per_second: 1}}
"""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path, CONFIG.replace("fields:\n", f"{SITE.lstrip(chr(10))}fields:\n", 1))
    yield made
    made.close()


@pytest.fixture(params=["in front of Flask", "Flask alone"])
def client(shop: Shop, request: pytest.FixtureRequest) -> Client:
    app = create_app(services=shop.services, now=lambda: shop.time)
    if request.param == "Flask alone":
        return Client(app)
    return Client(OverRsgi(Ingress(app.wsgi_app, current.of(app).receiver, current.of(app).tracker)))


Send = Callable[..., TestResponse]


@pytest.fixture
def send(client: Client) -> Send:
    """Posts to /v1/...; a dict is sent as text/plain, as sendBeacon does."""

    def post(path: str, body: Any, *, key: str = "", origin: str = "", **headers: str) -> TestResponse:
        raw = body if isinstance(body, bytes) else json.dumps({**({"writeKey": key} if key else {}), **body}).encode()
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        given |= {"Origin": origin} if origin else {}
        return client.post(f"/v1/{path}", data=raw, headers={"Content-Type": "text/plain", **given})

    return post


def track(event: str = "Product Viewed", *, id: str = "m1", **more: Any) -> dict[str, Any]:
    return {"type": "track", "event": event, "messageId": id, "anonymousId": "a1", "sentAt": isoformat(NOON), **more}


def kept(shop: Shop) -> list[tuple[str, str, str]]:
    with shop.services.inbox.read() as inbox:
        rows = inbox.exec_driver_sql("SELECT source, topic, delivery_id FROM delivery ORDER BY id")
        return [tuple(row) for row in rows]


def events(shop: Shop) -> list[tuple[Any, ...]]:
    return shop.rows("SELECT profile_id, name, id FROM event ORDER BY id")


def tied(shop: Shop) -> set[tuple[Any, ...]]:
    return set(shop.rows("SELECT kind, value, profile_id FROM identifier"))


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["track", "t"])
def test_an_event_is_durable_when_it_is_answered(shop: Shop, send: Send, path: str) -> None:
    answer = send(path, track(), key=BROWSER_KEY, origin=PAGE)
    assert (answer.status_code, answer.get_json()) == (200, {"success": True})
    assert answer.content_type == "application/json"
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert "Origin" in answer.headers["Vary"]
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert kept(shop) == [("site", "track", "m1")]


def test_a_batch_is_kept_event_by_event_and_a_bad_one_harms_no_other(shop: Shop, send: Send) -> None:
    good = [track(id="m1"), track(id="m2", anonymousId="a2")]
    batch = {"batch": [good[0], 7, {"type": "track", "messageId": "m3"}, track(id="m4", properties=[]), good[1]]}
    assert send("batch", batch, key=SERVER_KEY).status_code == 200
    assert len(kept(shop)) == 5
    shop.work()
    assert [name for _, name, _ in events(shop)] == ["Product Viewed", "Product Viewed"]
    letters = shop.rows("SELECT reason, count(*) FROM dead_letter GROUP BY reason ORDER BY reason")
    assert letters == [("bad_type", 1), ("nobody", 1), ("not_an_object", 1)]


def test_a_repeat_is_harmless(shop: Shop, send: Send) -> None:
    for _ in range(3):
        assert send("track", track(), key=SERVER_KEY).status_code == 200
    send("batch", {"batch": [track(), track()]}, key=SERVER_KEY)
    shop.work()
    assert len(events(shop)) == 1


def test_nothing_that_was_not_kept_is_answered_as_if_it_were(shop: Shop, send: Send, monkeypatch: Any) -> None:
    def fails(items: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(shop.services.log, "_keep", fails)
    answer = send("track", track(), key=SERVER_KEY)
    assert answer.status_code == 503
    assert answer.get_json()["code"] == "not_durable"
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"not json", 400, "not_json"),
        (b"[]", 400, "not_an_object"),
        (b'{"batch":' + b"[" * 5000 + b"]" * 5000 + b"}", 400, "not_json"),
        (b" " * 600_000, 400, "too_large"),
        (b"{}", 401, "bad_write_key"),
        (b'{"writeKey": 7}', 401, "bad_write_key"),
        (b'{"writeKey": "wk_forged_key"}', 401, "bad_write_key"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_refusals_say_so_as_clients_read_it(shop: Shop, send: Send, body: bytes, status: int, code: str) -> None:
    answer = send("batch", body, origin=PAGE)
    assert answer.status_code == status
    found = answer.get_json()
    assert (found["success"], found["code"]) == (False, code)
    assert found["message"]
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert kept(shop) == []


def test_a_bomb_costs_no_memory(send: Send) -> None:
    answer = send("batch", gzip.compress(b" " * 300_000_000), Content_Encoding="gzip")
    assert (answer.status_code, answer.get_json()["code"]) == (400, "too_large")


def test_a_large_batch_is_taken_apart_elsewhere_and_kept(shop: Shop, send: Send) -> None:
    batch = [track(id=f"m{number}", properties={"text": "x" * 200}) for number in range(1000)]
    assert send("batch", {"batch": batch}, key=SERVER_KEY).status_code == 200
    assert len(kept(shop)) == 1000


@pytest.mark.parametrize("path", ["m", "tracks", "batch/x", ""])
def test_other_calls_do_not_exist(send: Send, path: str) -> None:
    assert send(path, track(), key=SERVER_KEY).status_code == 404


# --- keys and origins -------------------------------------------------------------------------------------------------


def test_a_page_of_another_origin_may_not_send(shop: Shop, send: Send) -> None:
    answer = send("track", track(), key=BROWSER_KEY, origin="https://evil.example")
    assert (answer.status_code, answer.get_json()["code"]) == (403, "bad_origin")
    assert "Access-Control-Allow-Origin" not in answer.headers
    other = send("track", track(), key=BROWSER_KEY, origin="https://other.example")
    assert other.status_code == 403, "it is the origin of another source"
    assert kept(shop) == []


@pytest.mark.parametrize("origin", [PAGE, "null", ""])
def test_those_who_may(send: Send, origin: str) -> None:
    assert send("track", track(), key=BROWSER_KEY, origin=origin).status_code == 200


def test_a_servers_key_on_a_page_is_refused(send: Send) -> None:
    answer = send("track", track(), key=SERVER_KEY, origin=PAGE)
    assert (answer.status_code, answer.get_json()["code"]) == (403, "server_key_in_browser")
    assert SERVER_KEY not in answer.get_data(as_text=True)


def test_a_browser_asks_first(client: Client) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    answer = client.options("/v1/t", headers={"Origin": PAGE, **asked})
    assert answer.status_code == 204
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    allowed = answer.headers["Access-Control-Allow-Headers"].lower()
    assert all(name in allowed for name in ("authorization", "content-type", "x-retry-count"))
    refused = client.options("/v1/t", headers={"Origin": "https://evil.example", **asked})
    assert refused.status_code == 403
    assert "Access-Control-Allow-Origin" not in refused.headers


def test_a_public_key_brings_so_many_events_and_no_more(shop: Shop, send: Send) -> None:
    batch = {"batch": [track(id=f"m{number}") for number in range(2500)]}
    assert send("batch", batch, key=SLOW_KEY).status_code == 200
    answer = send("track", track(), key=SLOW_KEY)
    assert (answer.status_code, answer.get_json()["code"]) == (429, "rate_limited")
    assert answer.headers["Retry-After"] == answer.headers["X-RateLimit-Reset"] == "1"
    assert send("track", track(), key=BROWSER_KEY).status_code == 200


def test_a_source_whose_secrets_cannot_be_read_loses_nothing(shop: Shop, client: Client, send: Send) -> None:
    shop.configure(CONFIG.replace("fields:\n", SITE.replace(SERVER_KEY, "env:NOT_THERE") + "fields:\n", 1))
    answer = send("track", track(), key=SERVER_KEY)
    assert answer.status_code == 503, "a client drops what is answered with 401"


def test_the_settings_that_the_browsers_client_asks_for(client: Client) -> None:
    answer = client.get(f"/v1/projects/{BROWSER_KEY}/settings", headers={"Origin": PAGE})
    assert answer.status_code == 200
    segment = answer.get_json()["integrations"]["Segment.io"]
    assert (segment["apiKey"], segment["apiHost"], segment["protocol"]) == (BROWSER_KEY, "127.0.0.1:8080/v1", "http")
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert answer.headers["Cache-Control"] == "public, max-age=300"
    for key in (SERVER_KEY, "wk_forged_key"):
        assert client.get(f"/v1/projects/{key}/settings").status_code == 404


# --- who may say what -------------------------------------------------------------------------------------------------


def customer(shop: Shop) -> None:
    """Ada, whom the shop knows."""
    shop.deliver("orders/create", order())
    shop.work()


def test_what_a_visitor_did_joins_when_they_say_who_they_are(shop: Shop, send: Send) -> None:
    customer(shop)
    send("track", track(), key=BROWSER_KEY, origin=PAGE)
    shop.work()
    assert [person for person, name, _ in events(shop) if name == "Product Viewed"] == [2]
    identify = {"type": "identify", "anonymousId": "a1", "messageId": "m2", "traits": {"email": "ada@example.com"}}
    send("identify", identify, key=BROWSER_KEY, origin=PAGE)
    shop.work()
    assert {person for person, _, _ in events(shop)} == {1}
    assert ("anonymous_id", "a1", 1) in tied(shop)


def test_nobody_is_taken_over_from_a_page(shop: Shop, send: Send) -> None:
    customer(shop)
    take_over = {"type": "identify", "anonymousId": "eve", "userId": "501", "messageId": "m1"}
    take_over["traits"] = {"email": "eve@example.com", "firstName": "Eve", "phone": "+15550100000", "total_spent": 9999}
    for path in ("identify", "alias", "track"):
        event = {**take_over, "previousId": "501", "event": "A", "messageId": path}
        assert send(path, event, key=BROWSER_KEY, origin=PAGE).status_code == 200
    shop.work()
    [(email, traits)] = shop.rows("SELECT email, traits FROM profile WHERE id = 1")
    assert email == "ada@example.com"
    assert json.loads(traits)["total_spent"] == 100
    assert not any("eve@example.com" in value or value == "+15550100000" for _, value, _ in tied(shop))


def test_nobody_gets_a_hundred_thousand_devices(shop: Shop, send: Send) -> None:
    """Each batch names one person and 1000 devices that nobody has."""
    customer(shop)
    traits = {"email": "ada@example.com"}
    for batch in range(2):
        calls = [
            {
                "type": "identify",
                "anonymousId": f"a{batch}-{number}",
                "messageId": f"m{batch}-{number}",
                "traits": traits,
            }
            for number in range(1000)
        ]
        assert send("batch", {"batch": calls}, key=BROWSER_KEY, origin=PAGE).status_code == 200
        shop.work()
    [(devices,)] = shop.rows("SELECT count(*) FROM identifier WHERE kind = 'anonymous_id' AND profile_id = 1")
    assert devices == IdentityConfig().limits["anonymous_id"]
    assert shop.rows("SELECT email FROM profile WHERE id = 1") == [("ada@example.com",)]


def test_two_customers_on_one_device_stay_two(shop: Shop, send: Send) -> None:
    customer(shop)
    shop.deliver("orders/create", order(1002, customer=502, email="bea@example.com"))
    shop.work()
    for number, email in enumerate(("ada@example.com", "bea@example.com")):
        event = {"type": "identify", "anonymousId": "a1", "messageId": f"m{number}", "traits": {"email": email}}
        send("identify", event, key=BROWSER_KEY, origin=PAGE)
        shop.work()
    people = {value: person for kind, value, person in tied(shop) if kind == "email"}
    assert people["ada@example.com"] != people["bea@example.com"]


def test_a_servers_identify_says_whose_an_address_is(shop: Shop, send: Send) -> None:
    event = {"type": "identify", "userId": "501", "messageId": "m1", "traits": {"email": "ada@work.example"}}
    send("identify", event, key=SERVER_KEY)
    shop.work()
    assert {("customer_id", "shop:501", 1), ("email", "ada@work.example", 1)} <= tied(shop)
    assert shop.rows("SELECT email FROM profile") == [("ada@work.example",)]


def test_an_order_that_the_page_tells_too_is_one_order(shop: Shop, send: Send) -> None:
    customer(shop)
    told = track("Order Completed", properties={"order_id": "1001", "total": 999}, userId="501")
    for key in (BROWSER_KEY, SERVER_KEY):
        send("track", {**told, "messageId": key}, key=key)
    shop.work()
    assert [id_ for _, name, id_ in events(shop) if name == "Order Completed"] == ["shopify:shop:order:1001:completed"]
    [(traits,)] = shop.rows("SELECT traits FROM profile WHERE id = 1")
    assert json.loads(traits)["total_spent"] == 100


def test_a_site_without_a_shop_counts_its_servers_orders(shop: Shop, send: Send) -> None:
    told = track("Order Completed", properties={"order_id": "7", "total": 30, "currency": "EUR"}, userId="u1")
    send("track", {**told, "messageId": "by-page"}, key=SLOW_KEY, origin="https://other.example")
    send("track", {**told, "messageId": "by-server"}, key="sk_apart_key")
    shop.work()
    assert len(events(shop)) == 1
    [(traits,)] = shop.rows("SELECT traits FROM profile WHERE id = 1")
    assert (json.loads(traits)["orders_count"], json.loads(traits)["total_spent"]) == (1, 30)
    assert shop.segments() == {"recent-buyers"}


def test_without_consent_nobody_is_made(shop: Shop, send: Send) -> None:
    context = {"consent": {"categoryPreferences": {"Marketing": False}}}
    send("track", track(context=context), key=BROWSER_KEY, origin=PAGE)
    shop.work()
    assert shop.rows("SELECT count(*) FROM profile") == [(0,)]
    assert shop.rows("SELECT label, count FROM counter WHERE name = 'skipped'") == [("site/no_consent", 1)]


def test_the_key_is_in_no_log_and_no_row(shop: Shop, send: Send, capsys: pytest.CaptureFixture[str]) -> None:
    send("track", track(), key=SERVER_KEY)
    send("track", track(), key=SERVER_KEY, origin=PAGE)
    send("track", track(), key="wk_forged_key_1")
    shop.work()
    written = "".join(capsys.readouterr())
    data = b"".join(path.read_bytes() for path in shop.services.settings.data_dir.iterdir() if path.is_file())
    for key in (SERVER_KEY, "wk_forged_key_1"):
        assert key not in written
        assert key.encode() not in data
