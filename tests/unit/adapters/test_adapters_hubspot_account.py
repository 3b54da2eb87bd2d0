"""HubSpot's adapter against the simulated account: what people and the account do between and during two pushes."""

import json
import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from adapters.destination import Change, Cue, FieldSpec, Held, Membership, Outcome, Settings, Wanted
from adapters.errors import Misconfigured, Transient, Unauthorized
from adapters.hubspot import HubSpot
from connector.simulator.vendors import FakeHubSpot
from connector.simulator.vendors.server import Request, Response

FIELDS = [FieldSpec("total_spent", "number", "Total spent"), FieldSpec("bio", "text", "Bio")]
AT = 1_763_719_200_000
WRITES = ("POST", "PATCH", "PUT", "DELETE")


@pytest.fixture
def fake(clock: Any) -> Iterator[FakeHubSpot]:
    with FakeHubSpot(clock=clock, keep_bodies=True) as vendor:
        yield vendor


@pytest.fixture
def hubspot(fake: FakeHubSpot, clock: Any) -> Iterator[HubSpot]:
    adapter = opened(fake, clock)
    adapter.provision(FIELDS, ["bf", "vip"])
    yield adapter
    adapter.close()


def opened(fake: FakeHubSpot, clock: Any, **options: str) -> HubSpot:
    credentials = {"access_token": fake.access_token}
    return HubSpot(Settings(credentials, base_url=fake.url, allow_insecure=True, options=options), clock)


def change(n: int, email: str = "", **more: Any) -> Change:
    told = {"tags": ("vip",), "fields": {"total_spent": n}} | more
    return Change(f"c{n}", email or f"p{n}@example.com", f"shop:{n}", **told)


def cue(n: int, **properties: Any) -> Cue:
    return Cue(f"q{n}", f"p{n}@example.com", f"shop:{n}", "Segment Entered", AT + n, {"segment": "vip", **properties})


def states(outcomes: list[Outcome]) -> dict[str, str]:
    return {outcome.key: outcome.status for outcome in outcomes}


def ids(outcomes: list[Outcome]) -> dict[str, Any]:
    return {outcome.key: outcome.remote_id for outcome in outcomes}


def asked(fake: FakeHubSpot, start: int = 0) -> list[str]:
    return [f"{row.method} {row.path}" for row in fake.requests[start:]]


def everything(adapter: HubSpot) -> str:
    """Every kind of call there is; gives the id of a list."""
    adapter.check_login()
    adapter.foresee(FIELDS, ["vip"])
    adapter.provision(FIELDS, ["vip"])
    adapter.apply([change(1)])
    adapter.apply([change(n) for n in range(1, 4)])
    adapter.send([cue(1), cue(2)])
    list_id = adapter.ensure_list("StoreCue: VIP", None)
    adapter.update_list(list_id, [Membership("c1", "p1@example.com", None, added=True)])
    adapter.read([Wanted("c1", "p1@example.com", None, {"total_spent": 1})])
    adapter.forget("p3@example.com")
    return list_id


@pytest.mark.parametrize("version", ["2026-03", "2026-09"])
def test_one_setting_dates_every_path(version: str, clock: Any) -> None:
    with FakeHubSpot(clock=clock, plan="enterprise") as fake:
        adapter = opened(fake, clock, version=version, custom_events="true", subscription="101")
        everything(adapter)
        adapter.close()
        assert all(f"/{version}/" in f"{row.path}/" for row in fake.requests)
        assert len({row.path for row in fake.requests}) > 15


def test_a_push_never_writes_to_a_subscription(clock: Any) -> None:
    with FakeHubSpot(clock=clock, plan="enterprise", keep_bodies=True) as fake:
        adapter = opened(fake, clock, custom_events="true", subscription="101")
        everything(adapter)
        adapter.close()
        preferences = {f"{r.method} {r.path}" for r in fake.requests if "communication-preferences" in r.path}
        assert preferences == {
            "GET /communication-preferences/2026-03/definitions",
            "POST /communication-preferences/2026-03/statuses/batch/read",
        }
        written = [row.body for row in fake.requests if row.method in WRITES and not row.path.endswith("/read")]
        assert not [body for body in written if b"optout" in body or b"statusState" in body]


# --- limits -----------------------------------------------------------------------------------------------------------


