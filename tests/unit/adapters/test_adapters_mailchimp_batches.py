"""Mailchimp's batches against the fake: what is sent, in which order, what a restart knows, how few calls it takes."""

import re
from collections import Counter
from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from adapters.destination import Change, FieldSpec, Outcome, Settings, Wanted
from adapters.errors import Transient
from adapters.mailchimp import Mailchimp
from connector.simulator.vendors import FakeMailchimp

SPECS = (FieldSpec("total_spent", "number", "Total spent"), FieldSpec("note", "text", "Note"))


@pytest.fixture
def fake(clock: Any) -> Iterator[FakeMailchimp]:
    with FakeMailchimp(api_key="abc-us21", clock=clock, keep_bodies=True) as vendor:
        yield vendor


def opened(
    fake: FakeMailchimp, clock: Any, notes: MutableMapping[str, str] | None = None, read_timeout: float = 30.0
) -> Mailchimp:
    settings = Settings(
        {"api_key": "abc-us21"},
        base_url=fake.url,
        allow_insecure=True,
        list_id="a1b2c3d4e5",
        read_timeout=read_timeout,
        jobs={} if notes is None else notes,
    )
    return Mailchimp(settings, clock)


def change(number: int, **told: Any) -> Change:
    made = {"tags": ("vip",), "tags_added": ("vip",), "fields": {"total_spent": number}}
    return Change(f"k{number}", f"p{number}@example.com", f"shop:{number}", **(made | told))


def told(outcomes: list[Outcome]) -> dict[str, tuple[str, str]]:
    return {outcome.key: (outcome.status, outcome.reason) for outcome in outcomes}


def calls(fake: FakeMailchimp, start: int = 0) -> Counter[str]:
    return Counter(re.sub(r"\d{2,}\w*|/\d+$", "N", f"{r.method} {r.path}") for r in fake.requests[start:])


@pytest.mark.parametrize("number", [1, 3, 10, 30])
def test_a_thousand_contacts_cost_at_most_twelve_calls_however_many_tags_change(
    fake: FakeMailchimp, clock: Any, number: int
) -> None:
    fake.batch_seconds = 45  # each batch is looked at as often as it ever is
    adapter = opened(fake, clock)
    tags = tuple(f"segment-{n:02}" for n in range(number))
    adapter.provision(SPECS, tags)
    start = len(fake.requests)
    outcomes = adapter.apply([change(n, tags=tags, tags_added=tags) for n in range(1_000)])
    assert {outcome.status for outcome in outcomes} == {"applied"}
    assert len(fake.requests) - start <= 12, calls(fake, start)
    assert {tuple(contact["tags"]) for contact in fake.contacts().values()} == {tags}
    start = len(fake.requests)
    again = [change(n, tags=(), tags_added=(), tags_removed=tags, remote_id=f"r{n}") for n in range(1_000)]
    assert {outcome.status for outcome in adapter.apply(again)} == {"applied"}
    assert len(fake.requests) - start <= 12, calls(fake, start)
    assert {tuple(contact["tags"]) for contact in fake.contacts().values()} == {()}
    adapter.close()


def test_no_two_operations_of_a_batch_are_about_one_member(fake: FakeMailchimp, clock: Any) -> None:
    adapter = opened(fake, clock)
    tags = tuple(f"t{n}" for n in range(9))
    adapter.apply([change(n, tags=tags, tags_added=tags) for n in range(60)])
    batches = [r for r in fake.requests if r.method == "POST" and r.path == "/3.0/batches"]
    assert len(batches) == 2
    for batch in batches:
        members = re.findall(rb"members/([0-9a-f]{32})", batch.body)
        assert len(members) == len(set(members)) == 60
    adapter.close()


def test_whom_mailchimp_does_not_tag_in_bulk_is_tagged_by_name(clock: Any) -> None:
    with FakeMailchimp(api_key="abc-us21", clock=clock, bulk_tags_for_all=False) as fake:
        adapter = opened(fake, clock)
        changes = [change(n, subscribed=n % 2 == 0) for n in range(100)]
        assert {outcome.status for outcome in adapter.apply(changes)} == {"applied"}
        assert {tuple(contact["tags"]) for contact in fake.contacts().values()} == {("vip",)}
        adapter.close()


def test_a_tag_deleted_there_is_made_again(fake: FakeMailchimp, clock: Any) -> None:
    adapter = opened(fake, clock)
    adapter.provision(SPECS, ["vip"])
    fake.delete_tag("vip")
    assert {outcome.status for outcome in adapter.apply([change(n) for n in range(50)])} == {"applied"}
    assert {tuple(contact["tags"]) for contact in fake.contacts().values()} == {("vip",)}
    adapter.close()


