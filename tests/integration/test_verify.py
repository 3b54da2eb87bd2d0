"""What the fake vendors hold, read back by the real adapters and compared with what was pushed; and put right."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from adapters.destination import Change, FieldSpec, Held
from connector.cli import main
from connector.clock import DAY
from connector.sync.store import Accepted, correct, want
from connector.sync.verify import Verification, drift, sample, verify
from tests.conftest import CONFIG, NOON, order
from tests.integration.test_sync import ADA, Synced, every_kind

RULES = CONFIG.replace(
    "fields:\n",
    "fields:\n"
    "  note: {from: traits.note, type: text}\n"
    "  last_order_at: {from: traits.last_order_at, type: datetime}\n"
    "  customer_since: {from: traits.first_order_at, type: date}\n"
    "  buys: {from: traits.orders_count, type: boolean}\n",
)
BOB, CAT = "bob@example.com", "cat@example.com"
PEOPLE = {501: ADA, 502: BOB, 503: CAT}


@pytest.fixture
def synced(tmp_path: Path) -> Iterator[Synced]:
    synced = Synced(tmp_path)
    yield synced
    synced.close()


def fill(synced: Synced, kind: str, **settings: Any) -> None:
    """Three people pushed; the first is a VIP with a note that no Mailchimp field takes whole."""
    synced.configure(kind, rules=RULES, **settings)
    for number, (customer, email) in enumerate(PEOPLE.items()):
        total = "1500.00" if customer == 501 else "20.10"
        synced.deliver(order(1001 + number, customer=customer, email=email, total=total))
    stamp = {"created_at": "2026-11-01T10:00:00Z", "updated_at": "2026-11-18T10:00:00Z"}
    synced.deliver({"id": 501, "email": ADA, "note": "né " * 200, **stamp}, topic="customers/update")
    synced.push()


def read_back(synced: Synced, kind: str, *, repair: bool = False, size: int | None = None) -> Verification:
    services, time_ = synced.shop.services, synced.shop.time
    configuration = services.configuration()
    config = configuration.destinations[kind]
    with closing(services.connect(config)) as adapter:
        options: dict[str, Any] = {"size": size, "seed": 1, "repair": repair, "now": time_}
        return verify(services.database, adapter, config, configuration.segments, **options)


def meddle(synced: Synced, kind: str, **told: Any) -> None:
    """Somebody else changes Ada's contact at the vendor."""
    config = synced.shop.services.configuration().destinations[kind]
    with closing(synced.shop.services.connect(config)) as adapter:
        adapter.provision([FieldSpec("orders_count", "number", "Orders count")], ["vip", "lapsed-vip", "by-hand"])
        change: dict[str, Any] = {"key": "k", "email": ADA, "external_id": f"storecue:{person(synced, ADA)}"}
        change |= {"tags": ("recent-buyers", "vip")} | told
        [outcome] = adapter.apply([Change(**change)])
        assert outcome.status == "applied", outcome


def person(synced: Synced, email: str) -> int:
    rows = synced.rows("SELECT profile_id, desired FROM sync_state")
    return next(int(id_) for id_, desired in rows if json.loads(desired)["email"] == email)


def said(found: Verification) -> dict[str, list[int]]:
    return dict(found.profiles)


@every_kind
def test_what_was_pushed_shows_no_drift(synced: Synced, kind: str) -> None:
    fill(synced, kind)
    found = read_back(synced, kind)
    assert (found.contacts, found.checked, found.drifted, said(found)) == (3, 3, 0, {})


