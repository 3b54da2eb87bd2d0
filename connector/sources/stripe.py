"""Stripe: events of payments, checkouts, customers, subscriptions and refunds.

An order is a payment: its id is that of the payment intent, so that the charge and the checkout session of one purchase
are one order. Amounts are in the currency's smallest unit; only those in the store's own currency are added up.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from marshmallow import Schema

from connector.clock import Millis, isoformat
from connector.domain import Delivery, Entity, Event, Identifier, Json, Normalised, RawRequest, StoreInfo
from connector.errors import RejectedDelivery, UnprocessableEvent
from connector.ports import Claim
from connector.sources import signatures
from connector.sources.contacts import read_email, read_phone
from connector.sources.documents import json_object, known
from connector.sources.fields import Part, Parts, Reader, Unreadable, Value, flag, id_text, text, whole
from connector.sources.filing import delivery_id, email_key, key_of
from connector.sources.instants import happened_at

_SIGNED = signatures.Scheme(signatures.read_stripe)
_HINT = (
    "Stripe shows it as Signing secret (whsec_...) in the endpoint, under Developers > Webhooks; each endpoint, and "
    "each run of its command line, has one of its own"
)

# https://docs.stripe.com/currencies (2026-11). ISK and UGX have no decimals any more and are still sent with two.
_DECIMALS = dict.fromkeys("BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF".split(), 0)
_DECIMALS |= dict.fromkeys("BHD JOD KWD OMR TND".split(), 3)


class Stripe:
    """The source of kind `stripe`."""

    kind = "stripe"

    def verify(self, request: RawRequest, secrets: Sequence[str]) -> None:
        """Returns when one of `secrets` signed the raw body within five minutes; RejectedDelivery 401 otherwise."""
        signatures.verify(_SIGNED, request, secrets, _HINT)

    def claim(self, request: RawRequest) -> tuple[Claim, ...]:
        """The filing data. No header tells any of it, and a search would find the `type` of a card: it is parsed."""
        try:
            event = orjson.loads(request.body)
            topic, id_ = event["type"], event["id"]
            thing = event["data"]["object"]
            key = _key(thing)
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            raise RejectedDelivery(
                "this is no Stripe event: id, type or data.object is missing", reason="no_event"
            ) from None
        if not (isinstance(topic, str) and 0 < len(topic) <= 100 and topic.isascii() and topic.isprintable()):
            raise RejectedDelivery("the event's type is no topic", reason="missing_topic")
        filed = delivery_id(id_ if isinstance(id_, str) else None, topic, request.body)
        return (Claim(filed, topic, key or f"delivery:{filed}", {}),)

    def normalise(self, delivery: Delivery, store: StoreInfo) -> Normalised:
        """What the event means. UnprocessableEvent says which field could not be understood, by JSON pointer."""
        handler = _TOPICS.get(delivery.topic)
        if handler is None:
            return Normalised(skipped=_SKIPPED.get(delivery.topic, "not_used"))
        read, meaning = handler
        event = _EVENT(json_object(delivery.body))
        data = event.get("data") or {}
        if data.get("object") is None:
            raise UnprocessableEvent("/data/object: is missing", reason="no_object")
        found = read(data["object"])
        if found.get("id") is None:
            raise UnprocessableEvent("/data/object/id: is missing", reason="bad_id")
        return meaning(found, _Arrival(delivery, store, event.get("created"), event.get("livemode") is False))


def _key(thing: Mapping[str, Any]) -> str | None:
    """`customer:cus_1`, else a hash of the e-mail, else the payment or the thing itself."""
    own = thing.get("id") if thing.get("object") == "customer" else None
    if isinstance(id_ := own or thing.get("customer"), str) and id_:
        return key_of("customer", id_)
    for place in ("customer_details", "billing_details"):
        email = (thing.get(place) or {}).get("email")
        if isinstance(email, str) and email:
            return email_key(email.strip().encode("utf-8", "replace"))
    id_ = thing.get("payment_intent") or thing.get("charge") or thing.get("id")
    return key_of("payment", id_) if isinstance(id_, str) and id_ else None


@dataclass(frozen=True, slots=True)
class _Arrival:
    """`created`: when the event was made. `test`: it is of Stripe's test mode, and counts for nothing."""

    delivery: Delivery
    store: StoreInfo
    created: Millis | None
    test: bool

    def at(self, *stated: Millis | None) -> Millis:
        return happened_at(self.delivery.received_at, *stated, self.created)

    def key(self, *parts: str) -> str:
        return ":".join(("stripe", self.delivery.source, *parts))

    def own(self, currency: str | None) -> bool:
        return currency in (None, self.store.currency)


