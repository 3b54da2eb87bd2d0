"""The demo with a stand-in for the connector: what it claims, feeds, counts and says."""

import contextlib
import json
import threading
from pathlib import Path

import pytest
from rich.console import Console

from connector.config.schema import configuration_from
from connector.config.yaml_file import read
from connector.errors import ConfigurationError
from connector.simulator.catalogue import CATALOGUE
from connector.simulator.demo import Demo, Running, configuration, run_demo
from connector.simulator.vendors.server import Response, Server

SEGMENTS = [
    {"id": "vip", "name": "VIP", "members": 1203},
    {"id": "recent-buyers", "name": "Bought in the last 7 days", "members": 4711},
]


class StandIn:
    """Takes webhooks like a connector, tags the buyer of the first order at Klaviyo, answers for the API."""

    def __init__(self):
        self.webhooks, self.setup, self.stopped, self.lock = [], None, False, threading.Lock()

    @contextlib.contextmanager
    def start(self, setup):
        self.setup = setup
        server = Server(self.answer, "stand-in")
        try:
            yield Running(server.url, "token")
        finally:
            server.close()
            self.stopped = True

    def answer(self, request):
        if request.path == "/webhooks/shopify/shop":
            with self.lock:
                self.webhooks.append(request)
            return Response(200, {})
        noun = request.path.removeprefix("/api/v1/")
        assert request.headers["authorization"] == "Bearer token"
        return Response(
            200,
            {
                "segments": {"items": SEGMENTS},
                "status": {"lag": 0, "dead_letters": [{"kind": "delivery", "reason": "x", "count": 1}]},
                "sources": {"items": [{"processed": len(self.webhooks)}]},
                "profiles": {"items": [{}] * 7, "next": None if "cursor" in request.query else "more"},
            }[noun],
        )


@pytest.fixture
def stand_in():
    return StandIn()


def run(stand_in, data_dir, **options):
    defaults = {"seed": 7, "duration_s": 0.8, "headless": True, "as_json": True, "rate": 50.0}
    return run_demo(data_dir=data_dir, start_connector=stand_in.start, **(defaults | options))


def test_headless_prints_one_summary(stand_in, tmp_path, capsys):
    assert run(stand_in, tmp_path / "demo") == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    summary = json.loads(out)
    assert summary["deliveries"]["sent"] >= summary["deliveries"]["accepted"] > 100
    assert summary["profiles"] == 14
    assert summary["dead_letters"] == 1
    assert summary["segments"] == {"vip": 1203, "recent-buyers": 4711}
    assert set(summary["destinations"]) == {"klaviyo", "hubspot", "mailchimp"}
    assert set(summary["destinations"]["hubspot"]) >= {"contacts", "tagged_contacts", "requests", "429s", "5xx"}
    assert stand_in.stopped
    assert stand_in.setup.environment["SHOPIFY_SECRET"]
    assert stand_in.webhooks[0].headers["x-shopify-topic"]


def test_screen_shows_traffic_segments_and_destinations(stand_in, tmp_path):
    pictures = []
    demo = Demo(tmp_path, 7, 50.0, stand_in.start)

    def look():
        console = Console(width=120, height=44, record=True, file=(tmp_path / "out").open("w"))
        console.print(demo.render())
        pictures.append(console.export_text())

    demo.run(0.6, look)
    assert "Aurora Outfitters" in pictures[-1]
    for text in ("VIP", "1,203", "4,711", "Bought in the last 7 days", "Klaviyo", "HubSpot", "Mailchimp"):
        assert text in pictures[-1], text


def test_tags_are_seen_as_they_come_and_go(stand_in, tmp_path):
    demo = Demo(tmp_path, 7, 50.0, stand_in.start)
    klaviyo = demo.fakes[0]
    for tags in (["vip"], ["lapsed"]):
        data = {"type": "profile", "attributes": {"email": "ada@example.com", "properties": {"storecue_tags": tags}}}
        klaviyo._upsert(data, 100)
        demo.watch.look_at_vendors()
    seen = [(change.vendor, change.email, change.tag, change.added) for change in demo.watch.changes]
    ada = ("klaviyo", "ada@example.com")
    assert seen == [(*ada, "vip", True), (*ada, "lapsed", True), (*ada, "vip", False)]
    assert demo.watch.first_tag is not None
    assert demo.watch.vendors["klaviyo"].tagged == 1


def test_foreign_data_is_left_alone(stand_in, tmp_path):
    (tmp_path / "storecue.db").write_text("precious")
    with pytest.raises(ConfigurationError, match="not a demo's"):
        run(stand_in, tmp_path)
    assert (tmp_path / "storecue.db").read_text() == "precious"
    assert [entry.name for entry in tmp_path.iterdir()] == ["storecue.db"]


def test_data_of_a_former_demo_is_thrown_away(stand_in, tmp_path):
    (tmp_path / "DEMO").touch()
    (tmp_path / "storecue.db").write_text("old")
    (tmp_path / "more").mkdir()
    (tmp_path / "elsewhere").symlink_to(Path(__file__).parent)
    run(stand_in, tmp_path, duration_s=0.1)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["DEMO", "storecue.yaml"]
    assert Path(__file__).exists()


def test_one_demo_at_a_time(stand_in, tmp_path):
    def start_another(setup):
        with pytest.raises(ConfigurationError, match="already running"):
            run(stand_in, tmp_path)
        return stand_in.start(setup)

    assert (
        run_demo(
            data_dir=tmp_path,
            seed=7,
            duration_s=0.1,
            headless=True,
            as_json=True,
            rate=20,
            start_connector=start_another,
        )
        == 0
    )


@pytest.mark.parametrize("rate", [0, -1, 1e9, float("nan")])
def test_impossible_rates_are_refused(stand_in, tmp_path, rate):
    with pytest.raises(ConfigurationError, match="rate"):
        run(stand_in, tmp_path, rate=rate)


def test_demo_configuration_is_valid_and_asks_for_what_the_shop_sells(tmp_path):
    file = tmp_path / "storecue.yaml"
    urls = dict.fromkeys(("klaviyo", "hubspot", "mailchimp"), "http://127.0.0.1:8123")
    file.write_text(configuration(urls))
    configured = configuration_from(read(file))
    assert list(configured.segments) == [
        "high-value-infrequent",
        "viewed-not-bought",
        "abandoned-checkout",
        "recent-buyers",
        "vip",
        "lapsed-vip",
    ]
    assert {name: held.base_url for name, held in configured.destinations.items()} == urls
    assert configured.destinations["klaviyo"].events
    wanted = str(configured.segments["viewed-not-bought"].when)
    assert any(str(product.id) in wanted for product in CATALOGUE)
