import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marshmallow import EXCLUDE, ValidationError

from connector.sources.contacts import read_email, read_phone
from connector.sources.fields import Unreadable, instant, money, texts, whole
from connector.sources.instants import happened_at, read_instant, version_at
from connector.sources.shopify import schemas

ORDER: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "recorded" / "sources" / "shopify" / "orders_create.json").read_text()
)["body"]
JUNK = [None, "", "x", 1, -1, 1.5, True, [], {}, "12.50", "2026-11-21", "gid://shopify/Order/1", [None], [{}]]


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(ORDER)), st.sampled_from(JUNK), min_size=1, max_size=3))
def test_the_fast_twin_and_marshmallow_are_of_one_mind(bent: dict[str, Any]) -> None:
    document = {**copy.deepcopy(ORDER), **bent}
    try:
        fast: Any = schemas.ORDER.read(document)
    except Unreadable:
        fast = None
    try:
        slow: Any = schemas.OrderFields(unknown=EXCLUDE).load(document)
    except ValidationError:
        slow = None
    assert fast == slow


@pytest.mark.parametrize(
    ("stated", "amount"),
    [("12.50", 12.5), ("1222", 1222.0), ("-3.1", -3.1), ("0.0", 0.0), (89.99, 89.99), (5, 5.0), ("", None)],
)
def test_money(stated: Any, amount: float | None) -> None:
    assert money(stated) == amount


@pytest.mark.parametrize("stated", ["1e3", "NaN", "inf", "1,50", " 1", "1_000", "٣", "$5", True, 1e300, [], {}])
def test_not_money(stated: Any) -> None:
    with pytest.raises(Unreadable):
        money(stated)


@pytest.mark.parametrize(("stated", "number"), [(3, 3), (3.0, 3), ("3", 3), (-2, -2), ("-2", -2), (0, 0)])
def test_whole(stated: Any, number: int) -> None:
    assert whole(stated) == number


@pytest.mark.parametrize("stated", [1.5, "1.5", "", True, 2**60, float(2**60), None, "--1"])
def test_not_whole(stated: Any) -> None:
    with pytest.raises(Unreadable):
        whole(stated)


def test_texts() -> None:
    assert texts("a, b,,c ") == ["a", "b", "c"]
    assert texts(["a", " "]) == ["a"]
    with pytest.raises(Unreadable):
        texts(["a", 1])


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-21T10:00:05Z", 1_795_255_205_000),
        ("2026-11-21T05:00:05-05:00", 1_795_255_205_000),
        ("2026-11-21T15:30:05.123+05:30", 1_795_255_205_123),
        ("2026-11-21T10:00:05.123456789Z", 1_795_255_205_123),
        ("2026-11-21 10:00:05.000Z", 1_795_255_205_000),
        ("2026-11-21T10:00:05", 1_795_255_205_000),
    ],
)
def test_instants(text: str, at: int) -> None:
    assert read_instant(text) == at
    assert instant(text) == at


def test_what_happened_is_plausible_and_past() -> None:
    now = 1_795_255_205_000
    assert happened_at(now, now - 5) == now - 5
    assert happened_at(now, now + 5) == now
    assert happened_at(now, None, 0, now - 5) == now - 5
    assert happened_at(now, 0) == now
    assert version_at(now, now + 5) == now + 5
    assert version_at(now, now + 86_400_000) == now
    assert version_at(now, None) == now


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("Marta.Lindqvist@Example.COM", "marta.lindqvist@example.com"),
        ("  a+tag@sub.example.co.uk ", "a+tag@sub.example.co.uk"),
        ("o'brien@example.com", "o'brien@example.com"),
        ("müller@exämple.de", "müller@exämple.de"),
        ("a..b@example.com", None),
        ("a@example", None),
        ("a b@example.com", None),
        ("a@-example.com", None),
        ("x" * 65 + "@example.com", None),
        ("a@" + "b." * 130 + "com", None),
        ("<script>@example.com", None),
        ("", None),
        (None, None),
    ],
)
def test_addresses(text: str | None, address: str | None) -> None:
    assert read_email(text) == address


@pytest.mark.parametrize(
    ("text", "country", "number"),
    [
        ("+4915123456789", None, "+4915123456789"),
        ("+49 (151) 2345-6789", None, "+4915123456789"),
        ("0151 23456789", "DE", "+4915123456789"),
        ("0151 23456789", "de", "+4915123456789"),
        ("(613) 555-0142", "CA", "+16135550142"),
        ("0151 23456789", None, None),
        ("0151 23456789", "Germany", None),
        ("0151 23456789", "ZZ", None),
        ("555-555-SHIP", "XX", None),
        ("+0123456789", None, None),
        ("12", "DE", None),
        ("1" * 200, "DE", None),
        ("garbage", "DE", None),
        (None, "DE", None),
    ],
)
def test_numbers(text: str | None, country: str | None, number: str | None) -> None:
    assert read_phone(text, country) == number
