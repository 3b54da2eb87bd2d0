"""orders/*, orders/edited and refunds/create: an order in full on every topic, so each is an upsert.

Test orders (`test: true`, or a delivery marked X-Shopify-Test) are kept as entities marked `test`, which do not count,
and have no events: a shopkeeper's trial of the checkout must not make them a buyer. `Shopify(test_orders=True)` lets
their events through, marked `test: true`, for development shops and for Shopify's samples, which are all test orders.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from connector.clock import Millis
from connector.domain import Entity, Event, Identifier, Json, Normalised
from connector.errors import UnprocessableEvent
from connector.sources.contacts import read_email, read_phone
from connector.sources.documents import known
from connector.sources.shopify import customers
from connector.sources.shopify.arrival import Arrival, is_stub, record_id
from connector.sources.shopify.line_items import add_up, in_shop_currency, product, products
from connector.sources.shopify.schemas import ORDER, ORDER_EDIT, REFUND

_FAILED = {"failure", "error"}
_AMOUNTS = {"transactions", "refund_line_items", "order_adjustments", "total_refunded_set"}


def order(body: Any, arrival: Arrival) -> Normalised:
    """The order as it is now, its refunds, its customer, and what has happened to it so far under natural keys."""
    found = ORDER(body)
    id_ = record_id(found)
    if is_stub(found) or not found.keys() & {"total_price", "total_price_set"}:
        return Normalised(order_ref=id_, skipped="stub")
    total = in_shop_currency(found, "total_price")
    if total is None:
        raise UnprocessableEvent("/total_price: is missing", reason="bad_money")
    bag = found.get("total_price_set")
    currency = (bag.currency if bag else None) or found.get("currency") or arrival.currency
    placed_at = arrival.at(found.get("processed_at"), found.get("created_at"))
    as_of = arrival.version(found.get("updated_at"), found.get("created_at"))
    test = bool(found.get("test")) or arrival.test
    bought = products(found.get("line_items"))
    refunds = [
        _refund(one, record_id(one), id_, currency, arrival)
        for one in found.get("refunds") or ()
        if one.get("id") or one.get("admin_graphql_api_id")
    ]
    cancelled_at = None if found.get("cancelled_at") is None else arrival.at(found["cancelled_at"])
    data = known(
        total=total,
        currency=currency,
        placed_at=placed_at,
        cancelled_at=cancelled_at,
        test=test or None,
        name=found.get("name"),
        checkout_token=found.get("checkout_token"),
        cart_token=found.get("cart_token"),
        financial_status=found.get("financial_status"),
        fulfillment_status=found.get("fulfillment_status"),
    )
    data["products"] = list(dict.fromkeys(one["product_id"] for one in bought if "product_id" in one))
    who, entities, consents = _buyer(found, as_of, arrival)
    events: tuple[Event, ...] = ()
    if not test or arrival.test_orders:
        properties = _properties(found, id_, total, currency, bought, test=test)
        events = (
            *_happened(found, id_, placed_at, cancelled_at, as_of, properties, arrival),
            *(event for _, event in refunds),
        )
    return Normalised(
        identifiers=who,
        events=events,
        entities=(*entities, Entity("order", id_, as_of, data), *(refund for refund, _ in refunds)),
        consents=consents,
        order_ref=id_,
    )


def order_deleted(body: Any, arrival: Arrival) -> Normalised:
    """orders/delete: the body is the id."""
    id_ = record_id(ORDER(body))
    return Normalised(entities=(Entity("order", id_, arrival.version(), deleted=True),), order_ref=id_)


def order_edited(body: Any, arrival: Arrival) -> Normalised:
    """orders/edited: says that, not what; orders/updated brings the order itself."""
    edit = ORDER_EDIT(body).get("order_edit") or {}
    id_, order_id = edit.get("id"), edit.get("order_id")
    if id_ is None or order_id is None:
        raise UnprocessableEvent("/order_edit/order_id: is missing", reason="bad_id")
    at = arrival.at(edit.get("committed_at"), edit.get("created_at"))
    event = Event(arrival.key("order", order_id, "edit", id_), "Order Updated", at, {"order_id": order_id})
    return Normalised(events=(event,), order_ref=order_id)


def refund(body: Any, arrival: Arrival) -> Normalised:
    """refunds/create: no customer in it, only the order's id."""
    found = REFUND(body)
    id_, order_id = record_id(found), found.get("order_id")
    if not found.keys() & _AMOUNTS:
        return Normalised(order_ref=order_id, skipped="stub")
    if order_id is None:
        raise UnprocessableEvent("/order_id: must be a whole number of up to 64 bits", reason="bad_id")
    entity, event = _refund(found, id_, order_id, None, arrival)
    test = any(one.get("test") for one in found.get("transactions") or ())
    events = (event,) if not test or arrival.test_orders else ()
    return Normalised(events=events, entities=(entity,), order_ref=order_id)


