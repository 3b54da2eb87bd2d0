"""The Klaviyo adapter against its fake: import jobs across restarts, tags shared with others, what templates show."""

import json
import re
from contextlib import closing

import pytest

from adapters.destination import Change, Cue, Settings, Wanted
from adapters.errors import Transient
from adapters.klaviyo import Klaviyo
from connector.clock import parse_instant
from connector.simulator.vendors import FakeKlaviyo

AT = parse_instant("2026-11-21T10:00:00Z")
IMPORTS = "/api/profile-bulk-import-jobs"


@pytest.fixture
def fake(clock):
    with FakeKlaviyo(api_key="pk_test", clock=clock, job_seconds=240, keep_bodies=True) as vendor:
        yield vendor


def opened(fake, clock, jobs=None, **options):
    settings = Settings({"api_key": "pk_test"}, fake.url, True, options=options, jobs={} if jobs is None else jobs)
    return closing(Klaviyo(settings, clock))


def change(n, tags=("vip",), **more):
    options = {"tags": tags, "tags_added": tags, "fields": {"total_spent": 10 + n}} | more
    return Change(f"k{n}", options.pop("email", f"p{n}@example.com"), f"storecue:{n}", **options)


def patiently(clock, act):
    """What `act` gives, tried again as often as the adapter asks for."""
    for _ in range(50):
        try:
            return act()
        except Transient as error:
            clock.sleep(error.retry_after)
    raise AssertionError("it never came through")


def applied(outcomes):
    return {outcome.status for outcome in outcomes} == {"applied"}


def started(fake):
    return [row for row in fake.requests if (row.method, row.path) == ("POST", IMPORTS)]


# --- jobs across restarts


@pytest.mark.parametrize("gone", ["closed", "killed"])
def test_a_restart_follows_the_job_that_was_under_way(fake, clock, gone):
    """What the dead process had started is waited for, its outcomes are taken, and nobody is sent twice."""
    noted = {}
    changes = [change(n) for n in range(60)]
    with opened(fake, clock, noted) as klaviyo:
        if gone == "closed":
            with pytest.raises(Transient) as waiting:
                klaviyo.apply(changes)
            assert waiting.value.reason == "job_pending"
        else:
            clock.sleep, sleep = _die, clock.sleep
            with pytest.raises(SystemExit):
                klaviyo.apply(changes)
            clock.sleep = sleep
    assert len(noted) == 1
    assert "example.com" not in str(noted), "no address stands in a note"
    with opened(fake, clock, noted) as klaviyo:
        outcomes = patiently(clock, lambda: klaviyo.apply(changes))
    assert applied(outcomes)
    assert len(outcomes) == len(fake.contacts()) == 60
    assert len(started(fake)) == 1
    assert noted == {}


def test_several_jobs_run_side_by_side_and_all_of_them_outlive_a_restart(fake, clock):
    """Whoever is in one waits for that one; others are told at once, and those that ended keep what they brought."""
    noted = {}
    changes = [change(n) for n in range(2_500)]
    with opened(fake, clock, noted) as klaviyo:
        with pytest.raises(Transient) as waiting:
            klaviyo.apply(changes)
        assert waiting.value.reason == "job_pending"
        assert len(started(fake)) == len(noted) == 3
    with opened(fake, clock, noted) as klaviyo:
        before = clock.time()
        assert applied(klaviyo.apply([change(9_999)]))
        assert clock.time() - before < 1, "who is in no job waits for none"
        newer = change(1_200, tags=("lapsed",))
        taker = change(9_998, email="p1300@example.com")
        for held_up in (newer, taker):
            with pytest.raises(Transient):
                klaviyo.apply([held_up])
        outcomes = patiently(clock, lambda: klaviyo.apply([newer]))
        assert applied(outcomes)
        rest = [c for c in changes if c.key != "k1200"]
        assert applied(patiently(clock, lambda: klaviyo.apply(rest)))
    assert len(started(fake)) == 3, "nobody was sent twice"
    clock.sleep(3600)
    assert noted == {}
    assert fake.contacts()["p1200@example.com"]["tags"] == ["lapsed"]
    assert len(fake.contacts()) == 2_501


