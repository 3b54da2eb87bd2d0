"""What a field shows of a person, by its type."""

import orjson
import pytest

from connector.domain import DestinationConfig, FieldConfig
from connector.profiles import traits
from connector.sync import desired

LINES = [{"title": "Tent", "quantity": 1, "price": 199.0}, {"title": "Mug", "quantity": 2, "sku": None}]


def shown(type_, value):
    fields = [FieldConfig("f", "traits.t", type_, "F")]
    return desired.field_values(fields, {"t": value}, {})["f"]


@pytest.mark.parametrize(
    ("type_", "value", "expected"),
    [
        ("list", ["a", "b"], ["a", "b"]),
        ("list", "a", ["a"]),
        ("list", 3, [3]),
        ("list", [1, None, 2], [1, 2]),
        ("list", LINES, [LINES[0], {"title": "Mug", "quantity": 2}]),
        ("list", [], None),
        ("list", None, None),
        ("list", {"city": "Wien"}, [{"city": "Wien"}]),
        ("object", {"city": "Wien", "zip": None}, {"city": "Wien"}),
        ("object", {"a": {"b": None, "c": [None, 1]}}, {"a": {"c": [1]}}),
        ("object", {}, None),
        ("object", "Wien", None),
        ("text", ["a", "b"], "a, b"),
    ],
)
def test_lists_and_objects(type_, value, expected):
    assert shown(type_, value) == expected


def test_two_orders_of_keys_are_one_state():
    def text(value):
        about = {"email": "ada@example.com", "traits": {}, "consent": {}, "segments": ()}
        return desired.contact(DestinationConfig("k", "klaviyo", {}), **about, fields={"f": value})

    assert text({"b": 1, "a": {"d": 2, "c": 3}}) == text({"a": {"c": 3, "d": 2}, "b": 1})
    assert orjson.loads(text([{"b": 1}]))["fields"] == {"f": [{"b": 1}]}


def test_the_open_cart_has_lines_to_loop_over():
    cart = {"token": "c1", "items": [{"product_id": f"p{n}", "title": "Tent", "quantity": 1} for n in range(25)]}
    found = traits.from_carts([(1_795_000_000_000, cart)], set())
    assert found["cart_lines"] == cart["items"][:20]
    assert traits.from_carts([(1_795_000_000_000, cart)], {"c1"}) == {}
    assert "cart_lines" in traits.COMPUTED["carts"]
