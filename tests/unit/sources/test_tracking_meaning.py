"""What Segment's calls mean: people, events and orders, by a server's word and by a browser's."""

from typing import Any

import orjson
import pytest

from connector.clock import HOUR, isoformat
from connector.domain import Delivery, Identifier, Normalised, StoreInfo
from connector.errors import UnprocessableEvent
from connector.sources import SOURCES
from connector.sources.instants import OLDEST

NOW = 1_795_000_000_000
STORE = StoreInfo("Nordlicht", "Europe/Berlin", "EUR")


def meant(
    event: dict[str, Any] | bytes, *, trust: str = "server", shop: str = "", topic: str | None = None
) -> Normalised:
    raw = event if isinstance(event, bytes) else orjson.dumps(event)
    headers = {"trust": trust} | ({"shop": shop} if shop else {})
    stated = topic or (event["type"] if isinstance(event, dict) else "track")
    return SOURCES["segment_api"].normalise(Delivery("site", "m1", stated, NOW, headers, raw), STORE)


def track(name: str = "Product Viewed", properties: Any = None, **more: Any) -> dict[str, Any]:
    return {"type": "track", "event": name, "userId": "u1", "messageId": "m1", "properties": properties or {}, **more}


def refused(event: dict[str, Any] | bytes, **how: Any) -> tuple[str, str]:
    with pytest.raises(UnprocessableEvent) as error:
        meant(event, **how)
    return error.value.reason, error.value.message


# --- when -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("skew", [-400 * 24 * HOUR, -HOUR, 0, HOUR, 400 * 24 * HOUR])
def test_a_clock_that_is_wrong_is_corrected(skew: int) -> None:
    """Sent a minute after it happened, by a clock that is wrong."""
    sent = NOW + skew
    [event] = meant(track(timestamp=isoformat(sent - 60_000), sentAt=isoformat(sent))).events
    assert event.at == NOW - 60_000


@pytest.mark.parametrize(
    ("times", "at"),
    [
        ({}, NOW),
        ({"timestamp": isoformat(NOW - 5_000)}, NOW - 5_000),
        ({"timestamp": isoformat(NOW + HOUR)}, NOW),
        ({"timestamp": isoformat(NOW + HOUR), "sentAt": isoformat(NOW)}, NOW),
        ({"originalTimestamp": isoformat(NOW - 9_000), "sentAt": isoformat(NOW)}, NOW - 9_000),
        ({"timestamp": None, "sentAt": None}, NOW),
        ({"timestamp": "1970-01-01T00:00:00Z", "sentAt": isoformat(NOW)}, NOW),
    ],
)
def test_when(times: dict[str, Any], at: int) -> None:
    assert meant(track(**times)).events[0].at == at


# --- who --------------------------------------------------------------------------------------------------------------


def test_who_by_every_identifier() -> None:
    event = {
        "type": "identify",
        "userId": 501,
        "anonymousId": "a1",
        "traits": {"email": " Ada@Example.COM ", "phone": "+1 (555) 010-9999"},
    }
    found = meant(event)
    assert {(one.kind, one.value) for one in found.identifiers} == {
        ("customer_id", "site:501"),
        ("email", "ada@example.com"),
        ("phone", "+15550109999"),
        ("anonymous_id", "a1"),
    }
    assert found.authoritative and not found.unverified
    assert Identifier("customer_id", "shop:501") in meant(event, shop="shopify:shop").identifiers


def test_a_browsers_word_is_marked_as_one() -> None:
    found = meant({"type": "identify", "userId": "u1", "traits": {"email": "ada@example.com"}}, trust="browser")
    assert found.unverified and not found.authoritative


def test_a_page_says_who_somebody_is_by_identify_alone() -> None:
    both = {"anonymousId": "a1", "userId": "u1"}
    assert meant(track(**both), trust="browser").identifiers == (Identifier("anonymous_id", "a1"),)
    assert len(meant({"type": "identify", **both}, trust="browser").identifiers) == 2
    assert len(meant(track(**both)).identifiers) == 2


def test_a_server_that_says_no_customer_owns_no_address() -> None:
    assert not meant({"type": "identify", "anonymousId": "a1", "traits": {"email": "ada@example.com"}}).authoritative