@every_kind
def test_drift_is_shown_by_field_and_tag_and_put_right(synced: Synced, kind: str) -> None:
    fill(synced, kind)
    before = synced.vendors[kind].contacts()[ADA]
    moved = {"tags": ("lapsed-vip", "recent-buyers"), "tags_added": ("lapsed-vip",), "tags_removed": ("vip",)}
    meddle(synced, kind, fields={"orders_count": 7}, **moved)
    ada = person(synced, ADA)
    expected = {"field orders_count": [ada], "tag lapsed-vip too many": [ada], "tag vip lost": [ada]}
    seen = synced.rows("SELECT * FROM sync_state")
    found = read_back(synced, kind)
    assert (found.drifted, found.repaired, said(found)) == (1, 0, expected)
    assert synced.rows("SELECT * FROM sync_state") == seen, "only --repair writes"
    found = read_back(synced, kind, repair=True)
    assert (found.drifted, found.repaired, said(found)) == (1, 1, expected)
    assert synced.rows("SELECT profile_id FROM sync_state WHERE pending = 1") == [(ada,)]
    assert synced.push() == 1
    assert synced.vendors[kind].contacts()[ADA] == before
    assert read_back(synced, kind).drifted == 0


def test_tags_of_others_are_left_alone(synced: Synced) -> None:
    fill(synced, "mailchimp")
    meddle(synced, "mailchimp", tags=("by-hand",), tags_added=("by-hand",))
    assert "by-hand" in synced.mailchimp.contacts()[ADA]["tags"]
    assert read_back(synced, "mailchimp", repair=True).drifted == 0


@every_kind
def test_a_tag_of_a_segment_that_goes_elsewhere_is_not_ours(synced: Synced, kind: str) -> None:
    fill(synced, kind, segments=["vip"])
    meddle(synced, kind, tags=("lapsed-vip", "vip"), tags_added=("lapsed-vip",))
    assert read_back(synced, kind).drifted == 0


@every_kind
def test_who_is_missing_is_pushed_in_full(synced: Synced, kind: str) -> None:
    fill(synced, kind)
    before = synced.vendors[kind].contacts()[BOB]
    bob = person(synced, BOB)
    vendor: Any = synced.vendors[kind]
    if kind == "klaviyo":  # its deletion is for good, for the fake as well; a merge takes the address away
        vendor.merge(BOB, into=ADA)
    elif kind == "hubspot":
        vendor._removed(vendor._contacts[vendor._unique["email"][BOB]])
    else:
        next(m for m in vendor._members.values() if m.email == BOB).status = "archived"
    found = read_back(synced, kind, repair=True)
    assert said(found)["missing"] == [bob]
    synced.push()
    again = synced.vendors[kind].contacts()[BOB]
    assert (again["tags"], again["fields"]) == (before["tags"], before["fields"])
    assert read_back(synced, kind).drifted == 0


def test_a_merged_contact_is_followed_to_its_new_id(synced: Synced) -> None:
    fill(synced, "hubspot")
    with closing(synced.shop.services.connect(synced.shop.services.configuration().destinations["hubspot"])) as other:
        other.apply([Change("k", "old@example.com", "elsewhere:1")])
    synced.hubspot.merge("old@example.com", into=BOB)
    found = read_back(synced, "hubspot", repair=True)
    assert said(found) == {"merged": [person(synced, BOB)]}
    assert (found.repaired, found.left) == (1, [])
    new = synced.hubspot.contacts()[BOB]["id"]
    assert (new,) in synced.rows("SELECT remote_id FROM sync_state")
    synced.push()
    assert read_back(synced, "hubspot").drifted == 0


def test_two_of_ours_merged_there_are_left_to_a_person(synced: Synced) -> None:
    fill(synced, "hubspot")
    seen = synced.rows("SELECT * FROM sync_state")
    synced.hubspot.merge(BOB, into=CAT)
    found = read_back(synced, "hubspot", repair=True)
    assert sorted(found.left) == sorted((person(synced, BOB), person(synced, CAT)))
    assert found.repaired == 0
    assert synced.rows("SELECT * FROM sync_state") == seen