def test_a_job_that_takes_longer_holds_up_nobody_elses_outcome(fake, clock):
    fake.job_seconds = 1
    with opened(fake, clock) as klaviyo:
        changes = [change(n) for n in range(2_000)]
        fake.faults.answer(504, match=f"POST {IMPORTS}")
        outcomes = {one.key: one for one in klaviyo.apply(changes)}
        fates = [outcomes[c.key].status for c in changes]
        assert sorted(fates) == ["applied"] * 1_000 + ["retry"] * 1_000
        again = [c for c in changes if outcomes[c.key].status == "retry"]
        assert applied(patiently(clock, lambda: klaviyo.apply(again)))
    assert len(fake.contacts()) == 2_000


def test_more_profiles_than_jobs_may_take_go_in_two_rounds(fake, clock):
    fake.job_seconds = 1
    with opened(fake, clock) as klaviyo:
        changes = [change(n, fields={}) for n in range(9_500)]
        assert applied(klaviyo.apply(changes))
    assert [row.status for row in started(fake)] == [202] * 10
    assert len(fake.contacts()) == 9_500


def _die(seconds):
    raise SystemExit("killed while it waited")


def test_a_job_of_a_dead_process_cannot_undo_what_came_after_it(fake, clock):
    noted = {}
    with opened(fake, clock, noted) as klaviyo, pytest.raises(Transient):
        klaviyo.apply([change(n) for n in range(60)])
    newer = change(7, tags=("lapsed",), fields={"total_spent": 99})
    with opened(fake, clock, noted) as klaviyo:
        assert applied(patiently(clock, lambda: klaviyo.apply([newer])))
    clock.sleep(3600)
    contact = fake.contacts()["p7@example.com"]
    assert (contact["tags"], contact["fields"]) == (["lapsed"], {"total_spent": 99})


@pytest.mark.parametrize("restart", [False, True])
def test_a_start_that_was_not_answered_is_looked_for_before_anything_is_sent(fake, clock, restart):
    noted = {}
    fake.faults.lose(match=f"POST {IMPORTS}")
    with opened(fake, clock, noted) as klaviyo:
        with pytest.raises(Transient) as lost:
            klaviyo.apply([change(n) for n in range(60)])
        assert lost.value.reason == "no_answer"
        again = opened(fake, clock, noted) if restart else closing(klaviyo)
        with again as klaviyo:
            assert applied(patiently(clock, lambda: klaviyo.apply([change(7, tags=("lapsed",))])))
    clock.sleep(3600)
    assert fake.contacts()["p7@example.com"]["tags"] == ["lapsed"]
    assert len(fake.contacts()) == 60, "it had been started"
    assert len(started(fake)) == 1


def test_a_start_that_never_arrived_is_made_again(fake, clock):
    fake.job_seconds = 1
    fake.faults.answer(504, match=f"POST {IMPORTS}")
    with opened(fake, clock) as klaviyo:
        assert applied(patiently(clock, lambda: klaviyo.apply([change(n) for n in range(60)])))
    assert len(fake.contacts()) == 60
    assert [row.status for row in started(fake)] == [504, 202]


@pytest.mark.parametrize("answer", [(404, {"errors": [{"id": "1", "code": "not_found", "detail": "no such job"}]}),
                                    (200, {"data": {"id": "j", "attributes": {"status": "cancelled"}}})])  # fmt: skip
def test_a_job_that_was_cancelled_or_forgotten_is_sent_again(fake, clock, answer):
    fake.job_seconds = 1
    fake.faults.answer(*answer, match=f"GET {IMPORTS}/")
    noted = {}
    with opened(fake, clock, noted) as klaviyo:
        with pytest.raises(Transient) as gone:
            klaviyo.apply([change(n) for n in range(30)])
        assert gone.value.reason == "job_cancelled"
        assert noted == {}
        assert applied(klaviyo.apply([change(n) for n in range(30)]))


def test_notes_of_another_version_are_no_obstacle(fake, clock):
    for note in ("", "[]", "no JSON", '{"id": 1}', '{"id": "j", "until": 9e12, "people": [[1]]}'):
        with opened(fake, clock, {"import": note}) as klaviyo:
            assert applied(klaviyo.apply([change(1)]))


