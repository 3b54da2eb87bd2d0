"""kill -9 and SIGTERM under load: nothing that was promised is lost, nothing has its effect twice."""

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from connector.simulator.vendors import FakeHubSpot, FakeKlaviyo, FakeMailchimp, FakeVendor
from tests.e2e.running import Book, Running, Sale, Shop, alive, email, kill, until

CONFIG = """
version: 1
store: {{name: Aurora Outfitters, timezone: Europe/Paris, currency: EUR}}
sources:
  shop: {{kind: shopify, secrets: [hush]}}
destinations:
  klaviyo:
    kind: klaviyo
    credentials: {{api_key: pk_fake}}
    base_url: "{klaviyo}"
    allow_insecure: true
    events: true
    at_most_every: 0s
  hubspot:
    kind: hubspot
    credentials: {{access_token: pat-fake}}
    base_url: "{hubspot}"
    allow_insecure: true
    at_most_every: 0s
  mailchimp:
    kind: mailchimp
    credentials: {{api_key: 0123456789abcdef0123456789abcdef-us21}}
    list_id: a1b2c3d4e5
    base_url: "{mailchimp}"
    allow_insecure: true
    at_most_every: 0s
    create_contacts: always
fields:
  total_spent: {{from: traits.total_spent}}
  orders_count: {{from: traits.orders_count}}
segments:
  recent-buyers:
    name: Bought in the last 7 days
    when: {{event: Order Completed, within: 7d}}
  returning:
    name: Bought three times
    when: {{event: Order Completed, count: {{">=": 3}}}}
  vip:
    name: VIP
    when: {{trait: total_spent, ">=": 300}}
"""


@pytest.fixture
def vendors() -> Iterator[dict[str, FakeVendor]]:
    made: dict[str, FakeVendor] = {
        "klaviyo": FakeKlaviyo(rate_limits=False, job_seconds=0.1),
        "hubspot": FakeHubSpot(access_token="pat-fake", rate_limits=False),
        "mailchimp": FakeMailchimp(rate_limits=False, batch_seconds=0.1),
    }
    for vendor in made.values():
        vendor.start()
    yield made
    for vendor in made.values():
        vendor.close()


@pytest.fixture
def running(tmp_path: Path, vendors: dict[str, FakeVendor]) -> Iterator[Running]:
    running = Running(tmp_path, CONFIG.format(**{name: vendor.url for name, vendor in vendors.items()}))
    yield running
    running.close()


def test_kill_9_of_web_and_worker_under_load(running: Running, vendors: dict[str, FakeVendor]) -> None:
    chance = random.Random(11)
    victims = ["worker", "worker", "worker", "web", "web", "all", "all"]
    chance.shuffle(victims)
    up = running.start("up")
    until(running.answers, 15, "storecue up answers")
    shop = Shop(running)
    for victim in victims:
        time.sleep(chance.uniform(0.05, 0.6))  # any point of the work
        if victim == "all":
            running.kill_all(up)
            up = running.start("up")
        else:
            find = running.worker_of if victim == "worker" else running.server_of
            until(lambda find=find, up=up: find(up), 15, f"the {victim} is back by itself")
            if found := find(up):
                kill(found)
        until(lambda count=shop.accepted, up=up: shop.accepted > count or up.poll() is not None, 15, "work goes on")
        if up.poll() is not None:  # the server died twice within 5 s: that is for the machine's own supervisor
            assert up.returncode == 1
            up = running.start("up")
            until(lambda count=shop.accepted: shop.accepted > count, 15, "work goes on after a restart")
    shop.close()
    _settle(running, up)
    _assert_nothing_lost_or_doubled(running, shop.book)
    _assert_vendors_show_what_is_desired(running, vendors)


def _settle(running: Running, up: psutil.Popen) -> None:
    # More was accepted than the worker could do meanwhile; on a busy machine it takes its time over the rest.
    until(running.worked_off, 90, "the log is worked off")
    until(running.pushed, 60, "everything is pushed")
    assert up.is_running()