def test_an_address_as_the_user_id_is_an_address() -> None:
    found = meant(track(userId="Ada@example.com"))
    assert found.identifiers == (Identifier("email", "ada@example.com"),)


@pytest.mark.parametrize("nobody", ["null", "undefined", "0", "", " ", "NaN", "[object Object]", None])
def test_what_scripts_send_for_nobody_is_nobody(nobody: Any) -> None:
    assert refused(track(userId=nobody))[0] == "nobody"


def test_an_address_in_the_context_of_a_track() -> None:
    found = meant(track(userId=None, context={"traits": {"email": "ada@example.com"}}))
    assert found.identifiers == (Identifier("email", "ada@example.com"),)


def test_tokens_count_where_the_shop_has_them_too() -> None:
    event = track("Checkout Started", {"checkout_token": "c1", "cart_token": "k1"})
    assert {one.kind for one in meant(event).identifiers} == {"customer_id"}
    tied = meant(event, shop="shopify:shop")
    assert {one.kind for one in tied.identifiers} == {"customer_id", "checkout_token", "cart_token"}
    assert tied.events[0].id == "shopify:shop:checkout:c1:started"  # as the shop's own deliveries call it


def test_what_a_server_says_of_a_person() -> None:
    traits = {
        "email": "ada@example.com",
        "name": "Ada Augusta King",
        "address": {"city": "London", "country": "GB"},
        "createdAt": "2026-11-01T00:00:00Z",
        "favouriteColour": "green",
        "total_spent": 1_000_000,
        "orders_count": 99,
        "__proto__": "x",
    }
    [entity] = meant(
        {"type": "identify", "userId": "u1", "traits": traits, "timestamp": isoformat(NOW - 1000)}
    ).entities
    assert (entity.kind, entity.id, entity.updated_at) == ("customer", "u1", NOW - 1000)
    assert entity.data == {
        "first_name": "Ada",
        "last_name": "Augusta King",
        "city": "London",
        "country": "GB",
        "created_at": "2026-11-01T00:00:00.000Z",
        "email": "ada@example.com",
        "favourite_colour": "green",
    }


def test_what_a_browser_says_of_a_person_replaces_nothing() -> None:
    event = {
        "type": "identify",
        "anonymousId": "a1",
        "userId": "u1",
        "traits": {"email": "eve@example.com", "firstName": "Eve", "tags": ["vip"], "plan": "pro"},
    }
    [entity] = meant(event, trust="browser").entities
    assert entity.updated_at == OLDEST
    assert entity.id == "visitor:a1"
    assert entity.data == {"first_name": "Eve", "plan": "pro"}


def test_alias_unites_by_a_servers_word_only() -> None:
    event = {"type": "alias", "previousId": "a1", "userId": "u1"}
    assert meant(event).merged_from == (Identifier("customer_id", "site:a1"), Identifier("anonymous_id", "a1"))
    by_browser = meant(event, trust="browser")
    assert (by_browser.merged_from, by_browser.skipped) == ((), "unverified_alias")
    assert refused({"type": "alias", "userId": "u1"})[0] == "bad_id"


# --- what -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        ("Product Viewed", "Product Viewed"),
        ("product_viewed", "Product Viewed"),
        ("Viewed Product", "Product Viewed"),
        ("PRODUCT ADDED", "Product Added"),
        ("Newsletter Signed Up", "Newsletter Signed Up"),
        ("Feedback Given", "Feedback Given"),
    ],
)
def test_names(stated: str, name: str) -> None:
    assert meant(track(stated)).events[0].name == name


def test_properties_in_their_types_and_the_sites_own_as_they_are() -> None:
    properties = {
        "product_id": 632910392,
        "price": "19.50",
        "quantity": 2.0,
        "colour": "green",
        "big": 2**60,
        "nested": {"a": {"b": {"c": {"d": {"e": 1}}}}},
        "long": "x" * 5000,
    }
    found = meant(track(properties=properties)).events[0].properties
    assert found["product_id"] == "632910392"
    assert (found["price"], found["quantity"], found["colour"]) == (19.5, 2, "green")
    assert found["big"] == str(2**60)
    assert len(found["long"]) == 1000
    assert found["nested"] == {"a": {"b": {"c": None}}}


