"""The field contract and read-backs through the API, the metrics and the status line; the vendors are fakes."""

import json
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from adapters.destination import FieldSpec
from connector import progress
from connector.app import create_app
from connector.config.settings import Settings
from connector.reporting.status import status
from connector.sync import store
from connector.web.current import of
from tests.conftest import NOON
from tests.integration.test_destination_check import filled, opened
from tests.integration.test_nightly import night, rounds
from tests.integration.test_sync import ADA, Synced, every_kind
from tests.integration.test_verify import fill, meddle, person

TOKEN = "a-token-for-these-tests"


@pytest.fixture
def synced(tmp_path: Path) -> Iterator[Synced]:
    synced = Synced(tmp_path)
    yield synced
    synced.close()


@pytest.fixture
def http(synced: Synced) -> Iterator[FlaskClient]:
    services = synced.shop.services
    services.settings = Settings.from_environment(
        {"STORECUE_DATA": str(services.settings.data_dir), "STORECUE_API_TOKEN": TOKEN}
    )
    app = create_app(services=services, now=lambda: synced.shop.time)
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {TOKEN}"
    yield client
    of(app).metrics.close()


def answer(response: Any, expect: int = 200) -> Any:
    assert response.status_code == expect, response.get_data(as_text=True)
    return response.get_json(force=True)


# --- the field contract ----------------------------------------------------------------------------------------------


@every_kind
def test_the_contract_of_an_account(synced: Synced, http: FlaskClient, kind: str) -> None:
    filled(synced, kind)
    told = answer(http.get(f"/api/v1/destinations/{kind}/check"))
    assert (told["contacts"], told["refused"]) == (2, False)
    by_name = {one["name"]: one for one in told["fields"]}
    assert {name: one["profiles"] for name, one in by_name.items()} == {"note": 1, "total_spent": 2, "orders_count": 2}
    assert {one["name"]: one["profiles"] for one in told["tags"]}["recent-buyers"] == 2
    assert [one["tags"] for one in told["examples"]] == [["recent-buyers", "vip"], ["recent-buyers"]]
    assert (told["slots"] is None) == (kind == "klaviyo")
    assert {request.method for request in synced.vendors[kind].requests} <= {"GET"}


def test_a_refusal_is_told_with_its_reason(synced: Synced, http: FlaskClient) -> None:
    filled(synced, "hubspot")
    with closing(opened(synced, "hubspot")) as adapter:
        adapter.provision([FieldSpec("orders_count", "date", "Orders count")], [])
    told = answer(http.get("/api/v1/destinations/hubspot/check"))
    assert told["refused"]
    [refused] = [one for one in told["fields"] if one["fate"] == "refused"]
    assert "give the field another name" in refused["message"]


@pytest.mark.parametrize(
    ("fault", "expect", "reason"), [(401, 502, "vendor_refused"), (503, 503, "vendor_unavailable")]
)
def test_a_vendor_that_does_not_tell(synced: Synced, http: FlaskClient, fault: int, expect: int, reason: str) -> None:
    filled(synced, "hubspot")
    synced.hubspot.faults.answer(fault, {"message": "no"}, times=50)
    response = http.get("/api/v1/destinations/hubspot/check")
    assert answer(response, expect)["reason"] == reason
    assert response.content_type == "application/problem+json"
    assert ("Retry-After" in response.headers) == (expect == 503)