def test_a_tag_made_meanwhile_in_another_spelling_is_the_same_tag(fake: FakeMailchimp, clock: Any) -> None:
    adapter, other = opened(fake, clock), opened(fake, clock)
    adapter.provision(SPECS, [])
    other.provision(SPECS, ["VIP"])
    assert {outcome.status for outcome in adapter.apply([change(n) for n in range(50)])} == {"applied"}
    assert {tuple(contact["tags"]) for contact in fake.contacts().values()} == {("VIP",)}
    adapter.close()
    other.close()


@pytest.mark.parametrize("stage", ["members", "tags"])
def test_a_batch_is_waited_for_after_a_restart_and_not_sent_again(fake: FakeMailchimp, clock: Any, stage: str) -> None:
    fake.batch_seconds = 90
    notes: dict[str, str] = {}
    tags = tuple(f"t{n}" for n in range(9))
    changes = [change(n, tags=tags, tags_added=tags) for n in range(60)]
    adapter = opened(fake, clock, notes)
    adapter.provision(SPECS, tags)
    with pytest.raises(Transient, match="not finished"):
        adapter.apply(changes)
    if stage == "tags":
        clock.sleep(60)
        with pytest.raises(Transient, match="not finished"):
            adapter.apply(changes)
    assert "batch" in notes
    assert "example.com" not in str(notes)
    adapter.close()

    again = opened(fake, clock, notes)
    outcomes: list[Outcome] = []
    for _ in range(5):
        try:
            outcomes = again.apply(changes)
            break
        except Transient as error:
            assert error.reason == "job_pending"
            clock.sleep(error.retry_after)
    assert {outcome.status for outcome in outcomes} == {"applied"}
    assert calls(fake)["POST /3.0/batches"] == 2  # the members' and their tags', none of them twice
    assert {tuple(contact["tags"]) for contact in fake.contacts().values()} == {tags}
    assert "batch" not in notes
    again.close()


def test_several_batches_run_side_by_side_and_all_of_them_outlive_a_restart(fake: FakeMailchimp, clock: Any) -> None:
    fake.batch_seconds = 500
    notes: dict[str, str] = {}
    tags = ("vip",)
    changes = [change(n, tags=tags, tags_added=tags) for n in range(2_500)]
    adapter = opened(fake, clock, notes)
    adapter.provision(SPECS, tags)
    with pytest.raises(Transient, match="not finished"):
        adapter.apply(changes)
    assert calls(fake)["POST /3.0/batches"] == len([name for name in notes if name.startswith("batch")]) == 3
    assert "example.com" not in str(notes)
    adapter.close()

    again = opened(fake, clock, notes)
    before = clock.time()
    assert told(again.apply([change(9_999)])) == {"k9999": ("applied", "")}
    assert clock.time() - before < 1, "who is in no batch waits for none"
    for held_up in (change(1_200, fields={"total_spent": 777}), replace(change(9_998), email="p1300@example.com")):
        with pytest.raises(Transient, match="not finished"):
            again.apply([held_up])
    clock.sleep(100)
    left, done = {one.key: one for one in changes}, 0
    while left:
        try:
            outcomes = again.apply(list(left.values()))
        except Transient as error:
            clock.sleep(error.retry_after)
            continue
        assert {outcome.status for outcome in outcomes} <= {"applied", "retry"}
        for outcome in outcomes:
            if outcome.status == "applied":
                left.pop(outcome.key)
                done += 1
        clock.sleep(30)
    assert done == 2_500
    assert calls(fake)["POST /3.0/batches"] == 3, "nobody was sent twice"
    assert not [name for name in notes if name.startswith("batch")]
    assert {tuple(contact["tags"]) for contact in fake.contacts().values()} == {tags}
    again.close()


def test_who_is_deleted_before_being_tagged_is_tried_again(fake: FakeMailchimp, clock: Any) -> None:
    fake.batch_seconds = 90
    tags = tuple(f"t{n}" for n in range(9))
    changes = [change(n, tags=tags, tags_added=tags) for n in range(60)]
    adapter = opened(fake, clock)
    adapter.provision(SPECS, tags)
    for _ in range(2):  # first the members' batch is under way, then their tags'
        with pytest.raises(Transient):
            adapter.apply(changes)
        clock.sleep(30)
    adapter.forget("p3@example.com")
    clock.sleep(90)
    outcomes = told(adapter.apply(changes))
    assert outcomes.pop("k3") == ("retry", "member_gone")
    assert set(outcomes.values()) == {("applied", "")}
    fake.faults.answer(404, {"title": "Resource Not Found", "status": 404}, match="POST .*/tags")
    assert told(adapter.apply([change(1)])) == {"k1": ("retry", "member_gone")}
    adapter.close()