def test_where_it_happened() -> None:
    context = {
        "campaign": {"name": "autumn", "source": "mail", "medium": "email"},
        "page": {"url": "https://aurora.example/p/1"},
        "locale": "de-DE",
        "userAgent": "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Mobile",
        "ip": "203.0.113.9",
    }
    found = meant(track(context=context)).events[0].properties
    assert found == {
        "utm_source": "mail",
        "utm_medium": "email",
        "utm_campaign": "autumn",
        "page_url": "https://aurora.example/p/1",
        "locale": "de-DE",
        "device": "mobile",
    }


def test_pages_screens_and_groups() -> None:
    page = {"type": "page", "anonymousId": "a1", "name": "Home", "properties": {"path": "/", "title": "Hello"}}
    [event] = meant(page, trust="browser").events
    assert (event.name, event.properties) == ("Page Viewed", {"path": "/", "title": "Hello", "name": "Home"})
    [event] = meant({"type": "screen", "anonymousId": "a1", "name": "Start"}).events
    assert (event.name, event.properties) == ("Screen Viewed", {"name": "Start"})
    [event] = meant({"type": "group", "userId": "u1", "groupId": "g1", "traits": {"plan": "pro"}}).events
    assert (event.name, event.properties) == ("Group Joined", {"plan": "pro", "group_id": "g1"})


# --- orders -----------------------------------------------------------------------------------------------------------

ORDER = {"order_id": 1001, "revenue": "27.50", "currency": "EUR", "products": [{"product_id": "p1", "price": 27.5}]}


def test_an_order_is_counted_by_a_servers_word() -> None:
    found = meant(track("Order Completed", ORDER))
    [event], [entity] = found.events, found.entities
    assert event.id == "segment_api:site:order:1001:completed"
    assert event.properties["total"] == 27.5
    assert (entity.kind, entity.id) == ("order", "1001")
    assert entity.data == {"total": 27.5, "currency": "EUR", "placed_at": NOW, "products": ["p1"]}


def test_the_browser_and_the_server_may_both_tell_of_an_order() -> None:
    by_browser = meant(track("Order Completed", ORDER, messageId="other"), trust="browser")
    assert by_browser.events[0].id == meant(track("Order Completed", ORDER)).events[0].id
    assert by_browser.entities == ()


@pytest.mark.parametrize("name", ["Order Completed", "Order Cancelled", "Order Refunded", "Order Updated"])
@pytest.mark.parametrize("trust", ["server", "browser"])
def test_a_shop_is_the_truth_about_its_orders(name: str, trust: str) -> None:
    found = meant(track(name, ORDER), trust=trust, shop="shopify:shop")
    assert (found.events, found.entities, found.skipped) == ((), (), "shop_tells")
    assert found.identifiers == (Identifier("customer_id", "shop:u1"),)


def test_cancelled_and_refunded() -> None:
    [cancelled] = meant(track("Order Cancelled", {"order_id": "1001"})).entities
    assert cancelled.data == {"total": 0.0, "currency": "EUR", "placed_at": NOW, "cancelled_at": NOW, "products": []}
    found = meant(track("Order Refunded", {"order_id": "1001", "total": 5}, messageId="m9"))
    assert found.entities[0].data == {"order_id": "1001", "amount": 5.0, "at": NOW}
    assert found.events[0].id == "segment_api:site:order:1001:refunded:m9"


def test_another_currency_is_not_added_up() -> None:
    assert meant(track("Order Completed", {**ORDER, "currency": "USD"})).entities == ()


def test_an_order_without_its_id() -> None:
    assert refused(track("Order Completed", {"total": 5})) == ("bad_id", "/properties/order_id: is missing")


# --- consent ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("category", ["marketing", "Advertising", "C0004", "Targeting"])
@pytest.mark.parametrize("type_", ["track", "identify", "page", "screen", "group", "alias"])
def test_nothing_is_made_of_an_event_whose_visitor_refused_marketing(category: str, type_: str) -> None:
    event = {
        **track(),
        "type": type_,
        "context": {"consent": {"categoryPreferences": {category: False, "Analytics": True}}},
    }
    assert meant(event) == Normalised(skipped="no_consent")


@pytest.mark.parametrize("preferences", [{}, {"Marketing": True}, {"Analytics": False, "Marketing": True}])
def test_allowed(preferences: dict[str, bool]) -> None:
    assert meant(track(context={"consent": {"categoryPreferences": preferences}})).events