def _buyer(
    found: Mapping[str, Any], as_of: Millis, arrival: Arrival
) -> tuple[tuple[Identifier, ...], tuple[Entity, ...], tuple[Any, ...]]:
    """Identifiers, the customer's entity and dated consent of an order.

    The order's own e-mail may be another person's (a gift), so it counts only where the customer has none.
    """
    who: list[Identifier] = []
    entities: tuple[Entity, ...] = ()
    consents: tuple[Any, ...] = ()
    customer = found.get("customer")
    if customer and (customer.get("id") or customer.get("admin_graphql_api_id")):
        who.extend(customers.identifiers(customer, arrival))
        if not is_stub(customer):
            stated = arrival.version(customer.get("updated_at"), as_of)
            entities = (customers.entity(customer, stated, found.get("customer_locale")),)
            consents = customers.consents(customer, arrival, undated=None)
    kinds = {identifier.kind for identifier in who}
    if "email" not in kinds and (email := read_email(found.get("email")) or read_email(found.get("contact_email"))):
        who.append(Identifier("email", email))
    if "phone" not in kinds and "customer_id" not in kinds and found.get("phone"):
        address = found.get("shipping_address") or found.get("billing_address") or {}
        if phone := read_phone(found["phone"], address.get("country_code")):
            who.append(Identifier("phone", phone))
    if token := found.get("checkout_token"):
        who.append(Identifier("checkout_token", token))
    if token := found.get("cart_token"):
        who.append(Identifier("cart_token", token))
    return tuple(who), entities, consents


def _properties(
    found: Mapping[str, Any], id_: str, total: float, currency: str, bought: list[dict[str, Json]], *, test: bool
) -> dict[str, Json]:
    shipping = found.get("total_shipping_price_set")
    bag = found.get("total_price_set")
    properties = known(
        order_id=id_,
        order_name=found.get("name"),
        checkout_token=found.get("checkout_token"),
        cart_token=found.get("cart_token"),
        total=total,
        subtotal=in_shop_currency(found, "subtotal_price"),
        shipping=shipping.shop if shipping else shipping_of(found),
        tax=in_shop_currency(found, "total_tax"),
        discount=in_shop_currency(found, "total_discounts"),
        coupon=coupon_of(found),
        currency=currency,
        channel=found.get("source_name"),
        test=test or None,
    )
    if bag and bag.presentment is not None and bag.presentment_currency not in (None, bag.currency):
        properties |= {"presentment_total": bag.presentment, "presentment_currency": bag.presentment_currency}
    properties["products"] = bought
    return properties