def test_what_changed_while_a_batch_ran_is_written_after_it(fake: FakeMailchimp, clock: Any) -> None:
    fake.batch_seconds = 240
    notes: dict[str, str] = {}
    adapter = opened(fake, clock, notes)
    adapter.provision(SPECS, ["vip"])
    with pytest.raises(Transient):
        adapter.apply([change(n) for n in range(60)])
    adapter.close()
    again = opened(fake, clock, notes)
    newer = [change(0, fields={"total_spent": 777})]
    with pytest.raises(Transient):  # one contact alone, and still it waits: the old value would come after the new one
        again.apply(newer)
    assert calls(fake)["PUT /3.0/lists/a1b2c3d4e5/members/N"] == 0
    clock.sleep(120)
    assert told(again.apply(newer)) == {"k0": ("applied", "")}
    clock.sleep(600)
    assert 777 in fake.contacts()["p0@example.com"]["fields"].values()
    again.close()


@pytest.mark.parametrize("restart", [False, True])
def test_a_batch_whose_start_was_not_answered_is_not_overtaken(fake: FakeMailchimp, clock: Any, restart: bool) -> None:
    fake.batch_seconds = 90
    notes: dict[str, str] = {}
    adapter = opened(fake, clock, notes)
    adapter.provision(SPECS, ["vip"])
    fake.faults.lose(match="POST /3.0/batches")
    with pytest.raises(Transient) as caught:
        adapter.apply([change(n) for n in range(60)])
    assert caught.value.reason == "no_answer"
    assert calls(fake)["POST /3.0/batches"] == 1  # not repeated at once: it may be under way
    if restart:
        adapter.close()
        adapter = opened(fake, clock, notes)
    newer = [change(0, fields={"total_spent": 777})]
    with pytest.raises(Transient) as caught:
        adapter.apply(newer)
    assert caught.value.reason == "job_pending"
    clock.sleep(60)
    assert told(adapter.apply(newer)) == {"k0": ("applied", "")}
    clock.sleep(600)
    assert 777 in fake.contacts()["p0@example.com"]["fields"].values()
    assert "batch" not in notes
    adapter.close()


@pytest.mark.parametrize("answered", [True, False])
def test_who_is_erased_while_a_batch_makes_them_is_erased_when_it_has_ended(
    fake: FakeMailchimp, clock: Any, answered: bool
) -> None:
    fake.batch_seconds = 150
    adapter = opened(fake, clock)
    adapter.provision(SPECS, ["vip"])
    if not answered:
        fake.faults.lose(match="POST /3.0/batches")
    with pytest.raises(Transient):
        adapter.apply([change(n) for n in range(60)])
    if not answered:
        clock.sleep(60)
    with pytest.raises(Transient) as caught:
        adapter.forget("p7@example.com")
    assert caught.value.reason == "job_pending"
    clock.sleep(caught.value.retry_after)
    adapter.forget("p7@example.com")
    assert len(fake.contacts()) == 59
    assert "p7@example.com" not in fake.contacts()
    adapter.close()


@pytest.mark.parametrize("status", [500, 413, 429])
def test_a_batch_that_was_refused_leaves_no_note(fake: FakeMailchimp, clock: Any, status: int) -> None:
    notes: dict[str, str] = {}
    adapter = opened(fake, clock, notes)
    adapter.provision(SPECS, ["vip"])
    fake.faults.answer(status, {"title": "No", "status": status, "detail": "no"}, match="POST /3.0/batches", times=9)
    with suppress(Transient):
        adapter.apply([change(n) for n in range(60)])
    assert "batch" not in notes
    adapter.close()


def test_an_address_of_results_that_has_expired_is_asked_for_again(fake: FakeMailchimp, clock: Any) -> None:
    adapter = opened(fake, clock)
    adapter.provision(SPECS, ["vip"])
    fake.faults.answer(403, b"<Error>Request has expired</Error>", match="GET /3.0/batch-results")
    assert {outcome.status for outcome in adapter.apply([change(n) for n in range(60)])} == {"applied"}
    assert sum(count for call, count in calls(fake).items() if "batch-results" in call) == 2
    adapter.close()


