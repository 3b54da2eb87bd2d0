"""The real adapters against the fake vendors: what they send is taken, and the accounts show what was asked for."""

import pytest

from adapters import DESTINATIONS
from adapters.destination import Change, Cue, FieldSpec, Membership, Settings, Wanted
from adapters.errors import Transient, Unauthorized
from connector.clock import parse_instant
from connector.simulator.vendors import FakeHubSpot, FakeKlaviyo, FakeMailchimp

AT = parse_instant("2026-11-21T10:00:00Z")
FIELDS = (
    FieldSpec("total_spent", "number", "Total spent"),
    FieldSpec("favourite", "text", "Favourite product"),
    FieldSpec("last_order_at", "datetime", "Last order at"),
    FieldSpec("member", "boolean", "Member"),
)
TAGS = ("lapsed", "vip")
CREDENTIALS = {
    "klaviyo": {"api_key": "pk_test"},
    "hubspot": {"access_token": "pat-test"},
    "mailchimp": {"api_key": "abc-us21"},
}
FAKES = {
    "klaviyo": lambda clock: FakeKlaviyo(api_key="pk_test", clock=clock, keep_bodies=True),
    "hubspot": lambda clock: FakeHubSpot(access_token="pat-test", plan="enterprise", clock=clock, keep_bodies=True),
    "mailchimp": lambda clock: FakeMailchimp(api_key="abc-us21", clock=clock, keep_bodies=True),
}


def opened(fake, clock, **credentials):
    settings = Settings(
        credentials=credentials or CREDENTIALS[fake.vendor],
        base_url=fake.url,
        allow_insecure=True,
        list_id="a1b2c3d4e5",
        connect_timeout=2,
        read_timeout=5,
        options={"custom_events": "true"} if fake.vendor == "hubspot" else {},
    )
    return DESTINATIONS[fake.vendor](settings, clock)


@pytest.fixture(params=sorted(FAKES))
def fake(request, clock):
    with FAKES[request.param](clock) as vendor:
        yield vendor


@pytest.fixture
def adapter(fake, clock):
    adapter = opened(fake, clock)
    yield adapter
    adapter.close()


@pytest.fixture
def provisioned(adapter):
    adapter.provision(FIELDS, TAGS)
    return adapter


def change(number, email=None, **more):
    options = {"tags": ("vip",), "tags_added": ("vip",), "fields": {"total_spent": 100.5 + number}} | more
    return Change(
        key=f"k{number}", email=email or f"person{number}@example.com", external_id=f"shop:{number}", **options
    )


def statuses(outcomes):
    return {outcome.key: outcome.status for outcome in outcomes}


def unexpected(fake, *expected):
    """Requests that the fake refused with a 4xx other than those expected."""
    return [
        (row.method, row.path, row.status)
        for row in fake.requests
        if 400 <= row.status < 500 and row.status not in expected
    ]


def test_login(fake, adapter, clock):
    assert adapter.check_login().id
    key = next(iter(CREDENTIALS[fake.vendor]))
    stranger = opened(fake, clock, **{key: "wrong-us21"})
    with pytest.raises(Unauthorized):
        stranger.check_login()
    stranger.close()


def test_provisioning_twice_creates_nothing_new(fake, adapter):
    adapter.provision(FIELDS, TAGS)
    assert adapter.provision(FIELDS, TAGS) == []
    assert unexpected(fake, 404) == []


@pytest.mark.parametrize("count", [1, 3, 250])
def test_contacts_are_made_with_tags_and_fields(fake, provisioned, count):
    changes = [change(number) for number in range(count)]
    outcomes = provisioned.apply(changes)
    assert statuses(outcomes) == {c.key: "applied" for c in changes}, outcomes[:3]
    contacts = fake.contacts()
    assert set(contacts) == {c.email for c in changes}
    for c in changes:
        assert contacts[c.email]["tags"] == ["vip"]
        assert str(c.fields["total_spent"]) in {str(value) for value in contacts[c.email]["fields"].values()}
    assert statuses(provisioned.apply(changes)) == {c.key: "applied" for c in changes}
    assert set(fake.contacts()) == set(contacts)


@pytest.mark.parametrize("count", [1, 120])
def test_differences_are_applied(fake, provisioned, count):
    first = [change(n, fields={"favourite": "tent", "member": True}, first_name="Ada") for n in range(count)]
    ids = {outcome.key: outcome.remote_id for outcome in provisioned.apply(first)}
    second = [
        change(
            number,
            tags=("lapsed",),
            tags_added=("lapsed",),
            tags_removed=("vip",),
            fields={"favourite": None, "last_order_at": "2026-11-21T10:00:00Z"},
            remote_id=ids[f"k{number}"],
        )
        for number in range(count)
    ]
    assert set(statuses(provisioned.apply(second)).values()) == {"applied"}
    for contact in fake.contacts().values():
        assert contact["tags"] == ["lapsed"]
        assert "tent" not in str(contact["fields"])
        assert "2026-11-21" in str(contact["fields"]) or "1795" in str(contact["fields"])


