"""The sender delivers like Shopify: kept-alive, again after an error, giving up in the end."""

import threading
from collections import Counter
from itertools import islice

import pytest

from connector.clock import parse_instant
from connector.simulator.sender import RETRIES, Sender
from connector.simulator.store import Shop
from connector.simulator.vendors.server import Response, Server

START = parse_instant("2026-11-21T10:00:00Z")


class Endpoint:
    """Keeps what arrives; `answers` are given first, then 200. None drops the connection."""

    def __init__(self):
        self.received, self.answers, self.lock = [], [], threading.Lock()

    def __call__(self, request):
        with self.lock:
            self.received.append(request)
            status = self.answers.pop(0) if self.answers else 200
            return None if status is None else Response(status, {})


@pytest.fixture
def endpoint():
    return Endpoint()


@pytest.fixture
def url(endpoint):
    server = Server(endpoint, "endpoint")
    yield f"{server.url}/webhooks/shopify/shop"
    server.close()


def webhooks(count):
    return list(islice(Shop(7).run(START), count))


def test_every_delivery_arrives_as_it_is(endpoint, url):
    sent = webhooks(60)
    with Sender(url, threads=3) as sender:
        sender.feed(sent)
        assert sender.settle(10)
    assert Counter(request.body for request in endpoint.received) == Counter(webhook.body for webhook in sent)
    assert endpoint.received[0].path == "/webhooks/shopify/shop"
    assert endpoint.received[0].headers["x-shopify-topic"]
    assert (sender.tally.sent, sender.tally.accepted, len(sender.tally.seconds)) == (60, 60, 60)


def test_errors_are_repeated_with_the_same_bytes(endpoint, url):
    endpoint.answers = [503, 302]
    with Sender(url, threads=1, hurry=100_000) as sender:
        sender.feed(webhooks(1))
        assert sender.settle(10)
    assert len({request.body for request in endpoint.received}) == 1
    assert len({request.headers["x-shopify-webhook-id"] for request in endpoint.received}) == 1
    assert dict(sender.tally.statuses) == {503: 1, 302: 1, 200: 1}
    assert (sender.tally.accepted, sender.tally.given_up) == (1, 0)


def test_eight_retries_over_four_hours_then_it_gives_up(endpoint, url):
    endpoint.answers = [500] * 20
    with Sender(url, threads=1, hurry=1_000_000) as sender:
        sender.feed(webhooks(1))
        assert sender.settle(10)
    assert sender.tally.attempts == 9
    assert sender.tally.given_up == 1
    assert sum(RETRIES) == pytest.approx(4 * 3600)


def test_nobody_listening_counts_as_no_answer():
    server = Server(lambda request: None, "closed")
    server.close()
    with Sender(server.url, threads=1, retry=False) as sender:
        sender.feed(webhooks(1))
        assert sender.settle(10)
    assert dict(sender.tally.statuses) == {0: 1}


def test_connection_that_went_stale_is_opened_anew(endpoint, url):
    with Sender(url, threads=1, retry=False) as sender:
        sender.feed(webhooks(1))
        assert sender.settle(10)
        endpoint.answers = [None]
        sender.feed(webhooks(1))
        assert sender.settle(10)
    assert len(endpoint.received) == 3
    assert (sender.tally.accepted, sender.tally.attempts) == (2, 2)
