"""Mappings: what a value may be, and what is told about one that is wrong."""

import json
from typing import Any

import pytest

from connector.domain import Delivery, Normalised, RawRequest, StoreInfo
from connector.errors import DefinitionError, RejectedDelivery, UnprocessableEvent
from connector.sources.generic import Generic
from connector.sources.mapping import Scope, pick

RECEIVED_AT = 1_795_255_205_000  # 2026-11-21T10:00:05Z
BODY = {
    "a": {"b": [{"c": 1}, {"c": None}, {"d": 3}, {"c": 4}]},
    "first name": "Ada",
    "empty": "",
    "zero": 0,
    "no": False,
    "money": "12.50",
}
ITEM = {"sku": "X1"}


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("$.a.b[0].c", 1),
        ("$.a.b[*].c", [1, 4]),
        ("$.a.b[7].c", None),
        ("$.a.b.c", None),
        ("$.a[0]", None),
        ("$['first name']", "Ada"),
        ('$["first name"]', "Ada"),
        ("@.sku", "X1"),
        ("@", ITEM),
        ("$.nothing[*].at.all", None),
        ("$.zero[*]", []),
        ("A constant", "A constant"),
        (7, 7),
        (True, True),
        ({"path": "$.empty", "default": "d"}, "d"),
        ({"path": "$.zero", "default": 5}, 0),
        ({"path": "$.no", "default": True}, False),
        ({"first": ["$.empty", "$.nothing", "$.money"], "type": "number"}, 12.5),
        ({"first": ["$.nothing"], "default": "d"}, "d"),
        ({"first": ["$.nothing", "a constant"]}, "a constant"),
        ({"value": "$ is no path here"}, "$ is no path here"),
        ({"path": "$.zero", "names": {"0": "none"}}, "none"),
        ({"path": "$.no", "names": {"false": "never"}}, "never"),
        ({"path": "$.money", "names": {"1": "one"}}, "12.50"),
        ({"path": "$.zero", "type": "text"}, "0"),
        ({"value": "1795255200", "type": "instant"}, 1_795_255_200_000),
        ({"value": 1_795_255_200_123, "type": "instant"}, 1_795_255_200_123),
        ({"value": "2026-11-21T10:00:00Z", "type": "instant"}, 1_795_255_200_000),
        ({"value": "Yes", "type": "flag"}, True),
        ({"value": "a, b", "type": "list"}, ["a", "b"]),
    ],
)
def test_what_a_value_may_be(written: Any, found: Any) -> None:
    value = pick(written, "/x")(Scope(BODY, ITEM))
    assert value == found and type(value) is type(found)


@pytest.mark.parametrize(
    ("written", "pointer"),
    [
        ("$.a..b", "/x"),
        ("$a", "/x"),
        ("$.a[", "/x"),
        ("$.a[-1]", "/x"),
        ("$['it''s']", "/x"),
        ([], "/x"),
        (None, "/x"),
        ({}, "/x"),
        ({"path": "a"}, "/x/path"),
        ({"path": 1}, "/x/path"),
        ({"path": "$.a", "value": 1}, "/x"),
        ({"first": []}, "/x/first"),
        ({"first": ["$.a", "$.["]}, "/x/first/1"),
        ({"path": "$.a", "type": "money"}, "/x/type"),
        ({"path": "$.a", "names": []}, "/x/names"),
        ({"path": "$.a", "else": 1}, "/x/else"),
    ],
)
def test_what_is_wrong_with_a_value_and_where(written: Any, pointer: str) -> None:
    with pytest.raises(DefinitionError) as wrong:
        pick(written, "/x")
    assert wrong.value.pointer == pointer


@pytest.mark.parametrize(
    ("written", "value"),
    [("number", "twelve"), ("whole", 1.5), ("flag", "perhaps"), ("instant", "soon"), ("list", 3), ("text", {})],
)
def test_what_cannot_be_read_names_the_place(written: str, value: Any) -> None:
    read = pick({"path": "$.v", "type": written}, "/properties/v")
    with pytest.raises(UnprocessableEvent, match=r"^/properties/v: must be"):
        read(Scope({"v": value}, None))


@pytest.mark.parametrize(
    ("options", "pointer"),
    [
        ({}, "/event"),
        ({"event": "E", "sometimes": 1}, "/sometimes"),
        ({"event": "E", "each": "items"}, "/each"),
        ({"event": "E", "person": []}, "/person"),
        ({"event": "E", "person": {"mail": "$.a"}}, "/person/mail"),
        ({"event": "E", "traits": {"First Name": "$.a"}}, "/traits/First Name"),
        ({"event": "E", "consent": {"post": "$.a"}}, "/consent/post"),
        ({"event": "E", "properties": {"a": {"path": "b"}}}, "/properties/a/path"),
        ({"event": "E", "signature": "hmac"}, "/signature"),
        ({"event": "E", "signature": {}}, "/signature/header"),
        ({"event": "E", "signature": {"header": "X Y"}}, "/signature/header"),
        ({"event": "E", "signature": {"header": "X", "algorithm": "md5"}}, "/signature/algorithm"),
        ({"event": "E", "signature": {"header": "X", "signed": "{timestamp}{body}"}}, "/signature/signed"),
        ({"event": "E", "signature": {"header": "X", "timestamp": "T", "signed": "{body}"}}, "/signature/signed"),
        ({"event": "E", "signature": {"header": 1}}, "/signature/header"),
    ],
)
def test_what_is_wrong_with_options_and_where(options: dict[str, Any], pointer: str) -> None:
    with pytest.raises(DefinitionError) as wrong:
        Generic().configured(options)
    assert wrong.value.pointer == pointer