def test_one_bad_address_does_not_harm_the_others(fake, provisioned):
    changes = [change(number) for number in range(60)]
    changes[30] = change(30, email="no address")
    found = statuses(provisioned.apply(changes))
    assert found.pop("k30") == "rejected"
    assert set(found.values()) == {"applied"}
    assert len(fake.contacts()) == 59


def test_who_may_not_be_created_is_not(fake, provisioned):
    known, unknown = change(1), change(2, create=False)
    provisioned.apply([known])
    outcomes = provisioned.apply([change(1, tags=("lapsed", "vip"), tags_added=("lapsed",), create=False), unknown])
    assert statuses(outcomes) == {"k1": "applied", "k2": "skipped"}
    assert {email: contact["tags"] for email, contact in fake.contacts().items()} == {known.email: ["lapsed", "vip"]}


def test_address_moves(fake, provisioned):
    first = provisioned.apply([change(1, email="old@example.com")])[0]
    moved = change(1, email="new@example.com", previous_email="old@example.com", remote_id=first.remote_id)
    assert statuses(provisioned.apply([moved])) == {"k1": "applied"}
    assert {email: contact["tags"] for email, contact in fake.contacts().items()} == {"new@example.com": ["vip"]}


def test_cues_arrive_once_each(fake, provisioned):
    provisioned.apply([change(1), change(2)])
    cues = [
        Cue(f"c{n}", f"person{n}@example.com", f"shop:{n}", "Segment Entered", AT, {"segment": "vip"}) for n in (1, 2)
    ]
    assert set(statuses(provisioned.send(cues)).values()) == {"applied"}
    events = fake.events()
    assert sorted(event["email"] for event in events) == ["person1@example.com", "person2@example.com"]
    assert all(event["properties"]["segment"] == "vip" for event in events)
    if fake.vendor != "mailchimp":  # which has no dedupe key
        provisioned.send(cues)
        assert len(fake.events()) == 2


def test_cues_become_properties_where_hubspot_has_no_events(clock):
    with FakeHubSpot(access_token="pat-test", clock=clock) as fake:
        adapter = opened(fake, clock)
        adapter.provision(FIELDS, TAGS)
        adapter.apply([change(1)])
        cue = Cue("c1", "person1@example.com", "shop:1", "Segment Entered", AT, {"segment": "vip"})
        assert statuses(adapter.send([cue])) == {"c1": "applied"}
        assert "Segment Entered" in str(fake.contacts()["person1@example.com"]["fields"])
        adapter.close()


def test_lists_hold_whom_they_are_told_to(fake, provisioned):
    ids = {outcome.key: outcome.remote_id for outcome in provisioned.apply([change(1), change(2)])}
    listed = provisioned.ensure_list("StoreCue: VIP", None)
    assert provisioned.ensure_list("StoreCue: VIP", None) == listed
    assert provisioned.ensure_list("StoreCue: VIP", listed) == listed
    members = [Membership(f"k{n}", f"person{n}@example.com", ids[f"k{n}"], added=True) for n in (1, 2)]
    assert set(statuses(provisioned.update_list(listed, members)).values()) == {"applied"}
    gone = [Membership("k1", "person1@example.com", ids["k1"], added=False)]
    assert statuses(provisioned.update_list(listed, gone)) == {"k1": "applied"}
    held = {
        email
        for email, contact in fake.contacts().items()
        if "StoreCue: VIP" in contact.get("lists", ()) or "StoreCue: VIP" in contact["tags"]
    }
    assert held == {"person2@example.com"}


def test_forgetting_erases_and_may_be_repeated(fake, provisioned):
    outcome = provisioned.apply([change(1)])[0]
    provisioned.forget("person1@example.com", outcome.remote_id)
    assert fake.contacts() == {}
    provisioned.forget("person1@example.com", outcome.remote_id)


def test_consent_of_a_known_member_is_never_touched(clock):
    with FAKES["mailchimp"](clock) as fake:
        adapter = opened(fake, clock)
        adapter.provision(FIELDS, TAGS)
        adapter.apply([change(1, subscribed=True), change(2, subscribed=None)])
        assert {email: contact["status"] for email, contact in fake.contacts().items()} == {
            "person1@example.com": "subscribed",
            "person2@example.com": "transactional",
        }
        fake.unsubscribe("person1@example.com")
        again = [change(n, subscribed=True, fields={"favourite": "tent"}) for n in (1, 2)]
        assert set(statuses(adapter.apply(again)).values()) == {"applied"}
        assert {contact["status"] for contact in fake.contacts().values()} == {"unsubscribed", "transactional"}
        adapter.close()