def test_a_crawler_is_no_visitor() -> None:
    context = {"userAgent": "Mozilla/5.0 (compatible; Googlebot/2.1)"}
    assert meant(track(context=context), trust="browser") == Normalised(skipped="bot")
    assert meant(track(context=context)).events, "a server may pass on whatever it likes"


# --- what cannot be understood ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "reason", "pointer"),
    [
        (b"7", "not_an_object", "/"),
        (b'{"userId": "u1", "n": NaN}', "not_json", "/"),
        (b'{"event": "A", "userId": "u1", "properties": {"x": "\\u0000"}}', "nul_character", "/properties/x"),
        (track(""), "no_name", "/event"),
        (track("x" * 201), "no_name", "/event"),
        (track("a\nb"), "no_name", "/event"),
        (track(7), "bad_type", "/event"),  # type: ignore[arg-type]
        (track(properties={"price": "cheap"}), "bad_money", "/properties/price"),
        (track(properties={"price": 1e300}), "bad_money", "/properties/price"),
        (track(properties={"product_id": {}}), "bad_type", "/properties/product_id"),
        (track(properties={"products": {}}), "bad_type", "/properties/products"),
        (track(properties={"products": [{"price": 1}, {"price": []}]}), "bad_money", "/properties/products/1/price"),
        (track(timestamp=17), "bad_instant", "/timestamp"),
        (track(timestamp="yesterday"), "bad_instant", "/timestamp"),
        (track(userId=["u1"]), "bad_type", "/userId"),
        (track(userId="x" * 256), "bad_token", "/userId"),
        (track(context=[]), "bad_type", "/context"),
        (track(properties={"x": "y" * 40_000}), "too_large", "/"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_faults_say_where(event: Any, reason: str, pointer: str) -> None:
    found, message = refused(event)
    assert found == reason
    assert message.startswith(f"{pointer}: ")


def test_an_unknown_type_is_counted_and_kept() -> None:
    assert meant({"type": "other", "userId": "u1"}, topic="unknown").skipped == "unknown_topic"


# --- the custom pixel -------------------------------------------------------------------------------------------------


def pixel(name: str = "product_viewed", data: Any = None, **more: Any) -> dict[str, Any]:
    variant = {"id": "42", "price": {"amount": 19.5, "currencyCode": "EUR"}, "product": {"id": "7", "title": "Mug"}}
    envelope = {
        "id": "sh-1",
        "clientId": "c1",
        "name": name,
        "timestamp": isoformat(NOW - 2_000 + HOUR),
        "data": {"productVariant": variant} if data is None else data,
    }
    return {"type": "pixel", "messageId": "sh-1", "sentAt": isoformat(NOW + HOUR), "pixel": envelope, **more}


def test_the_pixel_means_what_the_shops_source_makes_of_it() -> None:
    found = meant(pixel(), trust="browser", shop="shopify:shop")
    [event] = found.events
    assert (event.name, event.at) == ("Product Viewed", NOW - 2_000)
    assert event.id == "shopify:shop:pixel:sh-1"
    assert event.properties["product_id"] == "7"
    assert found.identifiers == (Identifier("anonymous_id", "c1"),)
    assert found.unverified


def test_a_pixels_order_is_told_by_the_shop() -> None:
    checkout = {"token": "t1", "order": {"id": "1001", "customer": {"id": "501"}}, "email": "ada@example.com"}
    found = meant(pixel("checkout_completed", {"checkout": checkout}), trust="browser", shop="shopify:shop")
    assert found.events == ()
    assert {one.kind for one in found.identifiers} == {"customer_id", "email", "checkout_token", "anonymous_id"}


@pytest.mark.parametrize("consent", [{"marketing": False, "analytics": True}])
def test_a_pixel_without_consent_means_nothing(consent: dict[str, bool]) -> None:
    assert meant(pixel(consent=consent), trust="browser") == Normalised(skipped="no_consent")


@pytest.mark.parametrize(
    "event", [{"type": "pixel"}, {"type": "pixel", "pixel": 7}, pixel(consent=7), pixel(consent=[1])], ids=str
)
def test_pixels_that_make_no_sense(event: dict[str, Any]) -> None:
    try:
        meant(event, trust="browser")
    except UnprocessableEvent as error:
        assert error.reason == "bad_type"