# --- the used fields --------------------------------------------------------------------------------------------------


def _instant(value: Any) -> Millis:
    """Epoch milliseconds of whole seconds."""
    seconds = whole(value)
    if not 0 <= seconds < 10**11:
        raise Unreadable("bad_instant", "must be seconds since 1970")
    return seconds * 1000


def _reference(value: Any) -> str | None:
    """The id of a thing that may be sent in full."""
    return id_text(value.get("id")) if type(value) is dict else id_text(value)


def _currency(value: Any) -> str:
    return text(value).upper()


class _Address(Schema):
    city = Value(text)
    country = Value(text)


class _Person(Schema):
    email = Value(text)
    name = Value(text)
    phone = Value(text)
    address = Part(_Address)


class _Customer(_Person):
    id = Value(id_text)
    created = Value(_instant)


class _Details(Schema):
    amount_discount = Value(whole)
    amount_shipping = Value(whole)
    amount_tax = Value(whole)


class _Recovery(Schema):
    url = Value(text)


class _AfterExpiration(Schema):
    recovery = Part(_Recovery)


class _Session(Schema):
    id = Value(id_text)
    mode = Value(text)
    payment_status = Value(text)
    created = Value(_instant)
    currency = Value(_currency)
    amount_total = Value(whole)
    amount_subtotal = Value(whole)
    total_details = Part(_Details)
    customer = Value(_reference)
    customer_email = Value(text)
    customer_details = Part(_Person)
    client_reference_id = Value(text)
    payment_intent = Value(_reference)
    url = Value(text)
    after_expiration = Part(_AfterExpiration)


class _Refund(Schema):
    id = Value(id_text)
    amount = Value(whole)
    charge = Value(_reference)
    payment_intent = Value(_reference)
    currency = Value(_currency)
    status = Value(text)
    reason = Value(text)
    created = Value(_instant)


class _Refunds(Schema):
    data = Parts(_Refund, most=100)


class _Charge(Schema):
    id = Value(id_text)
    amount = Value(whole)
    currency = Value(_currency)
    created = Value(_instant)
    customer = Value(_reference)
    billing_details = Part(_Person)
    receipt_email = Value(text)
    payment_intent = Value(_reference)
    description = Value(text)
    refunds = Part(_Refunds)


class _Subscription(Schema):
    id = Value(id_text)
    customer = Value(_reference)
    status = Value(text)
    created = Value(_instant)
    ended_at = Value(_instant)
    currency = Value(_currency)


class _Data(Schema):
    object = Value(lambda value: value)


class _Event(Schema):
    created = Value(_instant)
    livemode = Value(flag)
    data = Part(_Data)


_EVENT = Reader(_Event)


# --- what events mean -------------------------------------------------------------------------------------------------


def _customer(found: Mapping[str, Any], arrival: _Arrival) -> Normalised:
    """The customer in full. The address is what was typed at the checkout: no authority takes it from somebody else."""
    first, _, last = (found.get("name") or "").strip().partition(" ")
    address = found.get("address") or {}
    created = found.get("created")
    data = known(
        first_name=first,
        last_name=last.strip(),
        email=read_email(found.get("email")),
        phone=read_phone(found.get("phone"), address.get("country")),
        city=address.get("city"),
        country=address.get("country"),
        created_at=None if created is None else isoformat(arrival.at(created)),
    )
    entity = Entity("customer", found["id"], arrival.at(), data)
    return Normalised(identifiers=_who(found["id"], found, arrival), entities=(entity,))


def _customer_deleted(found: Mapping[str, Any], arrival: _Arrival) -> Normalised:
    entity = Entity("customer", found["id"], arrival.at(), deleted=True)
    return Normalised(identifiers=_who(found["id"], {}, arrival), entities=(entity,))


