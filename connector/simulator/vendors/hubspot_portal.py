"""What a fake HubSpot portal is born with: plans and limits, standard properties, scopes, and which values fit."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from adapters.values import millis

Plan = Literal["free", "starter", "professional", "enterprise"]

PORTAL = 4_815_162
ZONE = "Europe/Paris"
CALLS = {
    "free": (100, 250_000),
    "starter": (100, 250_000),
    "professional": (190, 650_000),
    "enterprise": (190, 1_000_000),
}
"""Calls per rolling 10 seconds per app, and per day (of ZONE) per account, by plan."""
CUSTOM_PROPERTIES = {"free": 10}
"""Properties that may be made, by plan; 1,000 on those not named."""
SUBSCRIPTIONS = {101: "Marketing Information", 102: "Customer Service Communication"}
SEARCHES_PER_SECOND = 5
MOST_UNIQUE_PROPERTIES = 10

STANDARD = {
    "email": "string",
    "firstname": "string",
    "lastname": "string",
    "phone": "phone_number",
    "company": "string",
    "website": "string",
    "address": "string",
    "city": "string",
    "state": "string",
    "zip": "string",
    "country": "string",
    "hs_language": "string",
    "lifecyclestage": "string",
    "hs_object_id": "number",
    "createdate": "datetime",
    "lastmodifieddate": "datetime",
    "hs_additional_emails": "string",
    "hs_merged_object_ids": "string",
    "hs_email_optout": "bool",
    "hs_email_quarantined": "bool",
    "hs_email_hard_bounce_reason_enum": "string",
    "hs_email_last_open_date": "datetime",
    "hs_email_last_click_date": "datetime",
    **{f"hs_email_optout_{id_}": "bool" for id_ in SUBSCRIPTIONS},
}
"""Properties every portal has (those that an e-mail connector may meet), with their types."""

READ_ONLY = {"hs_object_id", "createdate", "lastmodifieddate", "hs_merged_object_ids", "hs_additional_emails"} | {
    name for name in STANDARD if name.startswith("hs_email_")
}
SCOPES = (
    (re.compile(r"(GET .*|POST .*/batch/read|POST .*/search)/?.*"), ".read"),
    (re.compile(r".*"), ".write"),
)
SCOPE_OF = (
    ("/crm/objects/", "crm.objects.contacts"),
    ("/crm/properties/", "crm.schemas.contacts"),
    ("/crm/lists/", "crm.lists"),
    ("/communication-preferences/", "communication_preferences"),
    ("/crm/limits/", "crm.limits"),
    ("/account-info/", "account-info"),
)
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]+")
CATEGORIES = {
    400: "VALIDATION_ERROR",
    401: "INVALID_AUTHENTICATION",
    403: "MISSING_SCOPES",
    404: "OBJECT_NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    409: "CONFLICT",
    423: "LOCKED",
    429: "RATE_LIMITS",
    477: "MIGRATION_IN_PROGRESS",
}


class ItemError(Exception):
    """One item of a batch is refused; the others go on."""

    def __init__(self, status: int, message: str, context: Mapping[str, list[str]] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.context = status, message, dict(context or {})


def property_of(given: Mapping[str, Any], *, defined: bool = False) -> dict[str, Any]:
    absent = {"description": "", "options": [], "hidden": False, "formField": False, "hasUniqueValue": False}
    return {**absent, "displayOrder": -1, **given, "hubspotDefined": defined, "archived": False}


def check_options(options: Iterable[Mapping[str, Any]]) -> None:
    values = [option["value"] for option in options]
    labels = [option["label"] for option in options]
    for kind, texts in (("value", values), ("label", labels)):
        if len(texts) != len(set(texts)):
            raise ItemError(400, f"Property option {kind}s must be unique.", {"options": texts})
    if any(";" in value for value in values):
        raise ItemError(400, "Property option values must not hold a semicolon.", {"options": values})


def options_in(value: str) -> list[str]:
    return [option for option in value.split(";") if option]


def passes(properties: Mapping[str, str], rule: Mapping[str, Any]) -> bool:
    value = properties.get(rule["propertyName"])
    if rule["operator"] == "GTE":
        return value is not None and (millis(value) or 0) >= int(rule["value"])
    return {
        "EQ": value == rule.get("value"),
        "NEQ": value != rule.get("value"),
        "IN": value in rule.get("values", ()),
        "HAS_PROPERTY": value is not None,
        "NOT_HAS_PROPERTY": value is None,
    }[rule["operator"]]


def is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def is_date(text: str) -> bool:
    """YYYY-MM-DD, or epoch milliseconds at midnight UTC."""
    if re.fullmatch(r"-?\d{6,}", text):
        return int(text) % 86_400_000 == 0
    return re.fullmatch(r"\d{4}-\d\d-\d\d", text) is not None and is_instant(text)


def is_instant(text: str) -> bool:
    if re.fullmatch(r"-?\d{6,}", text):
        return True
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


VALID: dict[str, tuple[Callable[[str], bool], str]] = {
    "number": (lambda text: is_number(text), "INVALID_INTEGER"),
    "bool": (lambda text: text in ("true", "false"), "INVALID_BOOLEAN"),
    "date": (lambda text: is_date(text), "INVALID_DATE"),
    "datetime": (lambda text: is_instant(text), "INVALID_DATE"),
    "string": (lambda text: len(text) <= 65_536, "INVALID_STRING_LENGTH"),
}