def _assert_nothing_lost_or_doubled(running: Running, book: Book) -> None:
    assert book.kept, "nothing was accepted at all"
    for database in ("storecue", "inbox"):
        assert running.rows("PRAGMA integrity_check", database) == [("ok",)]
    # The log: one row for each 200, at most one for each attempt, no gap and no fork in any partition.
    logged = Counter(
        {id_: n for id_, n in running.rows("SELECT delivery_id, count(*) FROM delivery GROUP BY 1", "inbox")}
    )
    assert {id_: n for id_, n in book.kept.items() if logged[id_] < n} == {}
    assert {id_: n for id_, n in logged.items() if n > book.attempts[id_]} == {}
    parts = "SELECT part, count(*), count(DISTINCT pos), min(pos), max(pos) + 1 FROM delivery GROUP BY part"
    heads = dict(running.rows("SELECT part, head FROM log_head", "inbox"))
    for part, count, distinct, first, end in running.rows(parts, "inbox"):
        assert (count, distinct, first, end) == (heads[part], heads[part], 0, heads[part])
    # The effects: each sale of the log once.
    sales = {book.sales[id_] for id_ in logged}
    assert {book.sales[id_] for id_ in book.kept} <= sales
    assert dict(running.rows("SELECT CAST(id AS INTEGER), total FROM shop_order")) == {s.order: s.total for s in sales}
    events = running.rows("SELECT name, json_extract(properties, '$.order_id'), count(*) FROM event GROUP BY 1, 2")
    assert sorted(events) == sorted(("Order Completed", str(sale.order), 1) for sale in sales)
    assert running.rows("SELECT count(*) FROM dead_letter") == [(0,)]
    traits = "SELECT email, json_extract(traits, '$.orders_count'), json_extract(traits, '$.total_spent') FROM profile"
    known = {address: (count, round(spent * 100)) for address, count, spent in running.rows(traits)}
    assert known == _sums(sales)


def _sums(sales: set[Sale]) -> dict[str, tuple[int, int]]:
    counts, totals = Counter[str](), Counter[str]()
    for sale in sales:
        counts[email(sale.customer)] += 1
        totals[email(sale.customer)] += sale.total
    return {address: (count, totals[address]) for address, count in counts.items()}


def _assert_vendors_show_what_is_desired(running: Running, vendors: dict[str, FakeVendor]) -> None:
    desired = running.rows("SELECT destination, desired, pushed FROM sync_state")
    assert all(want == have for _, want, have in desired)
    for name, vendor in vendors.items():
        wanted = {
            want["email"]: want
            for destination, text, _ in desired
            if destination == name and (want := json.loads(text))
        }
        shown = vendor.contacts()
        assert shown.keys() == wanted.keys()
        assert {address: one["tags"] for address, one in shown.items()} == {a: w["tags"] for a, w in wanted.items()}
        for address, one in shown.items():
            assert _numbers(one["fields"]) == _numbers(wanted[address]["fields"]), (name, one)
    entered = [event for event in vendors["klaviyo"].events() if event["name"] == "Segment Entered"]
    assert max(Counter(event["unique_id"] for event in entered).values()) == 1
    members = (
        "SELECT email, segment FROM membership JOIN profile ON profile.id = membership.profile_id WHERE matched = 1"
    )
    assert sorted((event["email"], event["properties"]["segment"]) for event in entered) == sorted(
        running.rows(members)
    )


def _numbers(fields: dict[str, Any]) -> dict[str, float]:
    """The values of the two fields: HubSpot keeps texts, Mailchimp shortens the names."""
    return {
        name: float(value)
        for name in ("total_spent", "orders_count")
        for shown, value in fields.items()
        if shown.lower()[:5] == name[:5]
    }


def test_sigterm_under_load_stops_in_order_and_a_restart_goes_on(
    running: Running, vendors: dict[str, FakeVendor]
) -> None:
    up = running.start("up")
    until(running.answers, 15, "storecue up answers")
    shop = Shop(running)
    until(lambda: shop.accepted > 100, 15, "deliveries are accepted")
    began = time.monotonic()
    up.terminate()
    assert up.wait(10) == 0
    assert time.monotonic() - began < 10
    assert not running.answers()
    before = shop.accepted
    up = running.start("up")
    until(lambda: shop.accepted > before + 100, 15, "deliveries are accepted after the restart")
    shop.close()
    _settle(running, up)
    _assert_nothing_lost_or_doubled(running, shop.book)
    _assert_vendors_show_what_is_desired(running, vendors)
    up.terminate()
    assert up.wait(10) == 0
    assert "Traceback" not in running.log