def _session(found: Mapping[str, Any], arrival: _Arrival) -> Normalised:
    """A checkout that ended: paid, waiting for the money, which comes by an event of its own, or expired, which is an
    abandoned one."""
    person = {"email": found.get("customer_email"), **known(**(found.get("customer_details") or {}))}
    who = (*_who(found.get("customer"), person, arrival), Identifier("checkout_token", found["id"]))
    expired = arrival.delivery.topic == "checkout.session.expired"
    if found.get("mode") != "payment":
        return Normalised(identifiers=who, skipped="charge_tells")  # a subscription's first invoice is a charge
    if found.get("payment_status") == "unpaid" and not expired:
        return Normalised(identifiers=who, skipped="awaits_payment")
    currency = found.get("currency")
    details = found.get("total_details") or {}
    order = found.get("payment_intent") or found["id"]
    properties = known(
        checkout_token=found["id"],
        total=_major(found.get("amount_total"), currency),
        subtotal=_major(found.get("amount_subtotal"), currency),
        shipping=_major(details.get("amount_shipping"), currency),
        tax=_major(details.get("amount_tax"), currency),
        discount=_major(details.get("amount_discount"), currency),
        currency=currency or arrival.store.currency,
        reference=found.get("client_reference_id"),
    )
    if expired:
        url = ((found.get("after_expiration") or {}).get("recovery") or {}).get("url") or found.get("url")
        started = Event(
            arrival.key("checkout", found["id"], "started"),
            "Checkout Started",
            arrival.at(found.get("created")),
            {**properties, **known(url=url)},
        )
        return Normalised(identifiers=who, events=() if arrival.test else (started,))
    total = properties.get("total")
    if total is None:
        raise UnprocessableEvent("/data/object/amount_total: is missing", reason="bad_money")
    return _bought(who, order, total, currency, properties, arrival, arrival.at(), person)


def _charge(found: Mapping[str, Any], arrival: _Arrival) -> Normalised:
    """A payment that succeeded."""
    person = found.get("billing_details") or {}
    if not person.get("email"):
        person = {**person, "email": found.get("receipt_email")}
    currency = found.get("currency")
    total = _major(found.get("amount"), currency)
    if total is None:
        raise UnprocessableEvent("/data/object/amount: is missing", reason="bad_money")
    order = found.get("payment_intent") or found["id"]
    properties = known(total=total, currency=currency or arrival.store.currency, description=found.get("description"))
    who = _who(found.get("customer"), person, arrival)
    return _bought(who, order, total, currency, properties, arrival, arrival.at(found.get("created")), person)


def _bought(
    who: tuple[Identifier, ...],
    order: str,
    total: float,
    currency: str | None,
    properties: Mapping[str, Json],
    arrival: _Arrival,
    at: Millis,
    person: Mapping[str, Any],
) -> Normalised:
    event = Event(arrival.key("order", order, "completed"), "Order Completed", at, {"order_id": order, **properties})
    data = known(total=total, currency=arrival.store.currency, placed_at=at, test=arrival.test or None)
    data |= known(checkout_token=properties.get("checkout_token"), financial_status="paid")
    data["products"] = []
    entities = [*_guest(who, person, at)]
    if arrival.own(currency):
        entities.append(Entity("order", order, arrival.at(), data))
    return Normalised(
        identifiers=who, events=() if arrival.test else (event,), entities=tuple(entities), order_ref=order
    )


def _guest(who: Sequence[Identifier], person: Mapping[str, Any], at: Millis) -> Iterator[Entity]:
    """What is known of a buyer who is no customer: it is told nowhere else."""
    email = next((one.value for one in who if one.kind == "email"), None)
    if email is None or any(one.kind == "customer_id" for one in who):
        return
    first, _, last = (person.get("name") or "").strip().partition(" ")
    address = person.get("address") or {}
    data = known(first_name=first, last_name=last.strip(), email=email)
    data |= known(city=address.get("city"), country=address.get("country"))
    yield Entity("customer", email_key(email.encode()), at, data)


def _refunded(found: Mapping[str, Any], arrival: _Arrival) -> Normalised:
    return _refunds([found], arrival)