def test_each_member_of_a_batch_has_an_outcome_of_its_own(fake: FakeMailchimp, clock: Any) -> None:
    adapter = opened(fake, clock)
    adapter.provision(SPECS, ["vip"])
    adapter.apply([change(n) for n in range(5)])
    fake.unsubscribe("p0@example.com")
    fake.archive("p0@example.com")  # archived and unsubscribed: only they themselves can come back
    fake.archive("p1@example.com")
    fake.bounce("p2@example.com")
    adapter.forget("p3@example.com")
    fake.delete_merge_field(next(tag for tag, held in fake.merge_fields().items() if held["name"] == "Note"))
    asked: dict[int, dict[str, Any]] = {0: {"subscribed": True}, 1: {"create": False}, 4: {"fields": {"note": "tents"}}}
    outcomes = adapter.apply([change(n, **asked.get(n, {})) for n in range(60)])
    expected = {f"k{n}": ("applied", "") for n in range(60)}
    expected |= {"k0": ("skipped", "compliance_state"), "k1": ("skipped", "not_on_list")}
    expected |= {"k3": ("skipped", "forgotten"), "k4": ("applied", "left_out")}
    assert told(outcomes) == expected
    assert fake.contacts()["p2@example.com"]["status"] == "cleaned"
    ids = {outcome.key: outcome.remote_id for outcome in outcomes}
    assert all(ids[key] for key, (status, _) in expected.items() if status == "applied")
    held = {one.key: one for one in adapter.read([Wanted(f"k{n}", f"p{n}@example.com") for n in range(5)])}
    assert [held[f"k{n}"].status for n in range(5)] == ["missing", "missing", "found", "missing", "found"]
    assert held["k2"].consent == "suppressed"
    adapter.close()


def test_five_hundred_batches_that_wait_are_no_reason_to_stop_single_calls(clock: Any) -> None:
    with FakeMailchimp(api_key="abc-us21", clock=clock, pending_batches=1, batch_seconds=1e9) as fake:
        adapter, other = opened(fake, clock), opened(fake, clock)
        adapter.provision(SPECS, ["vip"])
        with pytest.raises(Transient, match="not finished"):
            other.apply([change(n) for n in range(60)])
        with pytest.raises(Transient) as caught:
            adapter.apply([change(n) for n in range(60)])
        assert (caught.value.reason, caught.value.retry_after) == ("batches_pending", 60.0)
        assert told(adapter.apply([change(99)])) == {"k99": ("applied", "")}
        adapter.close()
        other.close()


def test_a_batch_that_is_too_large_is_halved(fake: FakeMailchimp, clock: Any) -> None:
    adapter = opened(fake, clock)
    adapter.provision(SPECS, ["vip"])
    problem = {"title": "Request Entity Too Large", "status": 413, "detail": "too large"}
    fake.faults.answer(413, problem, match="POST /3.0/batches", times=3)
    assert {outcome.status for outcome in adapter.apply([change(n) for n in range(400)])} == {"applied"}
    assert len(fake.contacts()) == 400
    assert calls(fake)["POST /3.0/batches"] == 3 + 4
    adapter.close()


def test_a_bare_403_is_too_many_at_once_and_no_lost_login(clock: Any) -> None:
    with FakeMailchimp(api_key="abc-us21", clock=clock, limit_status=403) as fake:
        adapter = opened(fake, clock)
        adapter.provision(SPECS, ["vip"])
        fake.faults.answer(403, None, match="PUT ", times=9)
        with pytest.raises(Transient) as caught:
            adapter.apply([change(1)])
        assert caught.value.reason == "rate_limited"
        adapter.close()


def test_a_double_opt_in_that_is_switched_on_later_is_noticed_within_the_hour(fake: FakeMailchimp, clock: Any) -> None:
    adapter = opened(fake, clock)
    adapter.provision(SPECS, ["vip"])
    adapter.apply([change(1, subscribed=True)])
    fake.double_optin = True
    clock.sleep(3600)
    adapter.apply([change(n, subscribed=True) for n in range(2, 50)])
    assert Counter(contact["status"] for contact in fake.contacts().values()) == {"subscribed": 1, "pending": 48}
    fake.confirm("p2@example.com")
    adapter.apply([change(2, subscribed=True, fields={"total_spent": 9})])
    assert fake.contacts()["p2@example.com"]["status"] == "subscribed"
    adapter.close()


def test_a_call_that_timed_out_keeps_its_connection_for_two_minutes(fake: FakeMailchimp, clock: Any) -> None:
    adapter = opened(fake, clock, read_timeout=0.2)
    fake.faults.latency = 0.6
    outcomes = adapter.apply([change(n, fields={}) for n in range(30)])
    assert {status for status, _ in told(outcomes).values()} == {"retry"}
    assert len(fake.requests) <= 8
    fake.faults.latency = 0.0
    before = len(fake.requests)
    for _ in range(3):  # all eight may still be open there: not one more is tried
        clock.sleep(35)
        with pytest.raises(Transient):
            adapter.apply([change(99, fields={})])
    assert len(fake.requests) == before
    clock.sleep(35)
    assert told(adapter.apply([change(99, fields={})])) == {"k99": ("applied", "")}
    assert 429 not in fake.counts()
    adapter.close()