def test_a_thousand_contacts_are_twenty_calls_the_first_time_and_ten_after(fake: FakeHubSpot, hubspot: HubSpot) -> None:
    counted, known = [], dict[str, Any]()
    for spent in (1, 2):
        start = len(fake.requests)
        for first in range(0, 1_000, hubspot.limits.batch):
            people = range(first, min(first + hubspot.limits.batch, 1_000))
            changes = [change(n, fields={"total_spent": spent}, remote_id=known.get(f"c{n}")) for n in people]
            known |= ids(hubspot.apply(changes))
        counted.append(len(fake.requests) - start)
    assert counted == [20, 10]
    assert len(fake.contacts()) == 1_000


class Gathering(FakeHubSpot):
    """Answers a batch update once four of them are under way."""

    def __init__(self, **options: Any) -> None:
        self.meeting = threading.Barrier(4)
        super().__init__(**options)

    def answered(self, request: Request) -> Response:
        if request.path.endswith("/batch/update"):
            self.meeting.wait(timeout=10)
        return super().answered(request)


def test_four_batches_are_under_way_together(clock: Any) -> None:
    with Gathering(clock=clock) as fake:
        adapter = opened(fake, clock)
        adapter.provision(FIELDS, ["vip"])
        people = range(adapter.limits.batch)
        known = ids(adapter.apply([change(n) for n in people]))
        again = adapter.apply([change(n, remote_id=known[f"c{n}"]) for n in people])
        adapter.close()
    assert set(states(again).values()) == {"applied"}
    assert asked(fake).count("POST /crm/objects/2026-03/contacts/batch/update") == 4


@pytest.mark.parametrize("zone_known", [True, False])
def test_the_days_last_call_is_followed_by_silence_until_midnight_there(
    fake: FakeHubSpot, hubspot: HubSpot, clock: Any, zone_known: bool
) -> None:
    if zone_known:
        fake.use_up(900)
        hubspot.apply([change(1)])
        hubspot.apply([change(1)])  # few are left by the answer before: the account's zone is asked for
        assert asked(fake).count("GET /account-info/2026-03/details") == 1
        fake.use_up(1)
        hubspot.apply([change(1)])  # the answer says: none left
    else:
        fake.use_up(0)
    before = len(fake.requests)
    with pytest.raises(Transient) as caught:
        hubspot.apply([change(2)])
    assert len(fake.requests) == before + (0 if zone_known else 1)
    assert 429 not in [row.status for row in fake.requests[:before]]
    midnight = datetime.fromtimestamp(clock.time(), ZoneInfo("Europe/Paris")).replace(hour=0, minute=0, second=0)
    until = midnight.timestamp() + 86_400 - clock.time() if zone_known else 3_600
    assert caught.value.retry_after == pytest.approx(until, abs=5)
    clock.sleep(caught.value.retry_after)
    if zone_known:
        assert states(hubspot.apply([change(2)])) == {"c2": "applied"}


def test_two_limits_of_the_plan_are_told_apart(fake: FakeHubSpot, hubspot: HubSpot) -> None:
    note = "HubSpot allows 190 calls in 10 seconds: set requests_per_10_seconds to it"
    assert hubspot.check_login().notes == ()
    with FakeHubSpot(clock=fake.clock, plan="professional") as larger:
        adapter = opened(larger, fake.clock)
        assert adapter.check_login().notes == (note,)
        adapter.close()
        adapter = opened(larger, fake.clock, requests_per_10_seconds="190")
        assert adapter.check_login().notes == ()
        adapter.close()


def test_a_locked_contact_is_waited_for_two_seconds_at_least(fake: FakeHubSpot, hubspot: HubSpot, clock: Any) -> None:
    known = ids(hubspot.apply([change(1)]))
    fake.hold("p1@example.com", 3.0)
    start = clock.time()
    assert states(hubspot.apply([change(1, remote_id=known["c1"])])) == {"c1": "applied"}
    tries = [row.at for row in fake.requests if row.status == 423]
    assert tries
    assert clock.time() - start >= 2.0 * len(tries)


@pytest.mark.parametrize("many", [1, 2, 40])
def test_a_contact_that_stays_locked_waits_alone(fake: FakeHubSpot, hubspot: HubSpot, many: int) -> None:
    hubspot.apply([change(n) for n in range(many)])
    fake.hold("p0@example.com", 600)
    outcomes = {o.key: o for o in hubspot.apply([change(n, fields={"total_spent": 99}) for n in range(many)])}
    locked = outcomes.pop("c0")
    assert (locked.status, locked.reason) == ("retry", "locked")
    assert locked.retry_after >= 2.0
    assert {outcome.status for outcome in outcomes.values()} <= {"applied"}
    assert [c["fields"]["total_spent"] for c in fake.contacts().values()].count("99") == many - 1