def test_web_and_worker_alone_stop_in_order_under_load(running: Running, vendors: dict[str, FakeVendor]) -> None:
    running.apply()
    web, worker = running.start("web"), running.start("worker")
    until(running.answers, 15, "storecue web answers")
    shop = Shop(running)
    until(lambda: shop.accepted > 100, 15, "deliveries are accepted")
    for process in (worker, web):
        process.terminate()
    assert [process.wait(10) for process in (worker, web)] == [0, 0]
    shop.close()
    worker = running.start("worker")  # alone: what was accepted has its effect with nobody listening
    _settle(running, worker)
    _assert_nothing_lost_or_doubled(running, shop.book)
    _assert_vendors_show_what_is_desired(running, vendors)


def test_a_vendor_that_does_not_answer_holds_up_no_stop(running: Running, vendors: dict[str, FakeVendor]) -> None:
    running.apply()
    web, worker = running.start("web"), running.start("worker")
    until(running.answers, 15, "storecue web answers")
    shop = Shop(running)
    until(lambda: all(vendor.contacts() for vendor in vendors.values()), 15, "contacts are pushed")
    for vendor in vendors.values():
        vendor.faults.latency = 20.0
    until(lambda count=shop.accepted: shop.accepted > count + 50, 15, "further deliveries are accepted")
    began = time.monotonic()
    worker.terminate()
    assert worker.wait(15) == 0
    assert time.monotonic() - began < 10
    shop.close()
    web.terminate()
    assert web.wait(10) == 0
    for vendor in vendors.values():
        vendor.faults.latency = 0.0
    worker = running.start("worker")
    _settle(running, worker)
    _assert_nothing_lost_or_doubled(running, shop.book)
    _assert_vendors_show_what_is_desired(running, vendors)


def test_a_killed_worker_comes_back_by_itself(running: Running) -> None:
    up = running.start("up")
    until(running.answers, 15, "storecue up answers")
    for _ in range(2):
        first = running.worker_of(up)
        assert first is not None
        kill(first)
        until(lambda first=first: running.worker_of(up) not in (None, first), 5, "another worker runs")
    shop = Shop(running, threads=1)
    until(lambda: shop.accepted > 5, 5, "deliveries are accepted")
    shop.close()
    until(running.worked_off, 10, "the new worker works")
    assert up.is_running()


def test_two_workers_share_the_log_and_one_dies(running: Running, vendors: dict[str, FakeVendor]) -> None:
    up = running.start("up")
    until(running.answers, 15, "storecue up answers")
    second = running.start("worker")
    shop = Shop(running)
    for number in (2, 3):
        until(lambda number=number: running.log.count("worker.started") == number, 15, "two workers work")
        until(lambda count=shop.accepted: shop.accepted > count + 20, 15, "deliveries are accepted")
        kill(second)
        second.wait(5)
        second = running.start("worker")
    until(lambda: shop.accepted > 200, 15, "deliveries are accepted")
    shop.close()
    _settle(running, up)
    _assert_nothing_lost_or_doubled(running, shop.book)
    _assert_vendors_show_what_is_desired(running, vendors)
    until(lambda: running.log.count("worker.started") == 4, 10, "the last worker works")
    second.terminate()
    assert second.wait(10) == 0


def test_nobody_is_left_behind_when_the_minder_is_killed(running: Running) -> None:
    up = running.start("up")
    until(running.answers, 15, "storecue up answers")
    family = [process for find in (running.worker_of, running.server_of) if (process := find(up))]
    assert len(family) == 2
    kill(up)
    up.wait(5)
    until(lambda: not any(alive(process) for process in family), 5, "they have ended too")
    up = running.start("up")
    until(running.answers, 15, "another one answers on the same port")
