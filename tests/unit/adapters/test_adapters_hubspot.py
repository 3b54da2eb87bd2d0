"""HubSpot's own: every value a string, batches with bad items, the limit of the day, rounds of cues."""

import json
import math
from datetime import datetime
from typing import Any

import pytest
import responses
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.destination import Change, Cue, FieldSpec, Settings
from adapters.errors import Misconfigured, Rejected, Transient
from adapters.hubspot import HubSpot, _rounds
from adapters.hubspot_properties import check_field
from adapters.hubspot_values import property_value

API = "https://api.hubapi.com"
CONTACTS = f"{API}/crm/objects/2026-03/contacts"
PROPERTIES = f"{API}/crm/properties/2026-03/contacts"
TAGS = {"name": "storecue_tags", "type": "enumeration", "fieldType": "checkbox", "options": []}


@pytest.mark.parametrize(
    ("kind", "value", "told"),
    [
        ("number", 412.5, "412.5"),
        ("number", 3.0, "3"),
        ("number", 1e21, "1000000000000000000000"),
        ("number", 1e-7, "0.0000001"),
        ("number", -0.1, "-0.1"),
        ("number", 2**53, "9007199254740992"),
        ("bool", True, "true"),
        ("bool", False, "false"),
        ("string", "2026-11-21T10:00:00Z", "2026-11-21T10:00:00Z"),
        ("string", ["a", "b"], "a, b"),
        ("enumeration", ["a", "b"], "a;b"),
        ("datetime", "2025-11-21T10:00:00.123Z", "1763719200123"),
        ("datetime", "2025-11-21T11:00:00.123+01:00", "1763719200123"),
        ("datetime", "2025-11-21T10:00:00", "1763719200000"),
        ("date", "2025-11-21T23:59:59Z", "2025-11-21"),
        ("date", "1990-05-17", "1990-05-17"),
        ("datetime", None, ""),
        ("number", None, ""),
    ],
)
def test_every_value_is_a_string(kind: str, value: Any, told: str) -> None:
    assert property_value("field", kind, value) == told


def test_what_is_no_date_time_is_rejected_by_name() -> None:
    with pytest.raises(Rejected) as caught:
        property_value("last_order_at", "datetime", "yesterday")
    assert caught.value.field == "last_order_at"


@pytest.mark.parametrize(
    ("kind", "defined", "fits"),
    [
        ("number", "number", True),
        ("number", "string", False),
        ("text", "enumeration", True),
        ("boolean", "bool", True),
        ("boolean", "number", False),
        ("datetime", "date", True),
        ("date", "datetime", False),
    ],
)
def test_a_property_of_somebody_else_is_used_only_where_our_values_fit(kind: Any, defined: str, fits: bool) -> None:
    spec = FieldSpec("city", kind, "City")
    check_field(spec, None)
    if fits:
        check_field(spec, {"type": defined})
        with pytest.raises(Rejected, match="read-only"):
            check_field(spec, {"type": defined, "modificationMetadata": {"readOnlyValue": True}})
    else:
        with pytest.raises(Rejected, match="another name"):
            check_field(spec, {"type": defined})


class Portal:
    """Contacts by record id; refuses whole batches in which a record is bad, as HubSpot does for some errors."""

    def __init__(self, bad: set[int]) -> None:
        self.bad = bad
        self.batches: list[list[str]] = []
        self.updated: list[str] = []

    def update(self, request: Any) -> tuple[int, dict[str, str], str]:
        records = [entry["id"] for entry in json.loads(request.body)["inputs"]]
        self.batches.append(records)
        if self.bad & set(map(int, records)):
            return (
                400,
                {},
                json.dumps({"status": "error", "message": "Invalid input JSON", "category": "VALIDATION_ERROR"}),
            )
        self.updated += records
        return 200, {}, json.dumps({"status": "COMPLETE", "results": [{"id": record} for record in records]})


@given(count=st.integers(2, 100), data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_bad_contact_costs_few_calls_and_harms_no_other(count: int, data: st.DataObject, clock: Any) -> None:
    bad = data.draw(st.sets(st.integers(0, count - 1), max_size=3))
    portal = Portal(bad)
    with responses.RequestsMock() as mock:
        mock.get(PROPERTIES, json={"results": [TAGS]})
        mock.add_callback("POST", f"{CONTACTS}/batch/update", callback=portal.update)
        options = {"requests_per_10_seconds": "10000"}
        hubspot = HubSpot(Settings({"access_token": "pat-1"}, options=options), clock)
        changes = [Change(f"c{n}", f"p{n}@example.com", f"shop:{n}", remote_id=str(n)) for n in range(count)]
        outcomes = hubspot.apply(changes)
        hubspot.close()
    assert {int(o.key[1:]) for o in outcomes if o.status == "rejected"} == bad
    assert sorted(map(int, portal.updated)) == sorted(set(range(count)) - bad)
    assert len(outcomes) == count
    assert len(portal.batches) <= 1 + len(bad) * (math.ceil(math.log2(count)) + 1)


@pytest.mark.parametrize(
    ("zone", "now", "hours"),
    [
        ("US/Eastern", "2026-11-21T22:30:00-05:00", 1.5),
        ("Europe/Paris", "2026-10-25T00:00:00+02:00", 25.0),
        ("Europe/Paris", "2026-03-29T00:00:00+01:00", 23.0),
        ("Nowhere/Atlantis", "2026-11-21T22:30:00-05:00", 1.0),
    ],
)
def test_the_limit_of_the_day_lasts_until_midnight_at_the_account(
    zone: str, now: str, hours: float, clock: Any
) -> None:
    clock.at = datetime.fromisoformat(now).timestamp()
    limit = {"status": "error", "category": "RATE_LIMITS", "policyName": "DAILY", "message": "daily limit"}
    with responses.RequestsMock() as mock:
        mock.get(f"{API}/account-info/2026-03/details", json={"portalId": 1, "timeZone": zone})
        mock.get(PROPERTIES, json=limit, status=429)
        hubspot = HubSpot(Settings({"access_token": "pat-1"}), clock)
        hubspot.check_login()
        with pytest.raises(Transient) as caught:
            hubspot.apply([Change("1", "a@example.com", "shop:1")])
        hubspot.close()
    assert caught.value.retry_after == pytest.approx(hours * 3600)


def test_cues_go_in_rounds_that_hold_nobody_twice() -> None:
    def cue(key: str, email: str, at: int) -> Cue:
        return Cue(key, email, "shop:1", "Segment Entered", at)

    cues = [cue("3", "a@x.io", 30), cue("1", "A@x.io", 10), cue("2", "b@x.io", 20), cue("4", "a@x.io", 40)]
    assert [[cue.key for cue in turn] for turn in _rounds(cues)] == [["1", "2"], ["3"], ["4"]]


def test_the_version_is_in_every_path(clock: Any) -> None:
    with responses.RequestsMock() as mock:
        mock.get(f"{API}/account-info/2026-09/details", json={"portalId": 1})
        hubspot = HubSpot(Settings({"access_token": "pat-1"}, options={"version": "2026-09"}), clock)
        assert hubspot.check_login().id == "1"
        hubspot.close()


@pytest.mark.parametrize("calls", ["many", "0", "-5", ""])
def test_a_limit_that_is_no_number_is_the_operators_to_mend(calls: str, clock: Any) -> None:
    with pytest.raises(Misconfigured, match="requests_per_10_seconds"):
        HubSpot(Settings({"access_token": "pat-1"}, options={"requests_per_10_seconds": calls}), clock)
