"""What goes wrong at a vendor goes wrong when told to, the same way for the same seed."""

import threading
import time

import pytest
import requests

from connector.simulator.vendors import FakeHubSpot, FakeKlaviyo, FakeMailchimp, Faults

HEADERS = {"Authorization": "Bearer pat-test"}
CONTACTS = "/crm/objects/2026-03/contacts"


@pytest.fixture
def hubspot():
    with FakeHubSpot(access_token="pat-test", rate_limits=False) as vendor:
        yield vendor


def get(vendor, path=f"{CONTACTS}?limit=1"):
    return requests.get(vendor.url + path, headers=HEADERS, timeout=5)


def test_scripted_answers_come_once_and_only_where_they_match(hubspot):
    hubspot.faults.answer(423, {"message": "locked"}, {"Retry-After": "2"}, match="POST .*/batch/")
    assert get(hubspot).status_code == 200
    body = {"inputs": [{"properties": {"email": "ada@example.com"}}]}
    url = f"{hubspot.url}{CONTACTS}/batch/create"
    first = requests.post(url, json=body, headers=HEADERS, timeout=5)
    assert (first.status_code, first.json(), first.headers["Retry-After"]) == (423, {"message": "locked"}, "2")
    assert hubspot.contacts() == {}
    assert requests.post(url, json=body, headers=HEADERS, timeout=5).status_code == 201


def test_lost_answer_is_applied_all_the_same(hubspot):
    hubspot.faults.lose(match="POST")
    with pytest.raises(requests.ConnectionError):
        requests.post(
            hubspot.url + CONTACTS, json={"properties": {"email": "a@example.com"}}, headers=HEADERS, timeout=5
        )
    assert list(hubspot.contacts()) == ["a@example.com"]
    assert hubspot.requests[-1].status == 0


def test_outage_ends_when_switched_off(hubspot):
    hubspot.faults.outage = True
    assert get(hubspot).status_code == 503
    hubspot.faults.outage = False
    assert get(hubspot).status_code == 200


def test_random_errors_repeat_with_the_seed():
    def statuses(seed):
        faults = Faults(error_rate=0.3, seed=seed)
        with FakeHubSpot(access_token="pat-test", rate_limits=False, faults=faults, seed=seed) as vendor:
            return [get(vendor).status_code for _ in range(40)]

    first = statuses(7)
    assert first == statuses(7)
    assert 4 <= sum(status >= 500 for status in first) <= 25
    assert first != statuses(8)


def test_latency_delays_the_answer(hubspot):
    hubspot.faults.latency = 0.05
    began = time.perf_counter()
    get(hubspot)
    assert time.perf_counter() - began >= 0.05


@pytest.mark.parametrize("vendor", [FakeKlaviyo, FakeHubSpot, FakeMailchimp])
def test_close_frees_the_port_and_its_threads(vendor):
    before = threading.active_count()
    session = requests.Session()
    with vendor() as fake:
        url = fake.url
        session.get(url, timeout=5)
    session.close()
    for thread in threading.enumerate():
        if thread.name.startswith("fake-"):
            thread.join(timeout=2)
    assert threading.active_count() <= before
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=5)


@pytest.mark.parametrize("raw", [b"nonsense\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"])
def test_what_is_no_http_ends_the_connection(hubspot, raw):
    import socket

    with socket.create_connection(("127.0.0.1", int(hubspot.url.rpartition(":")[2])), timeout=5) as connection:
        connection.sendall(raw)
        assert connection.recv(100) == b""
    assert get(hubspot).status_code == 200


@pytest.mark.parametrize("vendor", [FakeKlaviyo, FakeHubSpot, FakeMailchimp])
def test_body_that_is_no_json_is_refused(vendor):
    fake = vendor(rate_limits=False)
    with fake:
        path, headers = {
            "klaviyo": (
                "/api/events",
                {
                    "Authorization": "Klaviyo-API-Key pk_fake",
                    "revision": "2026-07-15",
                    "Content-Type": "application/vnd.api+json",
                },
            ),
            "hubspot": (CONTACTS, {"Authorization": "Bearer pat-eu1-fake"}),
            "mailchimp": (
                "/3.0/batches",
                {"Authorization": "Bearer 0123456789abcdef0123456789abcdef-us21"},
            ),
        }[fake.vendor]
        for body in (b"{", b"[" * 100_000, b"\xff"):
            answer = requests.post(fake.url + path, data=body, headers=headers, timeout=5)
            assert answer.status_code == 400
            assert answer.json()
