"""What a destination will make of fields and tags, told by the real adapters from fake accounts, without a write."""

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from adapters.destination import Destination, FieldSpec, Fit
from connector.cli import main
from connector.sync.contract import Contract, contract, fitted, shown
from tests.conftest import CONFIG, order
from tests.integration.test_sync import ADA, Synced, every_kind

RULES = CONFIG.replace("fields:\n", "fields:\n  note: {from: traits.note, type: text}\n")
NOTE = "write to grandma@example.com " + "né " * 200


@pytest.fixture
def synced(tmp_path: Path) -> Iterator[Synced]:
    synced = Synced(tmp_path)
    yield synced
    synced.close()


def filled(synced: Synced, kind: str, rules: str = RULES, **settings: Any) -> None:
    """Two people decided and nothing pushed yet; the VIP has a long note."""
    synced.configure(kind, rules=rules, **settings)
    synced.deliver(order(total="1500.00"), order(1002, customer=502, email="bob@example.com", total="20.10"))
    stamp = {"created_at": "2026-11-01T10:00:00Z", "updated_at": "2026-11-18T10:00:00Z"}
    synced.deliver({"id": 501, "email": ADA, "note": NOTE, **stamp}, topic="customers/update")


def opened(synced: Synced, kind: str) -> Destination:
    return synced.shop.services.connect(synced.shop.services.configuration().destinations[kind])


def check(synced: Synced, kind: str) -> Contract:
    services = synced.shop.services
    configuration = services.configuration()
    with closing(opened(synced, kind)) as adapter:
        return contract(services.database, adapter, configuration.destinations[kind], configuration)


def fates(fits: Any) -> dict[str, str]:
    return {fit.name: fit.fate for fit in fits}


@every_kind
def test_nothing_is_written_and_everything_counted(synced: Synced, kind: str) -> None:
    filled(synced, kind)
    before = synced.rows("SELECT * FROM sync_state"), synced.rows("SELECT * FROM account")
    told = check(synced, kind)
    assert (synced.rows("SELECT * FROM sync_state"), synced.rows("SELECT * FROM account")) == before
    assert {request.method for request in synced.vendors[kind].requests} <= {"GET"}
    assert set(fates(told.forecast.fields).values()) == {"created"}
    assert (told.contacts, told.refused()) == (2, [])
    assert told.filled == {"note": 1, "total_spent": 2, "orders_count": 2}
    assert told.tagged == {"vip": 1, "recent-buyers": 2}
    assert [example.tags for example in told.examples] == [["recent-buyers", "vip"], ["recent-buyers"]]


@every_kind
def test_what_is_foretold_is_what_provisioning_does(synced: Synced, kind: str) -> None:
    filled(synced, kind)
    specs = [FieldSpec(f.name, f.type, f.label) for f in synced.shop.services.configuration().fields.values()]
    with closing(opened(synced, kind)) as adapter:
        told = adapter.foresee(specs, ["lapsed", "vip"])
        made = "\n".join(adapter.provision(specs, ["lapsed", "vip"]))
        after = adapter.foresee(specs, ["lapsed", "vip"])
    assert [fit.name for fit in told.tags] == ["lapsed", "vip"]
    if kind == "klaviyo":  # nothing is ever defined there
        assert (made, after) == ("", told)
        return
    assert all(f"tag {fit.name}" in made for fit in told.tags if fit.fate == "created")
    assert {fit.fate for fit in (*told.fields, *told.tags)} == {"created"}
    assert {fit.fate for fit in (*after.fields, *after.tags)} == {"exists"}


def test_texts_that_would_be_cut_are_counted_and_shown_cut(synced: Synced) -> None:
    filled(synced, "mailchimp", options={"long_texts": "cut"})
    told = check(synced, "mailchimp")
    assert told.cut == {"note": 1}
    shown = told.examples[0].fields["note"]
    synced.push()
    assert shown in synced.mailchimp.contacts()[ADA]["fields"].values()


def test_texts_that_would_be_left_out_are_counted_and_not_shown(synced: Synced, tmp_path: Path) -> None:
    filled(synced, "mailchimp")
    told = check(synced, "mailchimp")
    assert told.cut == {"note": 1}
    assert all("note" not in example.fields for example in told.examples)
    line = "  field note: will be created (merge field, text), 1 profiles, LEFT OUT beyond 255 bytes for 1 of them"
    assert line in storecue(tmp_path, "destination", "check", "mailchimp").stdout.splitlines()


def test_a_list_is_measured_as_the_text_that_it_becomes() -> None:
    fit = Fit("skus", "created", "merge field", longest=10)
    assert shown(["ab", "cd"], fit) == ["ab", "cd"]
    assert shown(["tent", "stove"], fit) == "tent, stov"
    assert shown(["tent", "stove"], replace(fit, beyond="left_out")) is None


@pytest.mark.parametrize("kind", ["klaviyo", "hubspot"])
def test_nothing_is_cut_elsewhere(synced: Synced, kind: str) -> None:
    filled(synced, kind)
    assert check(synced, kind).cut == {}


def test_slots_are_counted_and_what_has_none_is_refused(synced: Synced) -> None:
    held = len(synced.mailchimp.merge_fields())
    filled(synced, "mailchimp", options={"merge_field_slots": str(held + 1)})
    told = check(synced, "mailchimp")
    assert told.forecast.slots == (3, 1)
    assert list(fates(told.forecast.fields).values()) == ["created", "refused", "refused"]
    assert all(f"{held} of {held + 1} merge fields" in fit.message for fit in told.refused())