def test_random_errors_and_limits_do_not_lose_or_double(fake, provisioned):
    fake.faults.error_rate = 0.1
    wanted = [change(number) for number in range(40)]
    for _ in range(20):
        try:
            done = statuses(provisioned.apply(wanted))
        except Transient:
            continue
        wanted = [c for c in wanted if done[c.key] != "applied"]
        if not wanted:
            break
    assert not wanted
    assert len(fake.contacts()) == 40
    assert all(contact["tags"] == ["vip"] for contact in fake.contacts().values())


def test_outage_is_transient(fake, adapter):
    fake.faults.outage = True
    with pytest.raises(Transient):
        adapter.check_login()


PUSHED = {"total_spent": 412.5, "favourite": "tent", "last_order_at": "2026-11-21T10:00:00.123Z", "member": True}


def wanted(outcome, email, fields=PUSHED):
    return Wanted(outcome.key, email, outcome.remote_id, fields)


def read(adapter, *wants):
    return {held.key: held for held in adapter.read(wants)}


@pytest.mark.parametrize("count", [1, 130])
def test_what_was_pushed_is_read_back_as_it_was_pushed(fake, provisioned, count):
    """Whatever the vendor makes of a value: strings, milliseconds, dates without a time."""
    done = provisioned.apply([change(n, fields=PUSHED, tags=("lapsed", "vip"), tags_added=TAGS) for n in range(count)])
    before = len(fake.requests)
    held = read(provisioned, *(wanted(o, f"Person{o.key[1:]}@example.com") for o in done))
    assert len(held) == count
    for key, contact in held.items():
        assert (contact.status, contact.email) == ("found", f"person{key[1:]}@example.com")
        assert contact.tags == ("lapsed", "vip")
        assert contact.fields == PUSHED
        assert contact.remote_id
    assert len(fake.requests) - before <= 6  # in batches, not one by one
    assert read(provisioned) == {}


def test_drift_shows_by_field_and_tag(fake, provisioned):
    first = provisioned.apply([change(1, fields=PUSHED)])[0]
    provisioned.apply([change(1, tags=("lapsed",), tags_added=("lapsed",), tags_removed=("vip",),
                              fields={"total_spent": 9, "favourite": None, "member": False})])  # fmt: skip
    held = read(provisioned, wanted(first, "person1@example.com", PUSHED | {"nowhere": 1}))["k1"]
    assert held.tags == ("lapsed",)
    assert {name: held.fields[name] == PUSHED[name] for name in PUSHED} == {
        "total_spent": False,
        "favourite": False,
        "last_order_at": True,
        "member": False,
    }
    assert (held.fields["favourite"], held.fields["nowhere"]) == (None, None)


def test_who_is_gone_is_missing_and_the_others_are_not(fake, provisioned):
    outcomes = provisioned.apply([change(n) for n in range(3)])
    provisioned.forget("person1@example.com", {o.key: o.remote_id for o in outcomes}["k1"])
    held = read(provisioned, *(wanted(o, f"person{o.key[1:]}@example.com", {}) for o in outcomes))
    assert {key: contact.status for key, contact in held.items()} == {"k0": "found", "k1": "missing", "k2": "found"}
    assert (held["k1"].remote_id, held["k1"].tags) == (None, ())


def test_an_address_changed_at_the_vendor_is_found_by_its_id(fake, provisioned):
    outcome = provisioned.apply([change(1)])[0]
    moved = change(1, email="new@example.com", previous_email="person1@example.com", remote_id=outcome.remote_id)
    provisioned.apply([moved])
    held = read(provisioned, Wanted("k1", "person1@example.com", outcome.remote_id))["k1"]
    assert (held.status, held.email) == ("found", "new@example.com")


def test_a_merged_contact_is_found_under_its_new_id(clock):
    for kind in ("klaviyo", "hubspot"):
        with FAKES[kind](clock) as fake:
            adapter = opened(fake, clock)
            adapter.provision(FIELDS, TAGS)
            outcomes = {o.key: o for o in adapter.apply([change(1), change(2)])}
            fake.merge("person1@example.com", into="person2@example.com")
            held = read(adapter, wanted(outcomes["k1"], "person1@example.com", {}))["k1"]
            if kind == "klaviyo":  # the address went with the profile
                assert held.status == "missing"
            else:
                assert (held.status, held.email) == ("merged", "person1@example.com")
                assert held.remote_id not in (outcomes["k1"].remote_id, outcomes["k2"].remote_id, None)
            # The next change follows it there, or makes it anew; nobody is lost.
            again = change(1, tags=("lapsed",), tags_added=("lapsed",), remote_id=outcomes["k1"].remote_id)
            assert statuses(adapter.apply([again])) == {"k1": "applied"}
            assert read(adapter, Wanted("k1", "person1@example.com"))["k1"].tags == ("lapsed",)
            adapter.close()


