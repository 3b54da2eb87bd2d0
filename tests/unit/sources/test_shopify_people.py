from typing import Any

import pytest
from conftest import RECEIVED_AT, Bodies, Normalise

from connector.domain import Consent, Identifier
from connector.errors import UnprocessableEvent

CUSTOMER = Identifier("customer_id", "shop:9223372036854775001")


def consent_body(state: Any) -> dict[str, Any]:
    return {"customer_id": 9223372036854775001, "email_marketing_consent": {"state": state}}


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("subscribed", "subscribed"),
        ("SUBSCRIBED", "subscribed"),
        ("pending", "pending"),
        ("unsubscribed", "unsubscribed"),
        ("not_subscribed", "not_subscribed"),
        ("invalid", "invalid"),
        ("redacted", "redacted"),
    ],
)
def test_states_of_consent(normalise: Normalise, state: str, expected: str) -> None:
    meant = normalise("customers_email_marketing_consent/update", consent_body(state))
    assert meant.consents == (Consent("email", expected, RECEIVED_AT),)  # type: ignore[arg-type]


@pytest.mark.parametrize("state", [None, "", "something new"])
def test_no_state_says_nothing(normalise: Normalise, state: Any) -> None:
    meant = normalise("customers_email_marketing_consent/update", consent_body(state))
    assert meant.consents == ()
    assert meant.identifiers == (CUSTOMER,)


def test_consent_of_nobody_is_unprocessable(normalise: Normalise) -> None:
    with pytest.raises(UnprocessableEvent, match="/customer_id"):
        normalise("customers_email_marketing_consent/update", {"email_marketing_consent": {"state": "subscribed"}})


def test_undated_consent_counts_in_a_customers_own_body_and_not_inside_an_order(
    normalise: Normalise, recorded: Bodies
) -> None:
    customer = {**recorded("customers_create"), "email_marketing_consent": {"state": "subscribed"}}
    own = normalise("customers/update", customer)
    assert [(one.state, one.at) for one in own.consents] == [("subscribed", own.entities[0].updated_at)]
    assert normalise("orders/create", {**recorded("orders_create"), "customer": customer}).consents == ()


@pytest.mark.parametrize(("accepts", "state"), [(True, "subscribed"), (False, "not_subscribed")])
def test_the_only_word_on_consent_until_2024(normalise: Normalise, recorded: Bodies, accepts: bool, state: str) -> None:
    meant = normalise("customers/update", {**recorded("customers_create"), "accepts_marketing": accepts})
    assert [(one.channel, one.state) for one in meant.consents] == [("email", state)]


@pytest.mark.parametrize(
    ("stated", "kept"),
    [({}, "absent"), ({"first_name": None}, None), ({"first_name": ""}, None), ({"first_name": "Zoë"}, "Zoë")],
)
def test_absent_null_and_empty_are_not_the_same(
    normalise: Normalise, recorded: Bodies, stated: dict[str, Any], kept: Any
) -> None:
    body = recorded("customers_create")
    del body["first_name"]
    data = normalise("customers/update", {**body, **stated}).entities[0].data
    assert data.get("first_name", "absent") == kept


@pytest.mark.parametrize("email", ["", None, "not an address", "a@b", "@example.com", "a@@example.com", "x" * 400])
def test_a_bad_address_is_no_identifier_and_no_error(normalise: Normalise, recorded: Bodies, email: Any) -> None:
    meant = normalise("customers/update", {**recorded("customers_create"), "email": email, "phone": "12"})
    assert meant.identifiers == (CUSTOMER,)
    assert meant.entities[0].data["email"] is None
    assert meant.entities[0].data["phone"] is None


def test_tags_are_said_only_where_the_body_has_them(normalise: Normalise, recorded: Bodies) -> None:
    body = recorded("customers_create")
    assert "tags" not in normalise("customers/update", body).entities[0].data
    assert normalise("customers/update", {**body, "tags": ""}).entities[0].data["tags"] == []
    assert normalise("customers/update", {**body, "tags": "a, b,,"}).entities[0].data["tags"] == ["a", "b"]


def test_redaction_by_id_and_of_nobody(normalise: Normalise) -> None:
    meant = normalise("customers/redact", {"customer": {"id": 9223372036854775001, "email": None}})
    assert meant.privacy == "erase"
    assert meant.identifiers == (CUSTOMER,)
    with pytest.raises(UnprocessableEvent) as refused:
        normalise("customers/redact", {"customer": {"email": ""}})
    assert refused.value.reason == "nobody"


@pytest.mark.parametrize(
    ("topic", "body"),
    [
        ("customers/update", {"id": 5}),
        ("customers/update", {"id": 5, "updated_at": "2026-11-21T10:00:00Z"}),
        ("orders/updated", {"id": 5, "payload_url": "https://example.com"}),
        ("refunds/create", {"id": 5, "order_id": 6}),
        ("products/update", {"id": 5}),
        ("collections/update", {"id": 5}),
        ("checkouts/update", {"id": 5}),
        ("checkouts/update", {"token": "t"}),
        ("carts/update", {"id": "c"}),
    ],
)
def test_a_body_that_is_only_an_id_changes_nothing(normalise: Normalise, topic: str, body: Any) -> None:
    meant = normalise(topic, body)
    assert meant.skipped == "stub"
    assert not meant.entities and not meant.events


def test_a_merge_needs_both(normalise: Normalise) -> None:
    with pytest.raises(UnprocessableEvent):
        normalise("customers/merge", {"status": "completed", "admin_graphql_api_customer_kept_id": "gid://x/y"})


def test_events_of_resources_we_do_not_read(normalise: Normalise) -> None:
    meant = normalise("Metaobject", {"topic": "Metaobject"}, shopify_action="update")
    assert meant.skipped == "unknown_topic"


def test_an_event_nested_beyond_reason(normalise: Normalise) -> None:
    deep: Any = "leaf"
    for _ in range(500):
        deep = {"a": deep}
    body = {"data": {"customer": {"id": "gid://shopify/Customer/1", "deep": deep}}}
    with pytest.raises(UnprocessableEvent) as refused:
        normalise("Customer", body, shopify_action="update")
    assert refused.value.reason == "too_deep"


@pytest.mark.parametrize("name", ["page_viewed", "payment_info_submitted", "something_new"])
def test_a_visit_that_is_not_told_ties_the_visitor_all_the_same(normalise: Normalise, name: str) -> None:
    meant = normalise(f"web_pixels/{name}", {"id": "1", "clientId": "c", "data": {}, "customer": None})
    assert meant.skipped == "not_used"
    assert meant.identifiers == (Identifier("anonymous_id", "c"),)


def test_a_pixel_of_nobody_or_without_an_id_is_unprocessable(normalise: Normalise) -> None:
    with pytest.raises(UnprocessableEvent, match="/clientId"):
        normalise("web_pixels/product_viewed", {"id": "1", "data": {}})
    with pytest.raises(UnprocessableEvent, match="/id"):
        normalise("web_pixels/search_submitted", {"clientId": "c", "data": {"searchResult": {"query": "x"}}})


def test_the_pixel_and_the_webhook_tell_of_one_checkout(normalise: Normalise, recorded: Bodies) -> None:
    pixel = normalise("web_pixels/checkout_started", recorded("web_pixels_checkout_started"))
    webhook = normalise("checkouts/create", recorded("checkouts_create"))
    assert pixel.events[0].id == webhook.events[0].id
    assert not pixel.authoritative