def test_errors_of_a_job_are_read_page_by_page(fake, clock):
    fake.job_seconds = 1
    changes = [change(n) for n in range(300)]
    bad = {f"k{n}" for n in range(0, 300, 2)}
    changes = [change(int(c.key[1:]), email="no address") if c.key in bad else c for c in changes]
    with opened(fake, clock) as klaviyo:
        outcomes = {outcome.key: outcome for outcome in patiently(clock, lambda: klaviyo.apply(_distinct(changes)))}
    assert {key for key, outcome in outcomes.items() if outcome.status == "rejected"} == bad
    assert {outcomes[key].field for key in bad} == {"email"}
    pages = [row for row in fake.requests if row.path.endswith("/import-errors")]
    assert len(pages) == 2


def _distinct(changes):
    return [c if "@" in c.email else change(int(c.key[1:]), email=f"no address {c.key}") for c in changes]


# --- one address, two people


@pytest.mark.parametrize("crowd", [0, 40])
def test_an_address_goes_from_one_person_to_another_in_one_batch(fake, clock, crowd):
    """Written side by side, the one who takes it could land on the profile of the one who leaves it."""
    fake.job_seconds = 1
    with opened(fake, clock) as klaviyo:
        ada = klaviyo.apply([change(1, email="shared@example.com")])[0]
        taker = change(2, email="Shared@example.com", tags=("lapsed",))
        leaver = change(1, email="ada@example.com", previous_email="shared@example.com", remote_id=ada.remote_id)
        outcomes = patiently(clock, lambda: klaviyo.apply([taker, leaver, *(change(n) for n in range(10, 10 + crowd))]))
    assert applied(outcomes)
    contacts = fake.contacts()
    assert contacts["ada@example.com"]["id"] == ada.remote_id
    assert contacts["ada@example.com"]["external_id"] == "storecue:1"
    assert contacts["shared@example.com"]["id"] != ada.remote_id
    assert (contacts["shared@example.com"]["external_id"], contacts["shared@example.com"]["tags"]) == (
        "storecue:2",
        ["lapsed"],
    )


# --- tags in a property that other tools use


@pytest.fixture(params=[False, True], ids=["appending is a set", "appending repeats"])
def shared(request, clock):
    with FakeKlaviyo(api_key="pk_test", clock=clock, keep_bodies=True, tag_property="tags",
                     append_repeats=request.param) as vendor:  # fmt: skip
        yield vendor


def seeded(fake, clock, tags, count=1):
    """Profiles as another tool left them."""
    with opened(fake, clock) as other:
        assert applied(other.apply([change(n, (), fields={"tags": tags, "theirs": 1}) for n in range(count)]))


@pytest.mark.parametrize("count", [1, 60])
def test_values_of_other_tools_stay(shared, clock, count):
    seeded(shared, clock, ["gold", "lapsed", "vip"], count)
    with opened(shared, clock, tags_property="tags") as klaviyo:
        news = [change(n, ("bf", "vip"), tags_removed=("lapsed",)) for n in range(count)]
        assert applied(klaviyo.apply(news))
        assert {tuple(contact["tags"]) for contact in shared.contacts().values()} == {("bf", "gold", "vip")}
        assert applied(klaviyo.apply(news)), "a repeat changes nothing"
        held = klaviyo.read([Wanted("k0", "p0@example.com", None, {"total_spent": 10})])[0]
    assert {tuple(contact["tags"]) for contact in shared.contacts().values()} == {("bf", "gold", "vip")}
    assert (held.tags, held.fields) == (("bf", "gold", "vip"), {"total_spent": 10})
    assert all(contact["fields"]["theirs"] == 1 for contact in shared.contacts().values())
    written = [json.loads(row.body) for row in shared.requests if row.method == "POST" and b'"append"' in row.body]
    assert written, "they were appended, not written over"


@pytest.mark.parametrize("count", [1, 60])
def test_a_lost_answer_doubles_no_tag(shared, clock, count):
    seeded(shared, clock, ["gold"], count)
    with opened(shared, clock, tags_property="tags") as klaviyo:
        shared.faults.lose(match="POST /api/profile-(import|bulk-import-jobs)", times=1)
        news = left = [change(n) for n in range(count)]
        for _ in range(9):
            try:
                retry = {outcome.key for outcome in klaviyo.apply(left) if outcome.status == "retry"}
                left = [c for c in news if c.key in retry]
                if not left:
                    break
            except Transient as error:
                clock.sleep(error.retry_after)
    assert not left
    assert {tuple(contact["tags"]) for contact in shared.contacts().values()} == {("gold", "vip")}