def test_an_account_on_the_move_is_left_alone_for_as_long_as_it_says(
    fake: FakeHubSpot, hubspot: HubSpot, clock: Any
) -> None:
    fake.move(1_800)
    with pytest.raises(Transient) as caught:
        hubspot.apply([change(1)])
    assert (caught.value.reason, caught.value.retry_after) == ("migration", 1_800)
    clock.sleep(1_800)
    assert states(hubspot.apply([change(1)])) == {"c1": "applied"}


# --- who is who -------------------------------------------------------------------------------------------------------


def test_one_address_twice_in_a_batch_is_one_contact(fake: FakeHubSpot, hubspot: HubSpot) -> None:
    twins = [change(1, "Ada@Example.com"), change(2, "ada@example.com"), change(3)]
    outcomes = hubspot.apply(twins)
    assert set(states(outcomes).values()) == {"applied"}
    assert ids(outcomes)["c1"] == ids(outcomes)["c2"]
    assert fake.contacts()["ada@example.com"]["fields"]["total_spent"] == "2"  # the later one
    again = hubspot.apply([change(4, "ADA@example.com"), change(3)])
    assert ids(again)["c4"] == ids(outcomes)["c1"]
    assert len(fake.contacts()) == 2


def test_an_address_that_somebody_changed_there_stays_as_it_is(fake: FakeHubSpot, hubspot: HubSpot) -> None:
    known = ids(hubspot.apply([change(n) for n in range(3)]))
    fake.change_address("p1@example.com", "ada@example.org")
    more = [change(n, fields={"total_spent": 99}, remote_id=known[f"c{n}"]) for n in range(3)]
    assert ids(hubspot.apply(more)) == known
    assert ids(hubspot.apply(more[1:2])) == {"c1": known["c1"]}
    contacts = fake.contacts()
    assert len(contacts) == 3
    assert contacts["ada@example.org"]["fields"]["total_spent"] == "99"
    held = hubspot.read([Wanted("c1", "p1@example.com", known["c1"])])[0]
    assert (held.status, held.email) == ("found", "ada@example.org")


def test_an_additional_address_leads_to_its_contact(fake: FakeHubSpot, hubspot: HubSpot) -> None:
    known = ids(hubspot.apply([change(1), change(2)]))
    fake.add_address("p1@example.com", "ada@example.org")
    assert ids(hubspot.apply([change(3, "ada@example.org"), change(2)]))["c3"] == known["c1"]
    assert set(fake.contacts()) == {"p1@example.com", "p2@example.com"}


def test_an_address_moves_to_one_that_another_contact_has_in_addition(fake: FakeHubSpot, hubspot: HubSpot) -> None:
    known = ids(hubspot.apply([change(1), change(2)]))
    fake.add_address("p2@example.com", "ada@example.org")
    moves = change(1, "ada@example.org", previous_email="p1@example.com", remote_id=known["c1"])
    outcomes = hubspot.apply([moves, change(3)])
    assert states(outcomes) == {"c1": "applied", "c3": "applied"}
    assert ids(outcomes)["c1"] == known["c2"]


def test_hundreds_deleted_there_come_back_in_batches(fake: FakeHubSpot, hubspot: HubSpot) -> None:
    people = range(100)
    known = ids(hubspot.apply([change(n) for n in people]))
    for n in people:
        if n % 10:
            fake.delete(f"p{n}@example.com")
    start = len(fake.requests)
    outcomes = hubspot.apply([change(n, remote_id=known[f"c{n}"], create=n != 99) for n in people])
    assert len(fake.requests) - start == 3  # update, who has these addresses, create
    assert states(outcomes) == {f"c{n}": "skipped" if n == 99 else "applied" for n in people}
    assert len(fake.contacts()) == 99


