"""What a source may make of a request besides one delivery: a handshake, nothing, or several; by both ways in."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from werkzeug.test import Client

from connector.app import create_app
from connector.domain import Delivery, Normalised, RawRequest, StoreInfo
from connector.errors import RejectedDelivery
from connector.ports import Claim, Reply
from connector.web import current
from connector.web.ingress import Ingress
from tests.conftest import CONFIG, NOON, Shop
from tests.unit.web.over_rsgi import OverRsgi

PATH = "/webhooks/shopify/shop"


class Lines:
    """A source whose request is one delivery per line, and that answers a challenge."""

    kind = "shopify"

    def __init__(self) -> None:
        self.meant: list[Delivery] = []

    def greet(self, request: RawRequest, secrets: Sequence[str]) -> Reply | None:
        if request.method == "GET" and request.query.startswith("challenge="):
            return Reply(body=request.query.removeprefix("challenge=").encode())
        if request.method == "OPTIONS":
            return Reply(204, (("WebHook-Allowed-Rate", "*"),))
        if request.body == b"ping":
            return Reply()
        return None

    def verify(self, request: RawRequest, secrets: Sequence[str]) -> None:
        assert request.received_at == NOON
        if request.headers.get("x-key") not in secrets:
            raise RejectedDelivery("no", status=401, reason="bad_signature")

    def claim(self, request: RawRequest) -> tuple[Claim, ...]:
        lines = request.body.splitlines()
        return tuple(Claim(f"d{line.decode()}", "line", f"k{line.decode()}", {}, line) for line in lines)

    def normalise(self, delivery: Delivery, store: StoreInfo) -> Normalised:
        self.meant.append(delivery)
        return Normalised(skipped="a_line")


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def shop(tmp_path: Path, lines: Lines) -> Iterator[Shop]:
    made = Shop(tmp_path, CONFIG)
    made.services.source_kinds = {"shopify": lines}
    made.services._sources = None
    made.worker.refresh(force=True)
    made.worker._version = -1
    made.worker.refresh(force=True)
    yield made
    made.close()


@pytest.fixture(params=["in front of Flask", "Flask alone"])
def client(shop: Shop, request: pytest.FixtureRequest) -> Client:
    app = create_app(services=shop.services, now=lambda: shop.time)
    return Client(
        app
        if request.param == "Flask alone"
        else OverRsgi(Ingress(app.wsgi_app, current.of(app).receiver, current.of(app).tracker))
    )


def test_a_challenge_is_answered_and_not_kept(shop: Shop, client: Client) -> None:
    answer = client.get(PATH, query_string="challenge=<b>abc</b>")
    assert answer.status_code == 200
    assert answer.data in (b"<b>abc</b>", b"%3Cb%3Eabc%3C/b%3E")
    assert answer.content_type == "text/plain; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert shop.work() == 0


def test_permission_to_send_is_asked_for(shop: Shop, client: Client) -> None:
    answer = client.options(PATH)
    assert answer.status_code == 204
    assert answer.headers["WebHook-Allowed-Rate"] == "*"
    assert answer.data == b""


def test_an_unsigned_ping_is_answered_and_not_kept(shop: Shop, client: Client) -> None:
    answer = client.post(PATH, data=b"ping")
    assert (answer.status_code, answer.data) == (200, b"")
    assert shop.work() == 0


def test_what_is_no_handshake_is_refused(shop: Shop, client: Client) -> None:
    answer = client.get(PATH)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, OPTIONS, POST")
    assert json.loads(answer.data)["reason"] == "method_not_allowed"
    assert client.post(PATH, data=b"1").status_code == 401
    assert client.get("/webhooks/shopify/other", query_string="challenge=1").status_code == 404


def test_genuine_and_nothing_to_keep_is_acknowledged(shop: Shop, client: Client) -> None:
    answer = client.post(PATH, data=b"", headers={"X-Key": "hush"})
    assert (answer.status_code, answer.data) == (200, b'{"ok":true}\n')
    assert shop.work() == 0


def test_many_events_of_one_request_are_deliveries_of_their_own(shop: Shop, client: Client, lines: Lines) -> None:
    for _ in range(2):
        answer = client.post(PATH, data=b"1\n2\n3", headers={"X-Key": "hush"})
        assert (answer.status_code, answer.data) == (200, b'{"ok":true}\n')
    shop.work()
    assert sorted((one.id, one.body) for one in lines.meant) == [("d1", b"1"), ("d2", b"2"), ("d3", b"3")]
    with shop.services.inbox.read() as inbox:
        keys = {key for (key,) in inbox.exec_driver_sql("SELECT key FROM delivery")}
    assert keys == {"shop/k1", "shop/k2", "shop/k3"}


def test_a_source_may_thank_in_its_own_words(shop: Shop, client: Client, lines: Lines) -> None:
    lines.accepted = Reply(202, (("Content-Type", "application/json"),), b'{"status":1}')  # type: ignore[attr-defined]
    answer = client.post(PATH, data=b"1", headers={"X-Key": "hush"})
    assert (answer.status_code, answer.data, answer.content_type) == (202, b'{"status":1}', "application/json")
    assert client.post(PATH, data=b"1").status_code == 401