def test_a_doubled_value_is_no_drift_and_goes_with_its_tag(shared, clock):
    seeded(shared, clock, ["vip", "gold", "vip"])
    with opened(shared, clock, tags_property="tags") as klaviyo:
        assert klaviyo.read([Wanted("k0", "p0@example.com")])[0].tags == ("gold", "vip")
        assert applied(klaviyo.apply([change(0, (), tags_removed=("vip",))]))
    assert shared.contacts()["p0@example.com"]["tags"] == ["gold"]


def test_a_new_person_gets_the_tags_and_a_property_that_is_no_list_is_left_alone(shared, clock):
    seeded(shared, clock, "gold")
    with opened(shared, clock, tags_property="tags") as klaviyo:
        outcomes = {outcome.key: outcome for outcome in klaviyo.apply([change(0), change(1)])}
    assert (outcomes["k0"].status, outcomes["k0"].reason, outcomes["k0"].field) == ("rejected", "field_type", "tags")
    assert shared.contacts()["p0@example.com"]["tags"] == ["gold"]
    assert shared.contacts()["p1@example.com"]["tags"] == ["vip"]


def test_a_profile_merged_away_is_found_by_its_address_with_the_tags_it_has(shared, clock):
    seeded(shared, clock, ["gold"])
    with opened(shared, clock, tags_property="tags") as klaviyo:
        outcome = klaviyo.apply([change(0, remote_id="01GONE")])[0]
    assert outcome.status == "applied"
    assert outcome.remote_id != "01GONE"
    assert shared.contacts()["p0@example.com"]["tags"] == ["gold", "vip"]


def test_without_the_option_the_property_is_ours_and_written_whole(fake, clock):
    with opened(fake, clock) as klaviyo:
        klaviyo.apply([change(1, ("bf", "vip"))])
        klaviyo.apply([change(1, ("lapsed",))])
    assert fake.contacts()["p1@example.com"]["tags"] == ["lapsed"]
    assert not [row for row in fake.requests if b"patch_properties" in row.body]


# --- what templates loop over

LINES = [{"title": "Tent", "quantity": 1, "price": 199.5}, {"price": 9, "title": "Mug", "quantity": 2}]


@pytest.mark.parametrize("count", [1, 30])
def test_lists_and_objects_arrive_as_they_are_and_are_read_back(fake, clock, count):
    fake.job_seconds = 1
    fields = {"cart_lines": LINES, "address": {"city": "Wien", "geo": {"lat": 48.2}}, "sizes": ["M", "L"]}
    with opened(fake, clock) as klaviyo:
        assert applied(patiently(clock, lambda: klaviyo.apply([change(n, fields=fields) for n in range(count)])))
        assert fake.contacts()["p0@example.com"]["fields"] == fields
        turned = {**fields, "cart_lines": [dict(reversed(line.items())) for line in LINES]}
        held = klaviyo.read([Wanted("k0", "p0@example.com", None, turned)])[0]
        assert held.fields == turned, "the order of keys means nothing"
        other = {**fields, "cart_lines": LINES[::-1]}
        assert klaviyo.read([Wanted("k0", "p0@example.com", None, other)])[0].fields["cart_lines"] == LINES
        klaviyo.apply([change(0, fields={"cart_lines": None})])
    assert "cart_lines" not in fake.contacts()["p0@example.com"]["fields"]


def test_what_is_in_a_list_counts_into_the_100_kb(fake, clock):
    large = {"cart_lines": [{"title": "x" * 1_000} for _ in range(100)]}
    with opened(fake, clock) as klaviyo:
        outcomes = {o.key: o for o in klaviyo.apply([change(1, fields=large), change(2)])}
    assert (outcomes["k1"].status, outcomes["k1"].reason) == ("rejected", "too_large")
    assert outcomes["k2"].status == "applied"


# --- consent and erasure

ALLOWED = re.compile(
    r"/api/(accounts|profiles|profile-import|profile-bulk-import-jobs(/.*)?|events|event-bulk-create-jobs|lists"
    r"|lists/\w+/relationships/profiles|data-privacy-deletion-jobs)"
)