@pytest.mark.parametrize("kind", ["klaviyo", "hubspot"])
def test_an_address_changed_there_goes_back(synced: Synced, kind: str) -> None:
    fill(synced, kind)
    [(remote_id,)] = synced.rows(f"SELECT remote_id FROM sync_state WHERE profile_id = {person(synced, ADA)}")
    meddle(synced, kind, email="ada@new.example", previous_email=ADA, remote_id=remote_id)
    assert said(read_back(synced, kind, repair=True)) == {"address": [person(synced, ADA)]}
    synced.push()
    assert sorted(synced.vendors[kind].contacts()) == sorted(PEOPLE.values())
    assert read_back(synced, kind).drifted == 0


def test_who_waits_to_be_pushed_is_not_compared(synced: Synced) -> None:
    fill(synced, "klaviyo")
    synced.shop.at(NOON + 7 * DAY)
    synced.shop.work()
    assert read_back(synced, "klaviyo").contacts == 0


def test_who_was_pushed_in_between_is_not_corrected(synced: Synced) -> None:
    fill(synced, "klaviyo")
    [row] = synced.rows(f"SELECT pushed, remote_id FROM sync_state WHERE profile_id = {person(synced, ADA)}")
    wrong = {"person": person(synced, ADA), "seen": row[0] + " ", "holds": None, "remote": None}
    with synced.shop.services.database.tx() as tx:
        assert correct(tx, "klaviyo", [wrong], NOON) == 0
        assert correct(tx, "klaviyo", [wrong | {"seen": row[0]}], NOON) == 1


def test_a_sample_of_ten_thousand_reads_the_sample_alone(synced: Synced) -> None:
    synced.configure("klaviyo")
    empty = json.dumps({"email": "x@example.com", "tags": [], "fields": {}})
    row = {"destination": "klaviyo", "desired": empty, "pending": 0, "due_at": 0, "changed_at": 0}
    with synced.shop.services.database.tx() as tx:
        want(tx, [row | {"profile_id": number} for number in range(10_000)])
        tx.exec_driver_sql("UPDATE sync_state SET pushed = desired")
    found = read_back(synced, "klaviyo", size=50)
    assert (found.contacts, found.checked) == (10_000, 50)
    assert said(found) == {"missing": sample(range(10_000), 50, 1)}


# --- the command -----------------------------------------------------------------------------------------------------


