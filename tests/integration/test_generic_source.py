"""The generic source from storecue.yaml to the profile, and its dry run on the command line and over HTTP."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from connector.app import create_app
from connector.cli import main
from connector.config.schema import configuration_from
from connector.config.yaml_file import InvalidConfiguration, parse
from connector.domain import RawRequest
from tests.conftest import Shop

CONFIG = """
version: 1
store: {name: Aurora Outfitters, timezone: Europe/Paris, currency: EUR}
sources:
  bookings:
    kind: generic
    secrets: [hush]
    options:
      event: {path: $.type, names: {paid: Order Completed, ping: ""}}
      id: $.id
      person: {email: $.guest.email}
      traits: {first_name: $.guest.name}
      properties: {order_id: $.id, total: {path: $.price, type: number}, currency: EUR}
      consent: {email: $.newsletter}
segments:
  buyers: {when: {event: Order Completed, within: 7d}}
"""
SAMPLE = {"type": "paid", "id": "B1", "price": "40.00", "newsletter": "on"}
SAMPLE["guest"] = {"email": "ada@example.com", "name": "Ada"}  # type: ignore[assignment]


@pytest.fixture
def shop(make_shop: Callable[[str], Shop]) -> Iterator[Shop]:
    yield make_shop(CONFIG)


def send(shop: Shop, body: Any) -> int:
    path = "/webhooks/generic/bookings"
    raw = json.dumps(body).encode()
    request = RawRequest("POST", path, {"x-storecue-token": "hush"}, raw, received_at=shop.time)
    return shop.receiver.receive("generic", "bookings", request).status


def test_a_request_becomes_a_profile_with_an_order_and_a_segment(shop: Shop) -> None:
    assert [send(shop, SAMPLE), send(shop, SAMPLE), send(shop, {"type": "ping"})] == [200, 200, 200]
    shop.work()
    [(email, traits, consent)] = shop.rows("SELECT email, traits, consent FROM profile")
    told = json.loads(traits)
    assert (email, told["first_name"], told["orders_count"], told["total_spent"]) == ("ada@example.com", "Ada", 1, 40)
    assert json.loads(consent)["email"]["state"] == "subscribed"
    assert shop.segments() == {"buyers"}
    assert shop.rows("SELECT count(*) FROM event") == [(1,)]


def test_a_value_that_cannot_be_read_is_a_dead_letter_that_names_the_place(shop: Shop) -> None:
    assert send(shop, SAMPLE | {"price": "forty"}) == 200
    shop.work()
    [(reason, message)] = shop.rows("SELECT reason, message FROM dead_letter")
    assert reason == "bad_money" and message.startswith("/properties/total: must be an amount")


def test_a_corrected_mapping_understands_the_replay(shop: Shop) -> None:
    send(shop, SAMPLE | {"price": {"gross": "40.00"}})
    shop.work()
    shop.configure(CONFIG.replace("$.price,", "$.price.gross,"))
    shop.services.replay_dead_letters([1], now=shop.time)
    shop.work()
    assert shop.rows("SELECT total FROM shop_order") == [(4000,)]


def test_a_mistake_in_the_mapping_is_told_with_its_place() -> None:
    with pytest.raises(InvalidConfiguration, match=r"/sources/bookings/options/properties/total/path"):
        configuration_from(parse(CONFIG.replace("$.price,", "price,")))
    with pytest.raises(InvalidConfiguration, match=r"/sources/bookings/options: are not known to shopify"):
        configuration_from(parse(CONFIG.replace("generic", "shopify")))


def test_the_dry_run_on_the_command_line_writes_nothing(tmp_path: Path) -> None:
    file, sample = tmp_path / "storecue.yaml", tmp_path / "sample.json"
    file.write_text(CONFIG)
    sample.write_text(json.dumps(SAMPLE))
    arguments = ["source", "try", "bookings", "--config", str(file)]
    for result in (
        CliRunner().invoke(main, [*arguments, str(sample)]),
        CliRunner().invoke(main, [*arguments, "-"], input=json.dumps(SAMPLE)),
    ):
        assert result.exit_code == 0, result.output
        [told] = json.loads(result.output)
        assert told["means"]["events"][0]["name"] == "Order Completed"
        assert told["means"]["events"][0]["properties"]["total"] == 40
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sample.json", "storecue.yaml"]
    result = CliRunner().invoke(main, [*arguments, "-"], input="{not json")
    assert result.exit_code == 1
    assert json.loads(result.output)[0]["refused"]["reason"] == "not_json"
    assert CliRunner().invoke(main, ["source", "try", "none", "--config", str(file), "-"], input="").exit_code == 2


def test_the_dry_run_over_http_writes_nothing(shop: Shop) -> None:
    shop.services.settings = replace(shop.services.settings, api_token="t" * 40)
    http = create_app(services=shop.services, now=lambda: shop.time).test_client()

    def tried(body: Any, expect: int = 200) -> Any:
        headers = {"Authorization": "Bearer " + "t" * 40}
        answer = http.post("/api/v1/sources/bookings/try", json=body, headers=headers)
        assert answer.status_code == expect, answer.data
        return answer.json

    [told] = tried({"body": json.dumps(SAMPLE)})["items"]
    assert told["means"]["events"][0]["name"] == "Order Completed"
    [told] = tried({"body": json.dumps(SAMPLE | {"price": "x"})})["items"]
    assert told["refused"]["reason"] == "bad_money"
    [told] = tried({"body": '{"m": "a@example.org"}', "options": {"event": "E", "person": {"email": "$.m"}}})["items"]
    assert told["means"]["events"][0]["name"] == "E"
    wrong = tried({"body": "{}", "options": {"event": "$["}}, 422)
    assert wrong["errors"][0]["pointer"] == "/options/event"
    assert shop.work() == 0
    assert shop.rows("SELECT count(*) FROM profile") == [(0,)]
