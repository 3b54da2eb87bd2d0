import json
from typing import Any

import pytest
from conftest import RECEIVED_AT, Bodies, Normalise

from connector.domain import Entity, Event, Normalised
from connector.errors import UnprocessableEvent


def event(meant: Normalised, name: str) -> Event:
    return next(one for one in meant.events if one.name == name)


def entity(meant: Normalised, kind: str) -> Entity:
    return next(one for one in meant.entities if one.kind == kind)


def names(meant: Normalised) -> list[str]:
    return [one.name for one in meant.events]


@pytest.mark.parametrize("topic", ["orders/create", "orders/updated", "orders/paid"])
def test_every_order_topic_tells_the_same_fact(normalise: Normalise, recorded: Bodies, topic: str) -> None:
    assert event(normalise(topic, recorded("orders_create")), "Order Completed").id == (
        "shopify:shop:order:9223372036854770010:completed"
    )


def test_a_test_order_has_no_events_unless_allowed(normalise: Normalise, recorded: Bodies) -> None:
    body = recorded("orders_create_test")
    assert names(normalise("orders/create", body)) == []
    allowed = normalise("orders/create", body, test_orders=True)
    assert event(allowed, "Order Completed").properties["test"] is True
    assert entity(allowed, "order").data["test"] is True


def test_the_test_header_marks_a_trial_of_a_true_looking_order(normalise: Normalise, recorded: Bodies) -> None:
    meant = normalise("orders/create", recorded("orders_create"), x_shopify_test="true")
    assert names(meant) == []
    assert entity(meant, "order").data["test"] is True


def test_a_refund_of_a_test_payment_has_no_event(normalise: Normalise, recorded: Bodies) -> None:
    body = recorded("refunds_create")
    body["transactions"][0]["test"] = True
    assert names(normalise("refunds/create", body)) == []
    assert names(normalise("refunds/create", body, test_orders=True)) == ["Order Refunded"]


def test_shop_money_comes_before_the_plain_text_and_stands_in_for_nothing(
    normalise: Normalise, recorded: Bodies
) -> None:
    body = recorded("orders_create")
    body["total_price"] = "159.95"  # as if it were what the buyer saw
    assert entity(normalise("orders/create", body), "order").data["total"] == 148.1
    body["total_price_set"] = None
    assert entity(normalise("orders/create", body), "order").data["total"] == 159.95
    del body["total_price_set"], body["total_price"]
    assert normalise("orders/create", body).skipped == "stub"
    body["total_price"] = None
    with pytest.raises(UnprocessableEvent, match="/total_price"):
        normalise("orders/create", body)


@pytest.mark.parametrize(
    ("adjust", "amount"),
    [
        ({"transactions": []}, 129.0),
        ({"transactions": None}, 129.0),
        ({"transactions": [{"kind": "refund", "status": "success", "amount": "100.00", "currency": "EUR"}]}, 100.0),
        ({"transactions": [{"kind": "refund", "status": "success", "amount": "100.00", "currency": None}]}, 100.0),
        ({"transactions": [{"kind": "refund", "status": "failure", "amount": "100.00", "currency": "EUR"}]}, 0.0),
        ({"transactions": [{"kind": "void", "status": "success", "amount": "9.00", "currency": "EUR"}]}, 129.0),
        ({"order_adjustments": [{"amount": "-5.90", "tax_amount": "-0.94", "kind": "shipping_refund"}]}, 135.84),
        ({"order_adjustments": [{"amount": "29.00", "tax_amount": "0.00", "kind": "refund_discrepancy"}]}, 100.0),
        ({"refund_line_items": [], "order_adjustments": [{"amount": "-12.00"}]}, 12.0),
    ],
)
def test_what_a_refund_gave_back(normalise: Normalise, recorded: Bodies, adjust: Any, amount: float) -> None:
    body = {**recorded("refunds_create"), "order_adjustments": [], **adjust}
    meant = normalise("refunds/create", body)
    assert entity(meant, "refund").data["amount"] == amount
    assert event(meant, "Order Refunded").properties["total"] == amount
    assert meant.order_ref == "9223372036854770010"


def test_a_refund_inside_an_order_is_the_same_refund(normalise: Normalise, recorded: Bodies) -> None:
    alone = normalise("refunds/create", recorded("refunds_create"))
    inside = normalise("orders/updated", {**recorded("orders_create"), "refunds": [recorded("refunds_create")]})
    assert event(inside, "Order Refunded") == event(alone, "Order Refunded")
    assert entity(inside, "refund") == entity(alone, "refund")


@pytest.mark.parametrize(
    ("id_", "gid", "expected"),
    [
        (820982911946154500, "gid://shopify/Order/820982911946154508", "820982911946154508"),
        (820982911946154508, None, "820982911946154508"),
        ("820982911946154508", None, "820982911946154508"),
        (18446744073709551615, None, "18446744073709551615"),
        (1.5e20, "gid://shopify/Order/820982911946154508", "820982911946154508"),
        (7, "https://www.example.com/", "7"),
    ],
)
def test_ids_are_exact(normalise: Normalise, recorded: Bodies, id_: Any, gid: str | None, expected: str) -> None:
    body = {**recorded("orders_create"), "id": id_, "admin_graphql_api_id": gid}
    assert entity(normalise("orders/create", body), "order").id == expected