def storecue(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--data", str(folder)])


def test_the_command_tells_repairs_and_names_no_address(synced: Synced, tmp_path: Path) -> None:
    fill(synced, "klaviyo")
    good = storecue(tmp_path, "verify", "klaviyo")
    assert (good.exit_code, good.stdout) == (0, "klaviyo: 3 of 3 contacts read back, 0 differ\n")
    meddle(synced, "klaviyo", fields={"orders_count": 7})
    ada = person(synced, ADA)
    lines = f"klaviyo: 3 of 3 contacts read back, 1 differ\n  field orders_count: 1 (profiles {ada})\n"
    bad = storecue(tmp_path, "verify", "klaviyo", "--all")
    assert (bad.exit_code, bad.stdout) == (1, lines + "Run it with --repair to have them put right\n")
    mended = storecue(tmp_path, "verify", "klaviyo", "--repair")
    assert (mended.exit_code, mended.stdout) == (0, lines + "1 will be put right by the next push\n")
    assert synced.rows("SELECT profile_id FROM sync_state WHERE pending = 1") == [(ada,)]
    assert "@" not in good.output + bad.output + mended.output


def test_the_command_refuses_in_one_line(synced: Synced, tmp_path: Path) -> None:
    fill(synced, "klaviyo")
    unknown = storecue(tmp_path, "verify", "nowhere")
    assert (unknown.exit_code, unknown.stderr) == (
        2,
        "storecue: there is no destination 'nowhere' (configured: klaviyo)\n",
    )
    synced.klaviyo.api_key = "another"
    locked = storecue(tmp_path, "verify", "klaviyo")
    assert locked.exit_code == 2
    assert locked.stderr.startswith("storecue: klaviyo could not be read back: ")


def test_pause_and_resume(synced: Synced, tmp_path: Path) -> None:
    synced.configure("klaviyo")
    assert storecue(tmp_path, "destination", "pause", "klaviyo").exit_code == 0
    synced.deliver(order())
    assert synced.push() == 0
    assert synced.rows("SELECT state, message FROM account") == [("paused", "paused on the command line")]
    assert storecue(tmp_path, "destination", "resume", "klaviyo").exit_code == 0
    assert synced.push() == 1
    assert storecue(tmp_path, "destination", "pause", "nowhere").exit_code == 2


# --- the comparison --------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c", "d"])
TAGS = st.sets(NAMES).map(lambda tags: tuple(sorted(tags)))
FIELDS = st.dictionaries(NAMES, st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab é", max_size=3))


def pushed(tags: tuple[str, ...], fields: dict[str, Any]) -> Accepted:
    state = {"email": ADA, "first_name": "Ada", "tags": tags, "fields": fields, "create": True}
    return Accepted(1, json.dumps(state), "r1")


@given(tags=TAGS, fields=FIELDS, others=st.sets(st.sampled_from(["x", "y"])))
def test_equal_states_have_no_drift(tags: tuple[str, ...], fields: dict[str, Any], others: set[str]) -> None:
    held = Held("1", "found", "r1", ADA, tuple(sorted({*tags, *others})), fields)
    assert drift(pushed(tags, fields), held, {"a", "b", "c", "d"}) is None


@given(tags=TAGS, fields=FIELDS, shown=TAGS, holds=FIELDS)
def test_what_the_vendor_holds_shows_no_drift_from_itself(
    tags: tuple[str, ...], fields: dict[str, Any], shown: tuple[str, ...], holds: dict[str, Any]
) -> None:
    ours, held = {"a", "b"}, Held("1", "found", "r1", ADA, shown, holds)
    one = drift(pushed(tags, fields), held, ours)
    lost = {name for name, value in fields.items() if holds.get(name) != value}
    assert (one is None) == (not lost and set(shown) & (ours | set(tags)) == set(tags))
    if one is not None:
        assert one.holds is not None
        assert drift(Accepted(1, one.holds, "r1"), held, ours) is None
        assert lost == {said.removeprefix("field ") for said in one.differs if said.startswith("field ")}


def test_a_contact_without_an_address_is_left_to_a_person() -> None:
    one = drift(pushed((), {}), Held("1", "found", "r1", ""), set())
    assert one is not None
    assert one.differs == ("address empty",)


def test_names_are_compared_where_the_vendor_tells_them() -> None:
    accepted = pushed((), {})  # pushed as Ada
    held = Held("1", "found", "r1", ADA, first_name="Eve")
    one = drift(accepted, held, set())
    assert one is not None
    assert (one.differs, json.loads(one.holds or "")["first_name"]) == (("first name",), "Eve")
    emptied = drift(accepted, replace(held, first_name=""), set())
    assert emptied is not None
    for same in ("Ada", " Ada", None):  # spaces are the vendor's; None: it does not tell
        assert drift(accepted, replace(held, first_name=same, last_name="King"), set()) is None


def test_what_a_lost_answer_left_open_is_no_drift() -> None:
    state = json.loads(pushed(("vip",), {"a": 1}).pushed) | {"unsure": {"tags": ["b"], "fields": ["c"]}}
    accepted = Accepted(1, json.dumps(state), "r1")
    for tags in (("vip",), ("b", "vip")):
        assert drift(accepted, Held("1", "found", "r1", ADA, tags, {"a": 1}), {"b", "vip"}) is None
    one = drift(accepted, Held("1", "found", "r1", ADA, ("b",), {"a": 1}), {"b", "vip"})
    assert one is not None
    assert one.differs == ("tag vip lost",)
    assert json.loads(one.holds or "")["unsure"] == state["unsure"], "it is still to be told again"


def test_the_same_seed_takes_the_same_sample() -> None:
    people = list(range(0, 5000, 3))
    assert sample(people, 200, 5) == sample(people, 200, 5) != sample(people, 200, 6)
    assert len(set(sample(people, 200, 5))) == 200
    assert sample(people, None, 5) == sample(people[:], 9999, 5) == people