def test_a_vendor_that_hangs_costs_some_seconds(
    synced: Synced, http: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(synced, "hubspot")
    hanging = threading.Event()
    monkeypatch.setattr(sys.modules["connector.web.api.verification"], "_PATIENCE", 0.05)
    monkeypatch.setattr(synced.shop.services, "connect", lambda _config: hanging.wait(10))
    said = [answer(http.get("/api/v1/destinations/hubspot/check"), 503)["detail"] for _ in range(3)]
    assert said[:2] == ["hubspot did not answer within 0 seconds"] * 2
    assert said[2] == "others are asking; hubspot was not asked"
    hanging.set()


def test_nobody_is_configured(http: FlaskClient) -> None:
    for method, path in (("GET", "check"), ("GET", "verifications"), ("POST", "verify")):
        answer(http.open(f"/api/v1/destinations/nobody/{path}", method=method, json={}), 404)


# --- read-backs ------------------------------------------------------------------------------------------------------


def test_a_read_back_that_was_asked_for(synced: Synced, http: FlaskClient) -> None:
    fill(synced, "klaviyo")
    meddle(synced, "klaviyo", fields={"orders_count": 7})
    response = http.post("/api/v1/destinations/klaviyo/verify", json={"sample": 50, "repair": True})
    asked = answer(response, 202)
    assert (asked["state"], asked["nightly"], asked["sample"], asked["repair"]) == ("wanted", False, 50, True)
    where = response.headers["Location"]
    assert where == "/api/v1/destinations/klaviyo/verifications"
    assert answer(http.get(where))["items"] == [asked]
    assert answer(http.get("/api/v1/destinations/klaviyo"))["last_verification"] is None
    rounds(synced)
    [told] = answer(http.get(where))["items"]
    assert (told["id"], told["state"], told["checked"], told["repaired"]) == (asked["id"], "done", 3, 1)
    ada = {"difference": "field orders_count", "count": 1, "profiles": [person(synced, ADA)]}
    assert told["differences"] == [ada]
    assert answer(http.get("/api/v1/destinations/klaviyo"))["last_verification"] == told
    synced.shop.at(night("klaviyo"))
    rounds(synced)
    items = answer(http.get(where))["items"]
    assert [one["nightly"] for one in items] == [True, False]
    assert answer(http.get(where, query_string={"limit": 1}))["items"] == items[:1]


def test_what_may_be_asked_for(synced: Synced, http: FlaskClient) -> None:
    fill(synced, "klaviyo")
    assert answer(http.post("/api/v1/destinations/klaviyo/verify", json={}), 202)["sample"] == 200
    for body in ({"sample": 0}, {"sample": 10_001}, {"sample": "9"}, {"repair": 1}, {"all": True}):
        answer(http.post("/api/v1/destinations/klaviyo/verify", json=body), 422)


def test_a_sender_that_reads_nothing_now_is_not_asked(synced: Synced, http: FlaskClient) -> None:
    fill(synced, "klaviyo")
    with synced.shop.services.database.tx() as tx:
        store.pause(tx, "klaviyo", NOON, "")
    assert "paused" in answer(http.post("/api/v1/destinations/klaviyo/verify", json={}), 409)["detail"]
    synced.configure("klaviyo", dry_run=True)
    assert "dry run" in answer(http.post("/api/v1/destinations/klaviyo/verify", json={}), 409)["detail"]
    assert synced.rows("SELECT count(*) FROM verification") == [(0,)]


def test_the_status_line_and_the_metrics(synced: Synced, http: FlaskClient) -> None:
    fill(synced, "klaviyo")
    meddle(synced, "klaviyo", fields={"orders_count": 7})
    metric = 'storecue_destination_drifted{destination="klaviyo"}'
    assert metric not in http.get("/metrics").get_data(as_text=True)
    synced.shop.at(night("klaviyo"))
    rounds(synced)
    metrics = http.get("/metrics").get_data(as_text=True)
    assert f"{metric} 1.0" in metrics
    [told] = re.findall(r'verified_timestamp_seconds{destination="klaviyo"} (\S+)', metrics)
    assert float(told) == night("klaviyo") / 1000
    services = synced.shop.services
    with services.database.read() as state:
        lines = progress.lines(status(state, services.log, services.turns, ["klaviyo"], {}, synced.shop.time)).split(
            "\n"
        )
    assert "  3 of 3 contacts read back at 2026-11-19T" in "\n".join(lines)
    assert any(line.endswith("1 differed, 1 put right") for line in lines)
    assert "@" not in json.dumps(lines)
