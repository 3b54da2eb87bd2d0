"""Profiles that may be one person: found once a day, shown with a score, merged or dismissed by people."""

from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from connector.app import create_app
from connector.cli import main
from connector.clock import DAY, MINUTE
from connector.profiles.duplicates import store
from connector.profiles.duplicates.likeness import Likeness, keys, one_edit_apart, score
from connector.profiles.duplicates.search import DuplicateSearch
from connector.web.store import create_token
from tests.conftest import NOON, Shop, iso


def customer(id: int, email: str, **more: Any) -> dict[str, Any]:
    return {"id": id, "email": email, "created_at": iso(NOON - DAY), "updated_at": iso(NOON), **more}


def look(shop: Shop, at: int = NOON + 2 * DAY) -> list[tuple[int, int, float, list[str]]]:
    """The pairs after a whole pass at this instant."""
    search = DuplicateSearch(shop.services.database)
    while search.step(at):
        pass
    with shop.services.database.read() as connection:
        rows = store.suspects(connection, limit=100)
    return [(row["low"], row["high"], row["score"], row["because"]) for row in rows]


def make(shop: Shop, *customers: dict[str, Any]) -> None:
    for one in customers:
        shop.deliver("customers/create", one)
        shop.work()


PARIS = {"default_address": {"city": "Paris", "country_code": "FR"}}


@pytest.mark.parametrize(
    ("left", "right", "pair"),
    [
        ({"phone": "+33612345678"}, {"phone": "+33612345678"}, (0.6, ["phone"])),
        (
            {"first_name": "Zoë", "last_name": "Martin", **PARIS},
            {"first_name": "zoe", "last_name": "MARTIN", **PARIS},
            (0.7, ["place"]),
        ),
        ({"email": "zoe.martin@example.com"}, {"email": "zoe.martin@exampl.com"}, (0.4, ["mail"])),
        ({"email": "zoe.martin@example.com"}, {"email": "zoe.marin@example.com"}, (0.4, ["mail"])),
        (
            {"email": "zoe.martin@example.com", "phone": "+33612345678"},
            {"email": "zoe.matrin@example.com", "phone": "+33612345678"},
            (0.76, ["mail", "phone"]),
        ),
    ],
)
def test_pairs(shop: Shop, left: dict[str, Any], right: dict[str, Any], pair: tuple[float, list[str]]) -> None:
    make(
        shop,
        customer(1, **{"email": "left@here.example", **left}),
        customer(2, **{"email": "right@there.example", **right}),
    )
    assert look(shop) == [(1, 2, *pair)]
    assert shop.rows("SELECT count(*) FROM profile WHERE merged_into IS NULL") == [(2,)]


def test_what_is_unlike_is_no_pair(shop: Shop) -> None:
    make(
        shop,
        customer(1, "zoe.martin@example.com", first_name="Zoe", last_name="Martin", **PARIS),
        customer(2, "zoe.martins2@example.com", first_name="Zoe", last_name="Martin"),
        customer(3, "info@example.com"),
        customer(4, "info@example.org"),
    )
    assert look(shop) == []


def test_what_a_crowd_has_in_common_says_nothing(shop: Shop) -> None:
    for number in range(60):
        shop.deliver("customers/create", customer(number + 1, f"guest{number:03}@pos.example", phone="+33612345678"))
    shop.work()
    assert look(shop) == []


def test_a_pass_is_made_once_a_day_and_drops_what_holds_no_more(shop: Shop) -> None:
    make(
        shop, customer(1, "a@here.example", phone="+33612345678"), customer(2, "b@there.example", phone="+33612345678")
    )
    shop.at(NOON + 2 * DAY)  # the worker itself, when it has nothing else to do
    assert len(shop.rows("SELECT * FROM suspect")) == 1
    shop.deliver("customers/update", customer(2, "b@there.example", phone=None) | {"updated_at": iso(NOON + 1)})
    shop.at(NOON + 2 * DAY + MINUTE)
    assert len(shop.rows("SELECT * FROM suspect")) == 1
    shop.at(NOON + 4 * DAY)
    assert shop.rows("SELECT * FROM suspect") == []