def _charge_refunded(found: Mapping[str, Any], arrival: _Arrival) -> Normalised:
    """Up to API version 2022-08-01 with the refunds in it; later ones come as events of their own."""
    listed = (found.get("refunds") or {}).get("data")
    if not listed:
        return Normalised(skipped="refund_tells")
    order = {"payment_intent": found.get("payment_intent"), "charge": found["id"], "currency": found.get("currency")}
    return _refunds([{**order, **known(**one)} for one in listed], arrival)


def _refunds(listed: Sequence[Mapping[str, Any]], arrival: _Arrival) -> Normalised:
    """Refunds, which name their payment alone. One that failed gives nothing back."""
    events, entities, order = [], [], None
    for one in listed:
        order, id_ = one.get("payment_intent") or one.get("charge"), one.get("id")
        amount, currency = _major(one.get("amount"), one.get("currency")), one.get("currency")
        if order is None or amount is None or id_ is None:
            raise UnprocessableEvent(
                "/data/object: a refund needs id, amount and payment_intent or charge", reason="bad_id"
            )
        failed = one.get("status") in ("failed", "canceled")
        at = arrival.at(one.get("created"))
        if arrival.own(currency) and not arrival.test:
            back = {"order_id": order, "amount": 0.0 if failed else amount, "at": at}
            entities.append(Entity("refund", id_, arrival.at(), back))
        if not failed and not arrival.test:
            stated = known(order_id=order, refund_id=id_, total=amount, reason=one.get("reason"))
            stated["currency"] = currency or arrival.store.currency
            events.append(Event(arrival.key("refund", id_), "Order Refunded", at, stated))
    return Normalised(events=tuple(events), entities=tuple(entities), order_ref=order)


def _subscription(found: Mapping[str, Any], arrival: _Arrival) -> Normalised:
    """customer.subscription.created and deleted."""
    ended = arrival.delivery.topic.endswith("deleted")
    name = "Subscription Ended" if ended else "Subscription Started"
    at = arrival.at(found.get("ended_at") if ended else found.get("created"))
    properties = known(subscription_id=found["id"], status=found.get("status"), currency=found.get("currency"))
    event = Event(arrival.key("subscription", found["id"], name.rpartition(" ")[2].lower()), name, at, properties)
    return Normalised(identifiers=_who(found.get("customer"), {}, arrival), events=() if arrival.test else (event,))


_TOPICS = {
    "customer.created": (Reader(_Customer), _customer),
    "customer.updated": (Reader(_Customer), _customer),
    "customer.deleted": (Reader(_Customer), _customer_deleted),
    "checkout.session.completed": (Reader(_Session), _session),
    "checkout.session.async_payment_succeeded": (Reader(_Session), _session),
    "checkout.session.expired": (Reader(_Session), _session),
    "charge.succeeded": (Reader(_Charge), _charge),
    "charge.refunded": (Reader(_Charge), _charge_refunded),
    "refund.created": (Reader(_Refund), _refunded),
    "refund.updated": (Reader(_Refund), _refunded),
    "refund.failed": (Reader(_Refund), _refunded),
    "customer.subscription.created": (Reader(_Subscription), _subscription),
    "customer.subscription.deleted": (Reader(_Subscription), _subscription),
}
_SKIPPED = {
    "payment_intent.succeeded": "charge_tells",
    "charge.refund.updated": "refund_tells",
    "invoice.paid": "charge_tells",
    "invoice.payment_succeeded": "charge_tells",
}


def _who(customer: str | None, person: Mapping[str, Any], arrival: _Arrival) -> tuple[Identifier, ...]:
    who = []
    if customer:
        who.append(Identifier("customer_id", f"{arrival.delivery.source}:{customer}"))
    if email := read_email(person.get("email")):
        who.append(Identifier("email", email))
    if phone := read_phone(person.get("phone"), (person.get("address") or {}).get("country")):
        who.append(Identifier("phone", phone))
    return tuple(who)


def _major(amount: int | None, currency: str | None) -> float | None:
    """Major units of an amount in the currency's smallest."""
    if amount is None:
        return None
    if abs(amount) >= 10**15:
        raise UnprocessableEvent("/data/object: an amount is beyond all money", reason="bad_money")
    decimals = _DECIMALS.get(currency or "", 2)
    return round(amount / float(10**decimals), decimals)
