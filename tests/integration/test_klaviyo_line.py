"""From a delivery to a fake Klaviyo: jobs across restarts, events with their own time, fills and replays, templates."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from adapters.destination import Change
from connector import services
from connector.clock import DAY, HOUR, MINUTE
from connector.config.yaml_file import InvalidConfiguration
from connector.simulator.vendors import FakeKlaviyo
from connector.sync.verify import verify
from tests.conftest import CONFIG, NOON, Shop, checkout, iso, order
from tests.integration.test_sync import ADA, ShopClock

LOWER = CONFIG.replace('">=": 1000', '">=": 500')


class Line:
    """A shop whose Klaviyo is a fake; `restart` ends the process and starts another on the same data."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.clock = folder, ShopClock()
        self.fake = FakeKlaviyo(api_key="pk_test", clock=self.clock, job_seconds=240, rate_limits=False).start()
        monkeypatch.setattr(services, "SystemClock", lambda: self.clock)
        self.settings: dict[str, Any] = {"events": True}
        self.shop = self.clock.shop = Shop(folder, self.config())

    def config(self, rules: str = CONFIG) -> str:
        made = {"kind": "klaviyo", "credentials": {"api_key": "pk_test"}, "base_url": self.fake.url}
        return rules + f"destinations: {json.dumps({'k': {**made, 'allow_insecure': True, **self.settings}})}\n"

    def restart(self) -> None:
        now = self.shop.time
        self.shop.close()
        self.shop = self.clock.shop = Shop(self.folder, self.config())
        self.shop.at(now)

    def push(self) -> int:
        return sum(iter(self.shop.worker.push_once, 0))

    def deliver(self, *orders: dict[str, Any], topic: str = "orders/create") -> None:
        for one in orders:
            assert self.shop.deliver(topic, one).status == 200
        self.shop.work()

    def told(self) -> list[tuple[str, str, bool]]:
        """Name, segment and backfill of what Klaviyo has recorded."""
        return [(event["name"], event["properties"]["segment"], event["backfill"]) for event in self.fake.events()]


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    line = Line(tmp_path, monkeypatch)
    yield line
    line.shop.close()
    line.fake.close()


def people(count: int, **more: Any) -> list[dict[str, Any]]:
    return [order(1000 + n, customer=500 + n, email=f"p{n}@example.com", **more) for n in range(count)]


def test_a_restart_in_the_middle_of_a_job_finishes_it_and_sends_nobody_twice(line: Line) -> None:
    line.deliver(*people(30))
    line.push()
    assert line.fake.contacts() == {}, "the job is under way"
    assert line.shop.rows("SELECT count(*) FROM vendor_job") == [(1,)]
    line.restart()
    for minutes in range(1, 15):
        line.shop.at(NOON + minutes * MINUTE)
        line.push()
    assert len(line.fake.contacts()) == 30
    assert line.shop.rows("SELECT count(*) FROM sync_state WHERE pending = 1") == [(0,)]
    assert line.shop.rows("SELECT count(*) FROM vendor_job") == [(0,)]
    writes = [row for row in line.fake.requests if row.method == "POST" and "/api/profile-" in row.path]
    assert len(writes) == 1


def test_an_old_job_cannot_undo_what_was_decided_after_the_restart(line: Line) -> None:
    line.deliver(*people(30))
    line.push()
    line.restart()
    line.shop.deliver("orders/create", order(2000, customer=507, email="p7@example.com", total="5000.00"), id="newer")
    line.shop.work()
    for minutes in range(1, 15):
        line.shop.at(NOON + minutes * MINUTE)
        line.push()
    line.clock.slept += 3600
    contact = line.fake.contacts()["p7@example.com"]
    assert contact["tags"] == ["recent-buyers", "vip"]
    assert contact["fields"]["orders_count"] == 2


def test_an_event_has_the_time_of_its_decision_however_late_it_is_sent(line: Line) -> None:
    line.fake.faults.outage = True
    line.deliver(order())
    line.push()
    line.shop.at(NOON + 3 * HOUR)
    line.fake.faults.outage = False
    line.push()
    [event] = line.fake.events()
    assert (event["name"], event["email"], event["backfill"]) == ("Segment Entered", ADA, False)
    assert event["time"][:19] == iso(NOON)[:19]
    assert event["unique_id"] == f"recent-buyers:entered:1:{NOON}"