@pytest.mark.parametrize("whole", [False, True])
def test_a_batch_whose_answer_was_lost_is_found_again_in_few_calls(
    fake: FakeHubSpot, hubspot: HubSpot, whole: bool
) -> None:
    fake.faults.lose(match="POST .*/batch/create")
    if whole:  # HubSpot may refuse the repetition as a whole
        taken = {"status": "error", "category": "CONFLICT", "message": "Contact already exists. Existing ID: 501"}
        fake.faults.answer(409, taken, match="POST .*/batch/create")
    start = len(fake.requests)
    outcomes = hubspot.apply([change(n) for n in range(100)])
    assert set(states(outcomes).values()) == {"applied"}
    assert len(set(ids(outcomes).values())) == len(fake.contacts()) == 100
    assert len(fake.requests) - start == 5  # who is there, made, made again, who is there, written


def test_merged_contacts_are_followed(fake: FakeHubSpot, hubspot: HubSpot) -> None:
    known = ids(hubspot.apply([change(n) for n in range(3)]))
    fake.merge("p1@example.com", into="p2@example.com")
    outcomes = hubspot.apply([change(n, fields={"total_spent": 7}, remote_id=known[f"c{n}"]) for n in range(2)])
    assert set(states(outcomes).values()) == {"applied"}
    assert fake.contacts()["p2@example.com"]["fields"]["total_spent"] == "7"
    assert hubspot.read([Wanted("c1", "p1@example.com", known["c1"])])[0].status == "merged"


@pytest.mark.parametrize("many", [1, 3])
def test_who_was_erased_is_refused_once_and_for_all(fake: FakeHubSpot, hubspot: HubSpot, many: int) -> None:
    known = ids(hubspot.apply([change(n) for n in range(many)]))
    hubspot.forget("p0@example.com", known["c0"])
    for remote_id in (known["c0"], None):
        changes = [change(0, remote_id=remote_id), *(change(n) for n in range(1, many))]
        outcomes = {outcome.key: outcome for outcome in hubspot.apply(changes)}
        refused = outcomes.pop("c0")
        assert (refused.status, refused.reason) == ("rejected", "erased")
        assert "p0@example.com" not in refused.message
        assert {outcome.status for outcome in outcomes.values()} <= {"applied"}


def test_an_error_of_one_item_is_found_in_whatever_order_the_answers_come(
    fake: FakeHubSpot, hubspot: HubSpot, clock: Any
) -> None:
    known = ids(hubspot.apply([change(n) for n in range(3)]))
    results = [{"id": known[f"c{n}"], "properties": {}, "objectWriteTraceId": f"storecue-{n}"} for n in (2, 0)]
    error: dict[str, Any] = {"status": "error", "category": "VALIDATION_ERROR", "message": "no", "id": "x"}
    error |= {"context": {"objectWriteTraceId": ["storecue-1"], "ids": [known["c0"], known["c2"]]}}
    fake.faults.answer(207, {"status": "COMPLETE", "results": results, "errors": [error]}, match="batch/update")
    outcomes = hubspot.apply([change(n, remote_id=known[f"c{n}"]) for n in range(3)])
    assert states(outcomes) == {"c0": "applied", "c1": "rejected", "c2": "applied"}
    assert {key: id_ for key, id_ in ids(outcomes).items() if key != "c1"} == {k: known[k] for k in ("c0", "c2")}


# --- properties -------------------------------------------------------------------------------------------------------


def options(fake: FakeHubSpot) -> list[str]:
    return [option["value"] for option in fake.properties()["storecue_tags"]["options"]]


def test_options_that_others_made_stay(fake: FakeHubSpot, hubspot: HubSpot) -> None:
    fake.set_options("storecue_tags", ["by-hand", "bf", "vip"])  # after our first read
    assert states(hubspot.apply([change(1, tags=("fresh",))])) == {"c1": "applied"}
    assert options(fake) == ["by-hand", "bf", "vip", "fresh"]


def test_an_option_whose_label_is_taken_gets_another_label(fake: FakeHubSpot, hubspot: HubSpot) -> None:
    fake.set_options("storecue_tags", ["Lapsed"])
    hubspot.apply([change(1, tags=("lapsed",))])
    labels = [option["label"] for option in fake.properties()["storecue_tags"]["options"]]
    assert labels == ["Lapsed", "lapsed (StoreCue)"]


