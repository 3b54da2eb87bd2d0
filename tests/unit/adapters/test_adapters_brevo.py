"""Brevo's own: values in the type of their attribute, and a forecast that is what provisioning does."""

from typing import Any

import pytest
import responses

from adapters.brevo import Brevo, _value
from adapters.destination import FieldSpec, Settings
from adapters.errors import Misconfigured, Rejected

ATTRIBUTES = "https://api.brevo.com/v3/contacts/attributes"
FIELDS = [
    FieldSpec("total_spent", "number", "Total spent"),
    FieldSpec("city", "text", "City"),
    FieldSpec("member", "boolean", "Member"),
    FieldSpec("cart", "object", "Cart"),
    FieldSpec("firstname", "text", "First name"),
]


@pytest.mark.parametrize(
    ("kind", "value", "told"),
    [
        ("float", 12.5, 12.5),
        ("float", 3, 3),
        ("float", None, ""),
        ("boolean", False, False),
        ("date", "2025-11-21T10:00:00Z", "2025-11-21"),
        ("date", None, ""),
        ("text", 1e21, "1000000000000000000000"),
        ("text", ["M", 42], "M, 42"),
        ("multiple-choice", ["a", "b"], ["a", "b"]),
    ],
)
def test_values_in_the_type_of_their_attribute(kind: str, value: Any, told: Any) -> None:
    assert _value("field", kind, value) == told


@pytest.mark.parametrize(
    ("kind", "value"),
    [("float", "12"), ("float", True), ("float", float("nan")), ("boolean", 1), ("boolean", "true"), ("date", "soon")],
)
def test_what_brevo_would_drop_is_rejected_by_name(kind: str, value: Any) -> None:
    with pytest.raises(Rejected) as caught:
        _value("last_order_at", kind, value)
    assert caught.value.field == "last_order_at"


def test_what_is_foretold_is_what_provisioning_does(clock: Any) -> None:
    held = [{"name": "CITY", "category": "normal", "type": "text"}, {"name": "MEMBER", "category": "normal"}]
    held[1]["type"] = "float"
    with responses.RequestsMock() as mock:
        mock.get(ATTRIBUTES, json={"attributes": held})
        mock.post(f"{ATTRIBUTES}/normal/TOTAL_SPENT", status=201)
        mock.post(f"{ATTRIBUTES}/normal/STORECUE_TAGS", status=201)
        brevo = Brevo(Settings({"api_key": "xkeysib-1"}), clock)
        told = brevo.foresee(FIELDS, ["vip"])
        fates = {fit.name: fit.fate for fit in (*told.fields, *told.tags)}
        assert fates == {
            "total_spent": "created",
            "city": "exists",
            "member": "refused",
            "cart": "refused",
            "firstname": "refused",
            "vip": "created",
        }
        assert brevo.provision(FIELDS[:2], ["vip"]) == [
            "attribute TOTAL_SPENT (float)",
            "attribute STORECUE_TAGS",
            "tag vip",
        ]
        for spec in FIELDS[2:]:
            with pytest.raises(Misconfigured):
                brevo.provision([spec], [])
        brevo.close()