@pytest.mark.parametrize("backfill", [False, True])
def test_a_filled_segment_starts_nothing(line: Line, backfill: bool) -> None:
    line.settings["backfill"] = backfill
    line.shop.configure(line.config())
    line.deliver(order(total="600.00"))
    line.push()
    before = line.told()
    line.shop.at(NOON + HOUR)
    line.shop.configure(line.config(LOWER))
    line.shop.work()
    line.push()
    assert line.fake.contacts()[ADA]["tags"] == ["recent-buyers", "vip"]
    assert line.told()[len(before) :] == ([("Segment Entered", "vip", True)] if backfill else [])
    line.shop.configure(line.config())
    line.shop.work()
    line.push()
    assert line.told()[len(before) + backfill :] == ([("Segment Left", "vip", True)] if backfill else [])


@pytest.mark.parametrize(
    ("backfill", "fire", "told"),
    [(False, False, []), (True, False, [True]), (False, True, [False]), (True, True, [False])],
)
def test_a_replay_starts_what_it_is_told_to(line: Line, backfill: bool, fire: bool, told: list[bool]) -> None:
    """Deliveries that were lost to a fault of ours come again: with triggers, without, or recorded alone."""
    line.settings["backfill"] = backfill
    line.shop.configure(line.config())
    line.deliver(order())
    with line.shop.services.database.tx() as tx:
        for table in ("shop_order", "event", "seen", "membership", "cue"):
            tx.exec_driver_sql(f"DELETE FROM {table}")
    line.shop.services.replay_deliveries(fire_triggers=fire, now=line.shop.time + 1)
    line.shop.work()
    line.shop.at(NOON + DAY)
    line.push()
    assert [flag for _, segment, flag in line.told() if segment == "recent-buyers"] == told
    before = line.fake.events()
    line.shop.services.replay_deliveries(fire_triggers=fire, now=line.shop.time + 1)
    line.shop.work()
    line.push()
    assert line.fake.events() == before, "once more changes nothing"


def test_the_open_cart_is_there_for_a_template_to_loop_over(line: Line) -> None:
    rules = CONFIG.replace("fields:", "fields:\n  cart_lines: {from: traits.cart_lines}")
    line.shop.configure(line.config(rules))
    line.deliver(checkout("c1"), topic="checkouts/create")
    line.push()
    [contact] = line.fake.contacts().values()
    [first, *_] = contact["fields"]["cart_lines"]
    assert {"title", "quantity", "price"} <= first.keys()
    assert (
        json.loads(line.shop.rows("SELECT pushed FROM sync_state")[0][0])["fields"]["cart_lines"]
        == (contact["fields"]["cart_lines"])
    )


def test_an_object_goes_only_where_objects_are_taken(line: Line) -> None:
    """A field names its destinations, so that one vendor's templates do not stop another's account."""
    rules = CONFIG.replace("fields:", "fields:\n  first_item: {from: traits.address, type: object, destinations: [k]}")
    made = json.loads(line.config()[len(CONFIG) + len("destinations: ") :])
    made["other"] = {**made["k"], "dry_run": True}
    line.shop.configure(rules + f"destinations: {json.dumps(made)}\n")
    line.deliver(order())
    assert (line.shop.desired("k") or {})["fields"].keys() == {"first_item", "orders_count", "total_spent"}
    assert (line.shop.desired("other") or {})["fields"].keys() == {"orders_count", "total_spent"}
    with pytest.raises(InvalidConfiguration) as fault:
        line.shop.configure(rules + f"destinations: {json.dumps({'other': made['other']})}\n")
    assert 'there is no destination "k"' in str(fault.value)


def test_tags_of_other_tools_in_a_shared_property_are_no_drift_and_stay(line: Line) -> None:
    line.settings["options"] = {"tags_property": "tags"}
    line.fake.tag_property = "tags"
    line.shop.configure(line.config())
    line.deliver(order(total="1200.00"))
    line.push()
    configuration = line.shop.services.configuration()
    with closing(line.shop.services.connect(configuration.destinations["k"])) as other:
        external, tags = "storecue:1", ("gold", "recent-buyers", "vip")
        other.apply([Change("x", ADA, external, tags=tags, tags_added=("gold",))])
        assert line.fake.contacts()[ADA]["tags"] == ["gold", "recent-buyers", "vip"]
        found = verify(
            line.shop.services.database,
            other,
            configuration.destinations["k"],
            configuration.segments,
            size=None,
            seed=1,
            repair=True,
            now=line.shop.time,
        )
    assert found.drifted == 0
    line.shop.at(NOON + 8 * DAY)
    line.push()
    assert line.fake.contacts()[ADA]["tags"] == ["gold", "lapsed-vip", "vip"]