@pytest.mark.parametrize("kind", ["hubspot", "mailchimp"])
def test_a_field_of_another_type_is_refused(synced: Synced, kind: str) -> None:
    filled(synced, kind)
    with closing(opened(synced, kind)) as adapter:
        adapter.provision([FieldSpec("orders_count", "date", "Orders count")], ["vip"])
    told = check(synced, kind)
    [refused] = told.refused()
    assert refused.name == "orders_count"
    assert "give the field another name" in refused.message
    assert fates(told.forecast.tags)["vip"] == "exists"


def test_only_the_segments_of_the_destination_are_its_tags(synced: Synced) -> None:
    filled(synced, "mailchimp", segments=["vip"])
    assert [(fit.name, fit.fate) for fit in check(synced, "mailchimp").forecast.tags] == [("vip", "created")]


def storecue(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--data", str(folder)])


def test_the_command_tells_it_all_without_an_address(synced: Synced, tmp_path: Path) -> None:
    filled(synced, "mailchimp", options={"long_texts": "cut"})
    result = storecue(tmp_path, "destination", "check", "mailchimp")
    assert result.exit_code == 0
    for line in (
        "mailchimp: 2 profiles",
        "  field note: will be created (merge field, text), 1 profiles, CUT to 255 bytes for 1 of them",
        "  field total_spent: will be created (merge field, number), 2 profiles",
        "  tag vip: will be created (tag), 1 profiles",
    ):
        assert line in result.stdout.splitlines()
    assert "  new fields: 3 needed, room for " in result.stdout
    assert re.search(r"\(25[345] bytes\)", result.stdout)
    assert "note=write to (address) " in result.stdout
    assert "@" not in result.output


def test_the_command_fails_when_something_would_be_refused(synced: Synced, tmp_path: Path) -> None:
    filled(synced, "hubspot")
    with closing(opened(synced, "hubspot")) as adapter:
        adapter.provision([FieldSpec("note", "number", "Note")], [])
    result = storecue(tmp_path, "destination", "check", "hubspot")
    assert result.exit_code == 1
    assert "  field note: REFUSED (property, number), 1 profiles: property note exists with type" in result.stdout
    synced.hubspot.access_token = "another"
    assert storecue(tmp_path, "destination", "check", "hubspot").exit_code == 2


@given(st.text(max_size=300), st.integers(0, 260))
def test_a_cut_text_is_a_start_of_it_that_fits(value: str, longest: int) -> None:
    kept = fitted(value, longest)
    assert value.startswith(kept)
    assert len(kept.encode()) <= longest
    assert kept == value or len(value[: len(kept) + 1].encode()) > longest


def test_a_fit_without_a_limit_cuts_nothing() -> None:
    fit = Fit("note", "created", "property")
    assert fitted(NOTE * 9, fit.longest) == NOTE * 9


# --- refused before anything is pushed, rather than cut --------------------------------------------------------------


REFUSED = {
    "hubspot": ("email", "the person's own"),
    "mailchimp": ("first_name", "the person's own"),
}


@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_a_field_that_would_overwrite_the_address_or_a_name_is_refused(synced: Synced, kind: str) -> None:
    name, why = REFUSED[kind]
    filled(synced, kind, rules=RULES.replace("fields:\n", f"fields:\n  {name}: {{from: traits.note, type: text}}\n"))
    [refused] = check(synced, kind).refused()
    assert (refused.name, why in refused.message) == (name, True)
    assert_nothing_is_pushed(synced, kind, why)


@pytest.mark.parametrize("kind", ["hubspot", "mailchimp"])
def test_nothing_is_pushed_to_a_field_of_another_type(synced: Synced, kind: str) -> None:
    filled(synced, kind)
    with closing(opened(synced, kind)) as adapter:
        adapter.provision([FieldSpec("orders_count", "date", "Orders count")], ["vip"])
    assert_nothing_is_pushed(synced, kind, "give the field another name")


def test_nothing_is_pushed_when_a_slot_is_lacking(synced: Synced) -> None:
    held = len(synced.mailchimp.merge_fields())
    filled(synced, "mailchimp", options={"merge_field_slots": str(held + 1)})
    assert_nothing_is_pushed(synced, "mailchimp", "no room for")


def assert_nothing_is_pushed(synced: Synced, kind: str, why: str) -> None:
    """The destination waits for somebody to change the configuration, and says for what."""
    assert synced.push() == 0
    assert synced.vendors[kind].contacts() == {}
    [(state, message)] = synced.rows("SELECT state, message FROM account")
    assert state == "misconfigured"
    assert why in message


def test_names_alike_in_their_first_ten_letters_get_merge_fields_of_their_own(synced: Synced) -> None:
    alike = "fields:\n  average_order_value: {from: traits.total_spent}\n"
    alike += "  average_order_visits: {from: traits.orders_count}\n"
    filled(synced, "mailchimp", rules=RULES.replace("fields:\n", alike))
    assert check(synced, "mailchimp").refused() == []
    synced.push()
    kept = synced.mailchimp.contacts()[ADA]["fields"]
    tags = [tag for tag in kept if tag.startswith("AVERA")]
    assert len(tags) == 2
    assert {kept[tag] for tag in tags} == {1500.0, 1}


def test_a_property_of_klaviyo_refuses_nothing_and_cuts_nothing(synced: Synced) -> None:
    filled(synced, "klaviyo")
    assert check(synced, "klaviyo").refused() == []
    synced.push()
    assert synced.klaviyo.contacts()[ADA]["fields"]["note"] == NOTE