@pytest.mark.parametrize("many", [1, 30, 350])
def test_options_taken_away_while_we_run_are_made_again(
    fake: FakeHubSpot, hubspot: HubSpot, clock: Any, many: int
) -> None:
    hubspot.apply([change(n) for n in range(many)])
    fake.set_options("storecue_tags", ["by-hand"])
    start = len(fake.requests)
    outcomes = hubspot.apply([change(n) for n in range(many)])
    assert set(states(outcomes).values()) == {"applied"}
    assert sorted(options(fake)) == ["bf", "by-hand", "vip"]
    batches = -(-many // 100)
    assert len(fake.requests) - start <= 5 + 3 * batches  # read, write, refused, mended, written


def test_a_deleted_cue_property_is_told_in_words_that_name_the_archive(fake: FakeHubSpot, hubspot: HubSpot) -> None:
    hubspot.apply([change(1)])
    fake.archive("storecue_last_cue")
    with pytest.raises(Misconfigured, match="archive"):
        hubspot.send([cue(1)])


def test_the_whole_value_of_our_property_is_ours(fake: FakeHubSpot, hubspot: HubSpot) -> None:
    """What somebody ticks by hand in `storecue_tags` goes with the next push; other properties are theirs."""
    hubspot.apply([change(1)])
    hubspot.apply([change(1, tags=("bf", "vip"))])
    assert fake.contacts()["p1@example.com"]["tags"] == ["bf", "vip"]
    hubspot.apply([change(1, tags=("bf",))])
    assert fake.contacts()["p1@example.com"]["tags"] == ["bf"]
    bodies = [json.loads(row.body)["properties"] for row in fake.requests if row.method == "PATCH" and row.body]
    assert all(not body["storecue_tags"].startswith(";") for body in bodies if "storecue_tags" in body)


def test_a_plan_that_is_full_is_told_before_and_when_it_happens(clock: Any) -> None:
    many = [FieldSpec(f"field_{n}", "text", f"Field {n}") for n in range(9)]
    with FakeHubSpot(clock=clock, plan="free") as fake:
        adapter = opened(fake, clock)
        forecast = adapter.foresee(many, ["vip"])
        assert forecast.slots == (12, 10)  # nine fields, our tags, the last cue and its time
        assert [fit.fate for fit in forecast.fields] == ["created"] * 7 + ["refused"] * 2
        with pytest.raises(Misconfigured, match="no room") as caught:
            adapter.provision(many, ["vip"])
        assert caught.value.reason == "property_limit"
        assert adapter.foresee(many[:7], ["vip"]).slots is not None
        fake.missing_scopes = {"crm.limits.read"}
        assert adapter.foresee(many, ["vip"]).slots is None
        adapter.close()


@pytest.mark.parametrize(
    ("spec", "tag", "says"),
    [
        (FieldSpec("hs_lifetime", "text", "x"), "vip", "hs_"),
        (FieldSpec("1st_order", "text", "x"), "vip", "lower-case letter"),
        (FieldSpec("a" * 101, "text", "x"), "vip", "at most 100"),
        (FieldSpec("last_order", "object", "x"), "vip", "no objects"),
        (FieldSpec("fine", "text", "x"), "vip;gold", "semicolon"),
        (FieldSpec("fine", "text", "x"), "v" * 3_001, "3,000"),
    ],
)
def test_what_hubspot_would_refuse_is_refused_before(spec: Any, tag: str, says: str, clock: Any) -> None:
    with FakeHubSpot(clock=clock) as fake:
        adapter = opened(fake, clock)
        told = adapter.foresee([spec], [tag])
        assert [fit.message for fit in (*told.fields, *told.tags) if fit.fate == "refused" and says in fit.message]
        with pytest.raises(Misconfigured, match=says):
            adapter.provision([spec], [tag])
        assert fake.properties() == {}
        adapter.close()


def test_a_list_is_a_text_joined_by_commas(fake: FakeHubSpot, hubspot: HubSpot) -> None:
    hubspot.provision([FieldSpec("sizes", "list", "Sizes")], [])
    hubspot.apply([change(1, fields={"sizes": ["M", "XL", 42]})])
    assert fake.contacts()["p1@example.com"]["fields"]["sizes"] == "M, XL, 42"
    held = hubspot.read([Wanted("c1", "p1@example.com", None, {"sizes": ["M", "XL", 42]})])[0]
    assert held.fields == {"sizes": ["M", "XL", 42]}


# --- consent ----------------------------------------------------------------------------------------------------------


def consents(held: list[Held]) -> dict[str, Any]:
    return {one.key: one.consent for one in held}


@pytest.mark.parametrize("subscription", ["101", "Marketing Information"])
def test_consent_to_our_subscription_type_is_read(fake: FakeHubSpot, hubspot: HubSpot, subscription: str) -> None:
    hubspot.apply([change(n) for n in range(6)])
    fake.subscribe("p1@example.com", 101)
    fake.unsubscribe("p2@example.com", 101)
    fake.unsubscribe("p3@example.com", 102)
    fake.unsubscribe("p4@example.com")
    fake.subscribe("p5@example.com", 101)
    fake.bounce("p5@example.com")
    adapter = opened(fake, fake.clock, subscription=subscription)
    told = consents(adapter.read([Wanted(f"c{n}", f"p{n}@example.com") for n in range(6)]))
    adapter.close()
    expected = {"c1": "subscribed", "c2": "unsubscribed", "c4": "unsubscribed", "c5": "suppressed"}
    assert told == {"c0": None, "c3": None, **expected}


def test_a_key_without_the_scope_reads_less_and_says_so(fake: FakeHubSpot, hubspot: HubSpot, clock: Any) -> None:
    hubspot.apply([change(n) for n in range(3)])
    fake.subscribe("p0@example.com", 101)
    fake.unsubscribe("p1@example.com", 101)
    fake.unsubscribe("p2@example.com")
    fake.missing_scopes = {"communication_preferences.read"}
    adapter = opened(fake, clock, subscription="101")
    assert [note for note in adapter.check_login().notes if "communication preferences" in note]
    wanted = [Wanted(f"c{n}", f"p{n}@example.com") for n in range(3)]
    for _ in range(3):
        assert consents(adapter.read(wanted)) == {"c0": None, "c1": "unsubscribed", "c2": "unsubscribed"}
    statuses = "POST /communication-preferences/2026-03/statuses/batch/read"
    assert asked(fake).count(statuses) == 1
    fake.missing_scopes = set()
    clock.sleep(86_400)
    assert consents(adapter.read(wanted))["c0"] == "subscribed"
    adapter.close()


def test_a_missing_scope_is_named(fake: FakeHubSpot, hubspot: HubSpot) -> None:
    fake.missing_scopes = {"crm.objects.contacts.write"}
    with pytest.raises(Unauthorized, match=r"crm\.objects\.contacts\.write"):
        hubspot.apply([change(1)])


# --- cues -------------------------------------------------------------------------------------------------------------


def test_a_plan_without_events_is_asked_once_a_day(fake: FakeHubSpot, hubspot: HubSpot, clock: Any) -> None:
    hubspot.apply([change(n) for n in range(3)])
    adapter = opened(fake, clock, custom_events="true")
    assert [note for note in adapter.check_login().notes if "custom events" in note]
    define = "POST /events/2026-03/event-definitions"
    for n in range(3):
        assert states(adapter.send([cue(n)])) == {f"q{n}": "applied"}
    assert asked(fake).count(define) == 1
    clock.sleep(86_400)
    adapter.send([cue(1)])
    assert asked(fake).count(define) == 2
    adapter.close()
    assert fake.contacts()["p2@example.com"]["fields"]["storecue_last_cue"] == "Segment Entered: vip"


def test_an_event_learns_new_properties(clock: Any) -> None:
    with FakeHubSpot(clock=clock, plan="enterprise") as fake:
        first = opened(fake, clock, custom_events="true")
        first.provision(FIELDS, ["vip"])
        first.apply([change(n) for n in range(3)])
        assert states(first.send([cue(1), cue(2, order="1001")])) == {"q1": "applied", "q2": "applied"}
        first.close()
        second = opened(fake, clock, custom_events="true")  # after a restart the definition is there already
        assert states(second.send([cue(0, spent=12.5)])) == {"q0": "applied"}
        second.close()
        told = {event["email"]: event["properties"] for event in fake.events()}
    assert told["p2@example.com"] == {"segment": "vip", "order": "1001"}
    assert told["p0@example.com"] == {"segment": "vip", "spent": "12.5"}


def test_the_properties_of_cues_are_provisioned(fake: FakeHubSpot, hubspot: HubSpot) -> None:
    made = fake.properties()
    kinds = {name: made[name]["type"] for name in ("storecue_last_cue", "storecue_last_cue_at")}
    assert kinds == {"storecue_last_cue": "string", "storecue_last_cue_at": "datetime"}
    hubspot.apply([change(n) for n in range(250)])
    start = len(fake.requests)
    hubspot.send([cue(n) for n in range(250)])
    assert len(asked(fake, start)) == 6  # a look-up and a batch for each hundred