def test_people_decide(shop: Shop) -> None:
    make(
        shop,
        customer(1, "a@here.example", phone="+33612345678"),
        customer(2, "b@there.example", phone="+33612345678"),
        customer(3, "c@third.example", phone="+33612345678"),
    )
    assert len(look(shop)) == 3
    data = ["--data", str(shop.services.settings.data_dir)]
    shown = CliRunner().invoke(main, ["profile", "duplicates", *data]).output
    assert "0.60\t1 and 2\tthe same phone" in shown and "3 of 3 pairs" in shown
    with shop.services.database.tx() as tx:
        token = create_token(tx, "test", shop.time)
    client = create_app(services=shop.services, now=lambda: shop.time).test_client()
    call = {"headers": {"Authorization": f"Bearer {token}"}}
    page = client.get("/api/v1/duplicates?limit=2", **call).json
    rest = client.get(f"/api/v1/duplicates?limit=2&cursor={page['next']}", **call).json
    assert [(one["low"], one["high"]) for one in page["items"] + rest["items"]] == [(1, 2), (1, 3), (2, 3)]
    assert client.post("/api/v1/duplicates/1/3/dismiss", **call).json == {"dismissed": True}
    assert client.post("/api/v1/duplicates/1/3/dismiss", **call).status_code == 409
    assert client.post("/api/v1/duplicates/1/2/merge", **call).json == {"profile": 1}
    assert client.post("/api/v1/duplicates/1/2/merge", **call).status_code == 409
    assert shop.rows("SELECT because, source FROM merge") == [("somebody said so", "person")]
    assert look(shop, NOON + 4 * DAY) == []  # 1 and 3 are two people, 2 is part of 1
    assert CliRunner().invoke(main, ["profile", "merge", "1", "3", *data]).output == "Both are profile 1 now\n"
    assert CliRunner().invoke(main, ["profile", "unmerge", "2", "--yes", *data]).exit_code == 0
    assert CliRunner().invoke(main, ["profile", "dismiss", "1", "3", *data]).exit_code == 1


@given(
    st.text("abc@.", max_size=8),
    st.integers(0, 8),
    st.sampled_from("abc"),
    st.sampled_from("change add drop swap".split()),
)
def test_one_edit(text: str, where: int, letter: str, edit: str) -> None:
    where = min(where, len(text))
    edited = {
        "change": text[:where] + letter + text[where + 1 :],
        "add": text[:where] + letter + text[where:],
        "drop": text[:where] + text[where + 1 :],
        "swap": text[:where] + text[where : where + 2][::-1] + text[where + 2 :],
    }[edit]
    assert one_edit_apart(text, edited) == (text != edited) == one_edit_apart(edited, text)


@pytest.mark.parametrize(("left", "right"), [("abcd", "badc"), ("abc", "abcde"), ("abc", "xyz"), ("same", "same")])
def test_more_than_one_edit(left: str, right: str) -> None:
    assert not one_edit_apart(left, right)


@given(st.text("abcdef", min_size=8, max_size=14), st.integers(0, 13), st.sampled_from(["change", "add", "drop"]))
def test_addresses_one_edit_apart_meet_in_a_key(local: str, where: int, edit: str) -> None:
    where = min(where, len(local) - 1)
    other = local[:where] + {"change": "z", "add": "z" + local[where], "drop": ""}[edit] + local[where + 1 :]
    left, right = (keys(Likeness(1, f"{one}@example.com", {})) for one in (local, other))
    assert left & right


def test_a_score_grows_with_what_two_have_in_common() -> None:
    assert score([]) == 0 < score(["mail"]) < score(["mail", "phone"]) < score(["mail", "phone", "place"]) < 1
