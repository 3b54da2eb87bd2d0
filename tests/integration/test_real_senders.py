"""Requests as the senders' own libraries make them, to a running server on loopback."""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from urllib.request import Request, urlopen

import pytest
from cloudevents.core.bindings.http import to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from mixpanel import Consumer, Mixpanel
from standardwebhooks import Webhook
from werkzeug.serving import make_server

from connector.app import create_app
from tests.conftest import NOON, Shop

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
CONFIG = f"""
version: 1
sources:
  events: {{kind: cloudevents, secrets: [hush]}}
  signed: {{kind: standard_webhooks, secrets: ["{SECRET}"]}}
  tracker: {{kind: mixpanel, secrets: [hush]}}
"""
NOW = datetime.fromtimestamp(NOON / 1000, UTC)


@pytest.fixture
def shop(make_shop: Callable[[str], Shop]) -> Iterator[Shop]:
    yield make_shop(CONFIG)


@pytest.fixture
def address(shop: Shop) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, create_app(services=shop.services, now=lambda: shop.time), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/webhooks"
    server.shutdown()
    thread.join()


def post(address: str, body: bytes, headers: dict[str, str]) -> int:
    with urlopen(Request(address, body, headers)) as answer:
        status: int = answer.status
        return status


def events(shop: Shop) -> list[str]:
    shop.work()
    assert shop.rows("SELECT reason, message FROM dead_letter") == []
    return [name for (name,) in shop.rows("SELECT name FROM event ORDER BY name")]


def test_mixpanels_client(shop: Shop, address: str) -> None:
    url = f"{address}/mixpanel/tracker"
    client = Mixpanel("hush", consumer=Consumer(events_url=url, people_url=url, import_url=url, retry_limit=0))
    client.track("u-9", "product_viewed", {"product_id": "p1", "$email": "ada@example.com"})
    client.people_set("u-9", {"$first_name": "Ada", "Plan": "gold"})
    assert events(shop) == ["Product Viewed"]
    [(email, text)] = shop.rows("SELECT email, traits FROM profile")
    assert email == "ada@example.com"
    assert (json.loads(text)["first_name"], json.loads(text)["plan"]) == ("Ada", "gold")


def test_mixpanels_client_notices_a_wrong_token(shop: Shop, address: str) -> None:
    client = Mixpanel("another", consumer=Consumer(events_url=f"{address}/mixpanel/tracker", retry_limit=0))
    with pytest.raises(KeyError, match="error"):  # it looks for a member of Mixpanel's own refusals
        client.track("u-9", "product_viewed")
    assert shop.work() == 0


def test_the_standard_webhooks_library(shop: Shop, address: str) -> None:
    body = json.dumps({"type": "Plan Changed", "data": {"email": "ada@example.com"}})
    for _ in range(2):
        headers = {
            "webhook-id": "msg_1",
            "webhook-timestamp": str(NOON // 1000),
            "webhook-signature": Webhook(SECRET).sign("msg_1", NOW, body),
        }
        assert post(f"{address}/standard_webhooks/signed", body.encode(), headers) == 200
    assert events(shop) == ["Plan Changed"]


def test_the_cloudevents_sdk_in_both_modes(shop: Shop, address: str) -> None:
    event = CloudEvent(
        attributes={
            "specversion": "1.0",
            "id": "1",
            "source": "/tests",
            "type": "Plan Changed",
            "time": NOW,
            "datacontenttype": "application/json",
        },
        data={"email": "ada@example.com"},
    )
    for written in (to_binary, to_structured):
        message = written(event, JSONFormat())
        headers = {**message.headers, "Authorization": "Bearer hush"}
        assert post(f"{address}/cloudevents/events", message.body, headers) == 200
    assert events(shop) == ["Plan Changed"], "the same event in two modes is one"