@pytest.mark.parametrize("id_", [1.0, 10**25, None, True, -1, 0, "", "abc", [], {}])
def test_an_id_that_is_none_is_unprocessable(normalise: Normalise, recorded: Bodies, id_: Any) -> None:
    body = {**recorded("orders_create"), "id": id_, "admin_graphql_api_id": None}
    with pytest.raises(UnprocessableEvent, match=r"^/id: ") as refused:
        normalise("orders/create", body)
    assert refused.value.reason == "bad_id"


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("/line_items/1/price", "a lot", "bad_money"),
        ("/line_items/0/quantity", 1.5, "bad_number"),
        ("/line_items/0", None, "bad_type"),
        ("/line_items", "none", "bad_type"),
        ("/customer/email", 5, "bad_type"),
        ("/customer", [], "bad_type"),
        ("/updated_at", "yesterday", "bad_instant"),
        ("/updated_at", 1795255205, "bad_instant"),
        ("/total_price_set", {"shop_money": "5"}, "bad_money"),
        ("/total_price", "1e5", "bad_money"),
        ("/total_price", "NaN", "bad_money"),
        ("/test", "false", "bad_type"),
    ],
)
def test_a_fault_is_named_by_its_place(
    normalise: Normalise, recorded: Bodies, path: str, value: Any, reason: str
) -> None:
    body: Any = recorded("orders_create")
    *parents, last = path.strip("/").split("/")
    part = body
    for step in parents:
        part = part[int(step)] if isinstance(part, list) else part[step]
    part[int(last) if isinstance(part, list) else last] = value
    with pytest.raises(UnprocessableEvent) as refused:
        normalise("orders/create", body)
    assert refused.value.reason == reason
    assert refused.value.message.startswith(f"{path}: ")


def test_ten_thousand_lines_are_an_order_with_a_hundred_products(normalise: Normalise, recorded: Bodies) -> None:
    body = recorded("orders_create")
    body["line_items"] = [{"product_id": n, "price": "1.00", "quantity": 1} for n in range(1, 10_001)]
    assert len(event(normalise("orders/create", body), "Order Completed").properties["products"]) == 100


def test_negative_quantities_are_taken_as_stated_but_put_nothing_in_a_cart(
    normalise: Normalise, recorded: Bodies
) -> None:
    order = recorded("orders_create")
    order["line_items"][0]["quantity"] = -1
    assert event(normalise("orders/create", order), "Order Completed").properties["products"][0]["quantity"] == -1
    cart = recorded("carts_create")
    cart["line_items"] = [{**cart["line_items"][0], "quantity": -1}]
    assert names(normalise("carts/update", cart)) == []


def test_a_gift_is_the_buyers(normalise: Normalise, recorded: Bodies) -> None:
    body = {**recorded("orders_create"), "email": "friend@example.com", "contact_email": "friend@example.com"}
    assert [one.value for one in normalise("orders/create", body).identifiers if one.kind == "email"] == [
        "marta.lindqvist@example.com"
    ]
    body["customer"]["email"] = None
    assert [one.value for one in normalise("orders/create", body).identifiers if one.kind == "email"] == [
        "friend@example.com"
    ]


@pytest.mark.parametrize(
    ("stated", "at"),
    [
        ({"processed_at": "2026-11-20T10:00:00Z"}, 1_795_168_800_000),
        ({"processed_at": "1970-01-01T00:00:00Z", "created_at": "2026-11-20T10:00:00Z"}, 1_795_168_800_000),
        ({"processed_at": None, "created_at": "0001-01-01T00:00:00+05:00"}, RECEIVED_AT),
        ({"processed_at": "", "created_at": "9999-12-31T23:59:59-17:00"}, RECEIVED_AT),
    ],
)
def test_when_an_order_was_placed(normalise: Normalise, recorded: Bodies, stated: Any, at: int) -> None:
    meant = normalise("orders/create", {**recorded("orders_create"), **stated})
    assert event(meant, "Order Completed").at == entity(meant, "order").data["placed_at"] == at


def test_a_version_a_little_ahead_of_our_clock_is_believed(normalise: Normalise, recorded: Bodies) -> None:
    body = {**recorded("orders_create"), "updated_at": "2026-11-21T10:00:35Z"}
    assert entity(normalise("orders/updated", body), "order").updated_at == RECEIVED_AT + 30_000


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not_json"),
        (b"\xff", "not_json"),
        (b'{"id":1,"total_price":NaN}', "not_json"),
        (b'{"id":1,"total_price":1e400}', "not_json"),
        (b'{"id":1,"total_price":-Infinity}', "not_json"),
        (b'{"id":1,"name":"\\ud800"}', "not_json"),
        (b"[" * 100_000, "not_json"),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, "not_json"),
        (b"[]", "not_an_object"),
        (b"null", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b'{"id":1,"name":"a\\u0000b"}', "nul_character"),
        (b'{"id":1,"a":[{"b\\u0000":1}]}', "nul_character"),
    ],
)
@pytest.mark.parametrize("topic", ["orders/create", "customers/update", "web_pixels/product_viewed"])
def test_bodies_that_are_no_documents(normalise: Normalise, topic: str, body: bytes, reason: str) -> None:
    with pytest.raises(UnprocessableEvent) as refused:
        normalise(topic, body)
    assert refused.value.reason == reason


def test_an_escaped_backslash_before_u0000_is_no_nul(normalise: Normalise, recorded: Bodies) -> None:
    body = json.dumps({**recorded("orders_create"), "name": "C:\\u0000"}).encode()
    assert entity(normalise("orders/create", body), "order").data["name"] == "C:\\u0000"