@pytest.mark.parametrize("count", [1, 60])
def test_nothing_lifts_a_suppression_and_events_are_still_recorded(fake, clock, count):
    """Klaviyo itself mails nobody who is suppressed; an event is a fact, and may start what is no mail."""
    fake.job_seconds = 1
    with opened(fake, clock) as klaviyo:
        ids = {o.key: o.remote_id for o in patiently(clock, lambda: klaviyo.apply([change(n) for n in range(count)]))}
        fake.unsubscribe("p0@example.com")
        if count > 1:
            fake.suppress("p1@example.com")
        again = [change(n, ("bf", "vip"), subscribed=True, remote_id=ids[f"k{n}"]) for n in range(count)]
        assert applied(patiently(clock, lambda: klaviyo.apply(again)))
        listed = klaviyo.ensure_list("VIP", None)
        cues = [Cue(f"c{n}", f"p{n}@example.com", "", "Segment Entered", AT) for n in range(count)]
        assert applied(klaviyo.send(cues))
        held = {h.key: h.consent for h in klaviyo.read([Wanted(f"k{n}", f"p{n}@example.com") for n in range(count)])}
        assert listed
    assert {key: consent for key, consent in held.items() if consent} == (
        {"k0": "unsubscribed"} if count == 1 else {"k0": "unsubscribed", "k1": "suppressed"}
    )
    assert len(fake.events()) == count
    assert [row.path for row in fake.requests if not ALLOWED.fullmatch(row.path)] == []


def test_who_was_erased_is_not_made_anew_by_a_job_under_way(fake, clock):
    noted = {}
    with opened(fake, clock, noted) as klaviyo, pytest.raises(Transient):
        klaviyo.apply([change(n) for n in range(60)])
    with opened(fake, clock, noted) as another:  # whoever erases is another process
        with pytest.raises(Transient) as waits:
            another.forget("P7@example.com")
        assert waits.value.reason == "job_pending"
        another.forget("nobody@example.com")  # is not in it, and need not wait
        patiently(clock, lambda: another.forget("P7@example.com"))
        another.forget("p7@example.com")  # a repeat is harmless
    clock.sleep(3600)
    with opened(fake, clock, noted) as klaviyo:
        outcomes = klaviyo.apply([change(n) for n in range(60) if n != 7])
    assert applied(outcomes)
    assert "p7@example.com" not in fake.contacts()
    assert len(fake.contacts()) == 59
    assert len(started(fake)) == 1, "the outcomes of the job were there for whoever pushes"


def test_erasing_who_is_not_there_is_harmless(fake, clock):
    with opened(fake, clock) as klaviyo:
        klaviyo.forget("nobody@example.com", "01UNKNOWN")
        outcome = klaviyo.apply([change(1, create=False, remote_id="01UNKNOWN")])[0]
    assert (outcome.status, outcome.reason) == ("skipped", "not_on_list")
    assert fake.contacts() == {}


# --- events and limits


def test_events_keep_their_time_and_start_nothing_when_they_are_filled_in(fake, clock):
    with opened(fake, clock) as klaviyo:
        klaviyo.apply([change(n) for n in range(3)])
        for count in (1, 30):
            cues = [Cue(f"c{count}-{n}", f"p{n % 3}@example.com", "", "Segment Entered", AT, {"segment": "vip"},
                        backfill=count == 30) for n in range(count)]  # fmt: skip
            assert applied(klaviyo.send(cues))
            assert applied(klaviyo.send(cues)), "a repeat records nothing"
    told = fake.events()
    assert len(told) == 31
    assert {event["time"] for event in told} == {"2026-11-21T10:00:00.000Z"}
    assert [event["backfill"] for event in told].count(True) == 30
    assert len({event["unique_id"] for event in told}) == 31


def test_event_jobs_keep_to_five_megabytes(fake, clock):
    cues = [Cue(f"c{n}", f"p{n}@example.com", "", "Segment Entered", AT, {"text": "x" * 90_000}) for n in range(120)]
    with opened(fake, clock) as klaviyo:
        assert applied(klaviyo.send(cues))
    jobs = [row for row in fake.requests if row.path == "/api/event-bulk-create-jobs"]
    assert [row.status for row in jobs] == [202, 202, 202]
    assert len(fake.events()) == 120


def test_reading_subscriptions_keeps_to_the_limit_for_additional_fields(fake, clock):
    with opened(fake, clock) as klaviyo:
        for start in range(0, 24_000, 100):
            wants = [Wanted(f"k{n}", f"p{n}@example.com") for n in range(start, start + 100)]
            patiently(clock, lambda wants=wants: klaviyo.read(wants))
    assert {row.status for row in fake.requests} == {200}