def _happened(
    found: Mapping[str, Any],
    id_: str,
    placed_at: Millis,
    cancelled_at: Millis | None,
    as_of: Millis,
    properties: dict[str, Json],
    arrival: Arrival,
) -> Iterator[Event]:
    yield Event(arrival.key("order", id_, "completed"), "Order Completed", placed_at, properties)
    if cancelled_at is not None:
        reason = known(reason=found.get("cancel_reason"))
        yield Event(arrival.key("order", id_, "cancelled"), "Order Cancelled", cancelled_at, {**properties, **reason})
    if found.get("fulfillment_status") == "fulfilled" or arrival.topic == "orders/fulfilled":
        sent = [
            one["created_at"]
            for one in found.get("fulfillments") or ()
            if one.get("created_at") is not None and one.get("status") not in ("cancelled", *_FAILED)
        ]
        at = arrival.at(max(sent, default=None), found.get("closed_at"), as_of)
        yield Event(arrival.key("order", id_, "fulfilled"), "Order Fulfilled", at, properties)


def _refund(
    found: Mapping[str, Any], id_: str, order_id: str, currency: str | None, arrival: Arrival
) -> tuple[Entity, Event]:
    """The refund and its event. `currency` is the shop's where the order says so, else the money bags tell."""
    lines = found.get("refund_line_items") or []
    currency = currency or _currency_of(lines) or arrival.currency
    at = arrival.at(found.get("processed_at"), found.get("created_at"))
    amount = _refunded(found, currency)
    entity = Entity(
        "refund", id_, arrival.version(found.get("created_at")), {"order_id": order_id, "amount": amount, "at": at}
    )
    returned = [
        {**product(line["line_item"]), **known(quantity=line.get("quantity"))}
        for line in lines
        if line.get("line_item")
    ]
    properties: dict[str, Json] = {
        "order_id": order_id,
        "refund_id": id_,
        "total": amount,
        "currency": currency,
        "products": returned,
    }
    return entity, Event(arrival.key("refund", id_), "Order Refunded", at, properties)


def _refunded(found: Mapping[str, Any], currency: str) -> float:
    """What the buyer got back, in the shop's currency.

    The transactions say what was paid out, but a transaction may be in the currency the buyer paid in, without the
    shop's beside it. Then, or with none at all (goods taken off an unpaid order), the lines, shipping, duties and
    adjustments add up to it; adjustments have the opposite sign, so -5.00 of shipping is 5.00 given back.
    """
    if (total := found.get("total_refunded_set")) and total.shop is not None:
        return float(total.shop)
    payments = [one for one in found.get("transactions") or () if (one.get("kind") or "refund") == "refund"]
    if payments and all(_in_currency(one, currency) for one in payments):
        return add_up(
            in_shop_currency(one, "amount") for one in payments if (one.get("status") or "success") not in _FAILED
        )
    parts: list[float | None] = []
    for line in found.get("refund_line_items") or ():
        parts += [in_shop_currency(line, "subtotal"), in_shop_currency(line, "total_tax")]
    for line in found.get("refund_shipping_lines") or ():
        parts += [in_shop_currency(line, "subtotal_amount"), in_shop_currency(line, "tax_amount")]
    parts.append(in_shop_currency(found, "total_duties"))
    for one in found.get("order_adjustments") or ():
        parts += [-(in_shop_currency(one, name) or 0.0) for name in ("amount", "tax_amount")]
    return add_up(parts)


def _in_currency(transaction: Mapping[str, Any], currency: str) -> bool:
    bag = transaction.get("amount_set")
    return bool(bag and bag.shop is not None) or (transaction.get("currency") or currency) == currency


def _currency_of(lines: list[dict[str, Any]]) -> str | None:
    bags = (line.get("subtotal_set") for line in lines)
    return next((bag.currency for bag in bags if bag and bag.currency), None)


def coupon_of(found: Mapping[str, Any]) -> str | None:
    """The first discount code that was used."""
    return next((one["code"] for one in found.get("discount_codes") or () if one.get("code")), None)


def shipping_of(found: Mapping[str, Any]) -> float | None:
    """What the shipping lines add up to, or None without any."""
    lines = found.get("shipping_lines")
    return add_up(in_shop_currency(line, "price") for line in lines) if lines else None
