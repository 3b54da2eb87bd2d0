"""Merge fields against the fake: the map that is kept, what people do to them at Mailchimp, slots, texts, lists."""

from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest

from adapters.destination import Change, FieldSpec, Outcome, Settings, Wanted
from adapters.errors import Misconfigured
from adapters.mailchimp import Mailchimp
from connector.simulator.vendors import FakeMailchimp

SPECS = (
    FieldSpec("average_order_value", "number", "Average order value"),
    FieldSpec("note", "text", "Note"),
    FieldSpec("skus", "list", "Products bought"),
)


@pytest.fixture
def fake(clock: Any) -> Iterator[FakeMailchimp]:
    with FakeMailchimp(api_key="abc-us21", clock=clock, keep_bodies=True) as vendor:
        yield vendor


def opened(fake: FakeMailchimp, clock: Any, notes: MutableMapping[str, str], **options: str) -> Mailchimp:
    settings = Settings(
        {"api_key": "abc-us21"},
        base_url=fake.url,
        allow_insecure=True,
        list_id="a1b2c3d4e5",
        options=options,
        jobs=notes,
    )
    return Mailchimp(settings, clock)


def push(adapter: Mailchimp, **fields: Any) -> Outcome:
    [outcome] = adapter.apply([Change("k", "ada@example.com", "shop:1", fields=fields)])
    return outcome


def values(fake: FakeMailchimp) -> dict[str, Any]:
    """Ada's values by label."""
    held = fake.contacts()["ada@example.com"]["fields"]
    return {field["name"]: held.get(tag, "") for tag, field in fake.merge_fields().items()}


def tag_of(fake: FakeMailchimp, label: str) -> str:
    return next(tag for tag, field in fake.merge_fields().items() if field["name"] == label)


def test_a_renamed_field_stays_ours_by_the_map_that_is_kept(fake: FakeMailchimp, clock: Any) -> None:
    notes: dict[str, str] = {}
    adapter = opened(fake, clock, notes)
    adapter.provision(SPECS, [])
    adapter.close()
    fake.rename_merge_field("NOTE", name="Anmerkung", new_tag="REMARK")
    fake.rename_merge_field(tag_of(fake, "Average order value"), name="Note")  # as if it were another of ours
    again = opened(fake, clock, notes)
    assert again.provision(SPECS, []) == []
    assert push(again, note="likes tents", average_order_value=12.5).reason == ""
    assert values(fake)["Anmerkung"] == "likes tents"
    assert values(fake)["Note"] == 12.5
    [held] = again.read([Wanted("k", "ada@example.com", fields={"note": "likes tents", "average_order_value": 12.5})])
    assert held.fields == {"note": "likes tents", "average_order_value": 12.5}
    again.close()


def test_a_field_renamed_while_we_run_is_followed(fake: FakeMailchimp, clock: Any) -> None:
    adapter = opened(fake, clock, {})
    adapter.provision(SPECS, [])
    push(adapter, note="first")
    fake.rename_merge_field("NOTE", name="Anmerkung", new_tag="REMARK")
    told = push(adapter, note="second")  # the answer shows that there is no NOTE any more
    assert (told.status, told.reason, told.field) == ("applied", "left_out", "note")
    assert push(adapter, note="second").reason == ""
    assert values(fake)["Anmerkung"] == "second"
    adapter.close()


def test_a_map_that_is_lost_is_made_again_from_labels(fake: FakeMailchimp, clock: Any) -> None:
    adapter = opened(fake, clock, {})
    adapter.provision(SPECS, [])
    adapter.close()
    notes: dict[str, str] = {}
    again = opened(fake, clock, notes)
    assert again.provision(SPECS, []) == []
    assert "average_order_value" in notes["merge_fields of a1b2c3d4e5"]
    again.close()


def test_a_deleted_field_is_left_out_and_told_until_it_is_provisioned_anew(fake: FakeMailchimp, clock: Any) -> None:
    notes: dict[str, str] = {}
    adapter = opened(fake, clock, notes)
    adapter.provision(SPECS, [])
    fake.delete_merge_field("NOTE")
    told = push(adapter, note="likes tents", average_order_value=12.5)
    assert (told.status, told.reason, told.field) == ("applied", "left_out", "note")
    assert "no merge field for it" in told.message
    assert values(fake)["Average order value"] == 12.5
    assert adapter.provision(SPECS, []) == ["merge field NOTE (Note)"]
    assert push(adapter, note="likes tents").reason == ""
    assert values(fake)["Note"] == "likes tents"
    adapter.close()


def test_slots_are_the_plans_as_far_as_the_audience_shows_it(clock: Any) -> None:
    many = [FieldSpec(f"field_{n}", "text", f"Field {n}") for n in range(60)]
    with FakeMailchimp(api_key="abc-us21", clock=clock, slots=80) as fake:
        adapter = opened(fake, clock, {})
        assert adapter.foresee(many, []).slots == (60, 25)
        with pytest.raises(Misconfigured, match="5 of 30 merge fields: no room for field_25"):
            adapter.provision(many, [])
        premium = opened(fake, clock, {}, merge_field_slots="80")
        premium.provision(many[:30], [])  # 35 now: only Premium has so many
        assert adapter.foresee(many, []).slots == (30, 45)
        assert len(adapter.provision(many, [])) == 30
        adapter.close()
        premium.close()


def test_a_list_is_a_text_and_an_object_is_refused_before_anything_is_made(fake: FakeMailchimp, clock: Any) -> None:
    adapter = opened(fake, clock, {})
    adapter.provision(SPECS, [])
    push(adapter, skus=["tent", "stove"])
    assert values(fake)["Products bought (skus)"] == "tent, stove"
    specs = [FieldSpec("extra", "text", "Extra"), FieldSpec("cart", "object", "Cart")]
    [extra, cart] = adapter.foresee(specs, []).fields
    assert (extra.fate, cart.fate) == ("created", "refused")
    with pytest.raises(Misconfigured, match="cart: a merge field holds no object"):
        adapter.provision(specs, [])
    assert "Extra" not in values(fake)
    adapter.close()


def test_a_person_deleted_for_good_cannot_come_back_by_a_push(fake: FakeMailchimp, clock: Any) -> None:
    adapter = opened(fake, clock, {})
    adapter.provision(SPECS, [])
    push(adapter, note="likes tents")
    adapter.forget("ada@example.com")
    told = push(adapter, note="likes tents")
    assert (told.status, told.reason) == ("skipped", "forgotten")
    assert told.message.startswith("they were deleted for good: only they themselves can join again")
    assert fake.contacts() == {}
    adapter.close()