def meant(options: dict[str, Any], body: Any) -> list[Normalised]:
    source = Generic().configured(options)
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = RawRequest("POST", "/", {}, raw, received_at=RECEIVED_AT)
    return [
        source.normalise(
            Delivery(
                "shop", one.delivery_id, one.topic, RECEIVED_AT, one.headers, raw if one.body is None else one.body
            ),
            StoreInfo(currency="EUR"),
        )
        for one in source.claim(request)
    ]


def test_one_id_may_be_of_two_facts() -> None:
    options = {"event": "$.type", "id": "$.id", "person": {"email": "$.mail"}}
    ids = [
        event.id
        for kind in ("booked", "paid", "paid")
        for one in meant(options, {"type": kind, "id": 7, "mail": "a@example.org"})
        for event in one.events
    ]
    assert len(ids) == 3 and len(set(ids)) == 2


def test_nothing_happens_after_it_came() -> None:
    options = {"event": "E", "at": "$.at", "person": {"email": "$.mail"}}
    [one] = meant(options, {"at": "2999-01-01", "mail": "a@example.org"})
    assert one.events[0].at == RECEIVED_AT


def test_somebody_must_be_named() -> None:
    with pytest.raises(UnprocessableEvent) as nobody:
        meant({"event": "E", "person": {"email": "$.mail"}}, {"mail": "no address"})
    assert nobody.value.reason == "nobody"


def test_the_name_of_somebody_known_by_address_alone_is_kept_and_the_address_is_no_id() -> None:
    options = {"event": "E", "person": {"email": "$.mail"}, "traits": {"first_name": "$.name"}}
    [one] = meant(options, {"mail": "Ada@example.org", "name": "Ada"})
    [entity] = one.entities
    assert entity.data["first_name"] == "Ada"
    assert "@" not in entity.id


@pytest.mark.parametrize("box", [None, "", "no", False, "0", "whatever"])
def test_an_unticked_box_says_nothing(box: Any) -> None:
    options = {"event": "E", "person": {"email": "$.mail"}, "consent": {"email": "$.box"}}
    [one] = meant(options, {"mail": "a@example.org", "box": box})
    assert one.consents == ()


@pytest.mark.parametrize("box", ["yes", True, "ON", 1, "subscribed"])
def test_a_ticked_one_does(box: Any) -> None:
    options = {"event": "E", "person": {"email": "$.mail"}, "consent": {"email": "$.box"}}
    [one] = meant(options, {"mail": "a@example.org", "box": box})
    assert [consent.state for consent in one.consents] == ["subscribed"]


def test_a_list_of_nothing_is_no_delivery() -> None:
    options = {"each": "$.items", "event": "E", "person": {"email": "@.mail"}}
    assert meant(options, {"items": []}) == meant(options, {}) == []


def test_too_many_items_are_refused() -> None:
    options = {"each": "$", "event": "E", "person": {"email": "@.mail"}}
    with pytest.raises(RejectedDelivery) as refused:
        meant(options, [{}] * 2001)
    assert refused.value.status == 413


def test_a_large_body_around_many_items_is_not_multiplied() -> None:
    options = {"each": "$.items", "event": "E", "person": {"email": "@.mail"}}
    with pytest.raises(RejectedDelivery) as refused:
        meant(options, {"items": [{}] * 1000, "around": "x" * 1_000_000})
    assert refused.value.status == 413


@pytest.mark.parametrize(
    "headers",
    [{"authorization": "Bearer hush"}, {"authorization": "bearer hush "}, {"x-storecue-token": "hush"}, {}],
)
def test_where_a_token_may_be(headers: dict[str, str]) -> None:
    query = "" if headers else "a=1&token=hush"
    Generic().verify(RawRequest("POST", "/", headers, b"{}", query), ["newer", "hush"])


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({}, ""),
        ({"authorization": "Basic hush"}, ""),
        ({"authorization": "Bearer "}, ""),
        ({"x-storecue-token": "hus"}, ""),
        ({"x-storecue-token": "wrong"}, "token=hush"),
        ({}, "token="),
        ({}, "&" * 5000),
        ({"x-storecue-token": "\udcff"}, ""),
    ],
)
def test_any_other_is_none(headers: dict[str, str], query: str) -> None:
    with pytest.raises(RejectedDelivery) as refused:
        Generic().verify(RawRequest("POST", "/", headers, b"{}", query), ["hush"])
    assert refused.value.status in (400, 401)
    assert "hush" not in refused.value.message


def test_json_that_is_called_a_form_is_json() -> None:
    source = Generic().configured({"event": "$.e", "person": {"email": "$.mail"}})
    for body, headers in ((b' {"e": "E"}', {}), (b"e=E", {"form": "form"})):
        type_ = {"content-type": "application/x-www-form-urlencoded"}
        [claim] = source.claim(RawRequest("POST", "/", type_, body, received_at=RECEIVED_AT))
        assert (claim.topic, claim.headers) == ("E", headers)