def test_consent_is_told_where_the_vendor_knows_it(fake, provisioned):
    provisioned.apply([change(n, subscribed=True if n else None) for n in range(3)])
    fake.unsubscribe("person1@example.com")
    if fake.vendor == "klaviyo":
        fake.suppress("person2@example.com")
    if fake.vendor == "mailchimp":
        fake.bounce("person2@example.com")
    held = read(provisioned, *(Wanted(f"k{n}", f"person{n}@example.com") for n in range(3)))
    last = None if fake.vendor == "hubspot" else "suppressed"
    assert {key: contact.consent for key, contact in held.items()} == {"k0": None, "k1": "unsubscribed", "k2": last}


def test_tags_beyond_the_fifty_that_a_member_shows_are_read(clock):
    with FAKES["mailchimp"](clock) as fake:
        adapter = opened(fake, clock)
        many = tuple(f"t{n:02}" for n in range(60))
        adapter.apply([change(1, tags=many, tags_added=many, fields={})])
        assert read(adapter, Wanted("k1", "person1@example.com"))["k1"].tags == many
        adapter.close()


def test_a_read_that_fails_halfway_is_transient(fake, provisioned):
    provisioned.apply([change(n) for n in range(60)])
    fake.faults.outage = True
    with pytest.raises(Transient):
        provisioned.read([Wanted(f"k{n}", f"person{n}@example.com") for n in range(60)])


SLOW = {
    "klaviyo": lambda clock: FakeKlaviyo(api_key="pk_test", clock=clock, job_seconds=240),
    "mailchimp": lambda clock: FakeMailchimp(api_key="abc-us21", clock=clock, batch_seconds=240),
}
STARTS = ("/api/profile-bulk-import-jobs", "/3.0/batches")


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("kind", SLOW)
def test_a_job_that_does_not_end_in_time_is_repeated_and_has_no_second_effect(clock, kind, restart):
    """The process may die at any moment of it: nothing has to be remembered but what was not yet accepted."""
    with SLOW[kind](clock) as fake:
        adapter = opened(fake, clock)
        adapter.provision(FIELDS, TAGS)
        began = clock.time()
        with pytest.raises(Transient) as given_up:
            adapter.apply([change(n) for n in range(60)])
        assert given_up.value.reason == "job_pending"
        assert clock.time() - began <= 90
        assert fake.contacts() == {}
        if restart:
            adapter.close()
            adapter = opened(fake, clock)
        newer = [change(n, tags=("lapsed",), tags_added=("lapsed",), fields={"total_spent": 7}) for n in range(60)]
        outcomes = None
        for _ in range(20):
            try:
                outcomes = adapter.apply(newer)
                break
            except Transient as error:
                assert error.reason == "job_pending"
                clock.sleep(error.retry_after)
        clock.sleep(600)
        assert statuses(outcomes) == {c.key: "applied" for c in newer}
        jobs = [row for row in fake.requests if row.method == "POST" and row.path in STARTS]
        assert len(jobs) == 2  # one for what was wanted first, one for what came then: none is sent only to be sure
        assert len(fake.contacts()) == 60
        assert {tuple(c["tags"]) for c in fake.contacts().values()} == {("lapsed",)}
        assert {str(v) for c in fake.contacts().values() for v in c["fields"].values() if v} == {"7"}
        adapter.close()


@pytest.mark.parametrize("kind", SLOW)
def test_a_job_that_never_ends_holds_nobody_up_for_longer_than_a_quarter_of_an_hour(clock, kind):
    with SLOW[kind](clock) as fake:
        fake.job_seconds = fake.batch_seconds = 1e9
        adapter = opened(fake, clock)
        adapter.provision(FIELDS, TAGS)
        with pytest.raises(Transient):
            adapter.apply([change(n) for n in range(60)])
        with pytest.raises(Transient):
            adapter.apply([change(9, tags=("lapsed",))])
        assert fake.contacts() == {}
        clock.sleep(900)
        assert statuses(adapter.apply([change(9, tags=("lapsed",))])) == {"k9": "applied"}
        adapter.close()


def test_members_are_read_one_by_one_when_a_batch_takes_too_long(clock):
    with FAKES["mailchimp"](clock) as fake:
        adapter = opened(fake, clock)
        adapter.provision(FIELDS, TAGS)
        adapter.apply([change(n) for n in range(60)])
        fake.batch_seconds = 1e9
        held = adapter.read([Wanted(f"k{n}", f"person{n}@example.com") for n in range(60)])
        assert {contact.status for contact in held} == {"found"}
        adapter.close()
