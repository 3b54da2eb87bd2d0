"""Bodies as Shopify's webhooks have them in API version 2026-10, built from the store's own people and things.

Since 2025-01 a customer carries neither tags nor consent nor totals; since 2026-04 a checkout has no id and an order no
checkout_id. Ids are 64 bit, money is a decimal text beside its *_set, instants carry the shop's offset.
"""

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from connector.clock import Millis, isoformat
from connector.simulator.catalogue import CATALOGUE, Product
from connector.simulator.people import Person, invent_people

CURRENCY = "EUR"
DOMAIN = "aurora-outfitters.myshopify.com"
ZONE = ZoneInfo("Europe/Paris")
FREE_SHIPPING = 150_00
SHIPPING = 6_90

Body = dict[str, Any]


@dataclass(slots=True)
class Line:
    """Pieces of one variant; `refunded` of them were given back."""

    id: int
    product: Product
    variant: tuple[int, str]
    quantity: int
    refunded: int = 0

    @property
    def total(self) -> int:
        """Cents for all pieces."""
        return self.product.price * self.quantity


@dataclass(slots=True)
class Order:
    """An order of the store, with the tokens of the cart and the checkout it came from."""

    id: int
    number: int
    token: str
    cart_token: str
    checkout_token: str
    person: Person
    lines: list[Line]
    created: Millis
    updated: Millis
    discount: int = 0
    code: str | None = None
    paid: bool = False
    fulfilled: bool = False
    cancelled: Millis | None = None
    cancel_reason: str | None = None
    refunds: list[Body] = field(default_factory=list)
    marketing: bool = False

    @property
    def subtotal(self) -> int:
        """Cents of the lines less the discount."""
        return sum(line.total for line in self.lines) - self.discount

    @property
    def shipping(self) -> int:
        """Cents of shipping."""
        return 0 if self.subtotal >= FREE_SHIPPING else SHIPPING

    @property
    def total(self) -> int:
        """Cents of everything; prices hold 20 % tax."""
        return self.subtotal + self.shipping

    @property
    def refunded(self) -> int:
        """Cents given back."""
        return sum(line.product.price * line.refunded for line in self.lines)


def local(at: Millis) -> str:
    """RFC 3339 to the second with the shop's offset, such as `2026-11-21T11:00:00+01:00`."""
    return datetime.fromtimestamp(at // 1000, UTC).astimezone(ZONE).isoformat()


def money(cents: int) -> str:
    """A decimal text of the major unit."""
    return f"{cents // 100}.{cents % 100:02d}"


def money_set(cents: int) -> Body:
    """The amount in the shop's and the buyer's currency, which are the same here."""
    amount = {"amount": money(cents), "currency_code": CURRENCY}
    return {"shop_money": amount, "presentment_money": amount}


def tax_within(cents: int) -> int:
    """Cents of 20 % tax held in a gross price."""
    return round(cents / 6)


def address(person: Person) -> Body:
    """The person's one address, as orders and checkouts show it."""
    place = person.place
    return {
        "first_name": person.first_name,
        "address1": f"{person.house} {place.street}",
        "phone": person.phone,
        "city": place.city,
        "zip": place.zip,
        "province": place.province,
        "country": place.country,
        "last_name": person.last_name,
        "address2": None,
        "company": None,
        "latitude": None,
        "longitude": None,
        "name": f"{person.first_name} {person.last_name}",
        "country_code": place.country_code,
        "province_code": place.province_code,
    }


def customer(person: Person, updated: Millis, *, with_addresses: bool = False) -> Body:
    """The person as customers/* show them, or nested in an order or checkout."""
    home = address(person)
    for key in ("latitude", "longitude"):
        del home[key]
    home |= {
        "id": person.address_id,
        "customer_id": person.id,
        "country_name": person.place.country,
        "default": True,
    }
    body: Body = {
        "id": person.id,
        "created_at": local(person.joined or updated),
        "updated_at": local(updated),
        "first_name": person.first_name,
        "last_name": person.last_name,
        "state": "enabled" if person.signs_in else "disabled",
        "note": None,
        "verified_email": True,
        "multipass_identifier": None,
        "tax_exempt": False,
        "email": person.email,
        "phone": person.phone,
        "currency": CURRENCY,
    }
    if with_addresses:
        body["addresses"] = [home]
    return body | {
        "tax_exemptions": [],
        "admin_graphql_api_id": f"gid://shopify/Customer/{person.id}",
        "default_address": home,
    }


def _variant_title(line: Line) -> str | None:
    return None if line.variant[1] == "Default Title" else line.variant[1]


def _name(line: Line) -> str:
    title = _variant_title(line)
    return f"{line.product.title} - {title}" if title else line.product.title


def order_line(line: Line) -> Body:
    """One line item of an order."""
    tax = tax_within(line.total)
    return {
        "id": line.id,
        "admin_graphql_api_id": f"gid://shopify/LineItem/{line.id}",
        "attributed_staffs": [],
        "current_quantity": line.quantity - line.refunded,
        "fulfillable_quantity": line.quantity,
        "fulfillment_service": "manual",
        "fulfillment_status": None,
        "gift_card": False,
        "grams": line.product.grams,
        "name": _name(line),
        "price": money(line.product.price),
        "price_set": money_set(line.product.price),
        "product_exists": True,
        "product_id": line.product.id,
        "properties": [],
        "quantity": line.quantity,
        "requires_shipping": True,
        "sales_line_item_group_id": None,
        "sku": f"AU-{line.variant[0] % 1_000_000:06d}",
        "taxable": True,
        "title": line.product.title,
        "total_discount": "0.00",
        "total_discount_set": money_set(0),
        "variant_id": line.variant[0],
        "variant_inventory_management": "shopify",
        "variant_title": _variant_title(line),
        "vendor": line.product.vendor,
        "tax_lines": [
            {"channel_liable": False, "price": money(tax), "price_set": money_set(tax), "rate": 0.2, "title": "TVA"}
        ],
        "duties": [],
        "discount_allocations": [],
    }


def status(order: Order) -> str:
    """Where the order's payment stands."""
    if order.refunded:
        return "refunded" if order.refunded >= order.subtotal + order.discount else "partially_refunded"
    if order.cancelled:
        return "voided"
    return "paid" if order.paid else "pending"


def order(order: Order) -> Body:
    """An order as orders/create, updated, paid and cancelled show it."""
    left = 0 if order.cancelled and not order.paid else order.subtotal - order.refunded
    current = 0 if order.cancelled else left + order.shipping
    tax, current_tax = tax_within(order.total), tax_within(current)
    lines_total = sum(line.total for line in order.lines)
    home = address(order.person)
    return {
        "id": order.id,
        "admin_graphql_api_id": f"gid://shopify/Order/{order.id}",
        "app_id": 580111,
        "browser_ip": "203.0.113.24",
        "buyer_accepts_marketing": order.marketing,
        "cancel_reason": order.cancel_reason,
        "cancelled_at": local(order.cancelled) if order.cancelled else None,
        "cart_token": order.cart_token,
        "checkout_token": order.checkout_token,
        "client_details": None,
        "closed_at": None,
        "confirmation_number": order.token[:9].upper(),
        "confirmed": True,
        "contact_email": order.person.email,
        "created_at": local(order.created),
        "currency": CURRENCY,
        "current_subtotal_price": money(left),
        "current_subtotal_price_set": money_set(left),
        "current_total_additional_fees_set": None,
        "current_total_discounts": money(order.discount),
        "current_total_discounts_set": money_set(order.discount),
        "current_total_duties_set": None,
        "current_total_price": money(current),
        "current_total_price_set": money_set(current),
        "current_total_tax": money(current_tax),
        "current_total_tax_set": money_set(current_tax),
        "customer_locale": order.person.place.locale,
        "device_id": None,
        "discount_codes": [{"code": order.code, "amount": money(order.discount), "type": "percentage"}]
        if order.code
        else [],
        "duties_included": False,
        "email": order.person.email,
        "estimated_taxes": False,
        "financial_status": status(order),
        "fulfillment_status": "fulfilled" if order.fulfilled else None,
        "landing_site": "/",
        "landing_site_ref": None,
        "location_id": None,
        "merchant_of_record_app_id": None,
        "name": f"#{order.number}",
        "note": None,
        "note_attributes": [],
        "number": order.number - 1000,
        "order_number": order.number,
        "order_status_url": f"https://{DOMAIN}/70311/orders/{order.token}/authenticate?key={order.token[:12]}",
        "original_total_duties_set": None,
        "payment_gateway_names": ["shopify_payments"],
        "phone": order.person.phone,
        "presentment_currency": CURRENCY,
        "processed_at": local(order.created),
        "reference": None,
        "referring_site": "",
        "source_identifier": None,
        "source_name": "web",
        "source_url": None,
        "subtotal_price": money(order.subtotal),
        "subtotal_price_set": money_set(order.subtotal),
        "tags": "",
        "tax_exempt": False,
        "tax_lines": [{"price": money(tax), "rate": 0.2, "title": "TVA", "channel_liable": False}],
        "taxes_included": True,
        "test": False,
        "token": order.token,
        "total_discounts": money(order.discount),
        "total_discounts_set": money_set(order.discount),
        "total_line_items_price": money(lines_total),
        "total_line_items_price_set": money_set(lines_total),
        "total_outstanding": "0.00" if order.paid else money(order.total),
        "total_price": money(order.total),
        "total_price_set": money_set(order.total),
        "total_shipping_price_set": money_set(order.shipping),
        "total_tax": money(tax),
        "total_tax_set": money_set(tax),
        "total_tip_received": "0.00",
        "total_weight": sum(line.product.grams * line.quantity for line in order.lines),
        "updated_at": local(order.updated),
        "user_id": None,
        "billing_address": home,
        "customer": customer(order.person, order.updated),
        "discount_applications": [],
        "fulfillments": [],
        "line_items": [order_line(line) for line in order.lines],
        "payment_terms": None,
        "refunds": order.refunds,
        "shipping_address": home,
        "shipping_lines": [
            {
                "id": order.id + 7,
                "code": "Standard",
                "discounted_price": money(order.shipping),
                "discounted_price_set": money_set(order.shipping),
                "is_removed": False,
                "phone": None,
                "price": money(order.shipping),
                "price_set": money_set(order.shipping),
                "source": "shopify",
                "title": "Standard",
                "tax_lines": [],
                "discount_allocations": [],
            }
        ],
        "returns": [],
    }


def refund(order: Order, line: Line, id_: int, at: Millis) -> Body:
    """A refund of every piece of one line, as refunds/create shows it and the order nests it."""
    tax = tax_within(line.total)
    return {
        "id": id_,
        "order_id": order.id,
        "created_at": local(at),
        "note": "Did not fit",
        "user_id": 548380009,
        "processed_at": local(at),
        "duties": [],
        "total_duties_set": money_set(0),
        "return": None,
        "refund_shipping_lines": [],
        "restock": True,
        "admin_graphql_api_id": f"gid://shopify/Refund/{id_}",
        "order_adjustments": [],
        "refund_line_items": [
            {
                "id": id_ + 1,
                "quantity": line.quantity,
                "line_item_id": line.id,
                "location_id": 70311,
                "restock_type": "return",
                "subtotal": line.total / 100,
                "total_tax": tax / 100,
                "subtotal_set": money_set(line.total),
                "total_tax_set": money_set(tax),
                "line_item": order_line(line),
            }
        ],
        "transactions": [
            {
                "id": id_ + 2,
                "order_id": order.id,
                "kind": "refund",
                "gateway": "shopify_payments",
                "status": "success",
                "message": "Transaction approved",
                "created_at": local(at),
                "test": False,
                "parent_id": order.id + 9,
                "amount": money(line.total),
                "currency": CURRENCY,
                "admin_graphql_api_id": f"gid://shopify/OrderTransaction/{id_ + 2}",
            }
        ],
    }


def cart(token: str, lines: list[Line], created: Millis, updated: Millis) -> Body:
    """A cart as carts/create and carts/update show it: no word of whose it is. Instants are UTC here."""
    items = [
        {
            "id": line.variant[0],
            "properties": {},
            "quantity": line.quantity,
            "variant_id": line.variant[0],
            "key": f"{line.variant[0]}:{token}",
            "discounted_price": money(line.product.price),
            "discounts": [],
            "gift_card": False,
            "grams": line.product.grams,
            "line_price": money(line.total),
            "original_line_price": money(line.total),
            "original_price": money(line.product.price),
            "price": money(line.product.price),
            "product_id": line.product.id,
            "sku": f"AU-{line.variant[0] % 1_000_000:06d}",
            "taxable": True,
            "title": _name(line),
            "total_discount": "0.00",
            "vendor": line.product.vendor,
            "line_price_set": money_set(line.total),
            "price_set": money_set(line.product.price),
        }
        for line in lines
    ]
    return {
        "id": token,
        "token": token,
        "line_items": items,
        "note": "",
        "updated_at": isoformat(updated),
        "created_at": isoformat(created),
    }


def checkout(
    token: str,
    cart_token: str,
    person: Person,
    lines: list[Line],
    created: Millis,
    updated: Millis,
    *,
    completed: Millis | None = None,
    addressed: bool = True,
    marketing: bool = False,
) -> Body:
    """A checkout as checkouts/create and checkouts/update show it; `addressed` once the address is typed."""
    subtotal = sum(line.total for line in lines)
    shipping = 0 if subtotal >= FREE_SHIPPING or not addressed else SHIPPING
    home = address(person) if addressed else None
    return {
        "token": token,
        "cart_token": cart_token,
        "email": person.email,
        "gateway": None,
        "buyer_accepts_marketing": marketing,
        "buyer_accepts_sms_marketing": False,
        "sms_marketing_phone": None,
        "created_at": local(created),
        "updated_at": local(updated),
        "landing_site": "/",
        "note": "",
        "note_attributes": [],
        "referring_site": "",
        "shipping_lines": [],
        "taxes_included": True,
        "total_weight": sum(line.product.grams * line.quantity for line in lines),
        "currency": CURRENCY,
        "completed_at": local(completed) if completed else None,
        "phone": person.phone if addressed else None,
        "customer_locale": person.place.locale,
        "line_items": [
            {
                "key": f"{line.variant[0]:x}",
                "fulfillment_service": "manual",
                "gift_card": False,
                "grams": line.product.grams,
                "presentment_title": line.product.title,
                "presentment_variant_title": _variant_title(line) or "",
                "product_id": line.product.id,
                "properties": None,
                "quantity": line.quantity,
                "requires_shipping": True,
                "sku": f"AU-{line.variant[0] % 1_000_000:06d}",
                "taxable": True,
                "title": line.product.title,
                "variant_id": line.variant[0],
                "variant_title": _variant_title(line) or "",
                "variant_price": money(line.product.price),
                "vendor": line.product.vendor,
                "compare_at_price": None,
                "line_price": money(line.total),
                "price": money(line.product.price),
            }
            for line in lines
        ],
        "name": f"#{int(token[:12], 16)}",
        "source": None,
        "abandoned_checkout_url": f"https://{DOMAIN}/70311/checkouts/ac/{token}/recover?key={token[:16]}",
        "discount_codes": [],
        "tax_lines": [{"price": money(tax_within(subtotal)), "rate": 0.2, "title": "TVA", "channel_liable": False}],
        "source_name": "web",
        "presentment_currency": CURRENCY,
        "total_discounts": "0.00",
        "total_line_items_price": money(subtotal),
        "total_price": money(subtotal + shipping),
        "total_tax": money(tax_within(subtotal + shipping)),
        "subtotal_price": money(subtotal),
        "billing_address": home,
        "shipping_address": home,
        "customer": customer(person, updated) if person.known else None,
    }


def product(product: Product, at: Millis) -> Body:
    """A product as products/create and products/update show it."""
    variants = [
        {
            "admin_graphql_api_id": f"gid://shopify/ProductVariant/{id_}",
            "barcode": None,
            "compare_at_price": None,
            "created_at": local(at),
            "id": id_,
            "inventory_policy": "deny",
            "position": position,
            "price": money(product.price),
            "product_id": product.id,
            "sku": f"AU-{id_ % 1_000_000:06d}",
            "taxable": True,
            "title": title,
            "updated_at": local(at),
            "option1": title,
            "inventory_quantity": 40,
        }
        for position, (id_, title) in enumerate(product.variants, start=1)
    ]
    return {
        "admin_graphql_api_id": f"gid://shopify/Product/{product.id}",
        "body_html": f"<p>{product.title} by {product.vendor}.</p>",
        "created_at": local(at),
        "handle": product.handle,
        "id": product.id,
        "product_type": product.kind,
        "published_at": local(at),
        "template_suffix": None,
        "title": product.title,
        "updated_at": local(at),
        "vendor": product.vendor,
        "status": "active",
        "published_scope": "global",
        "tags": product.kind.lower(),
        "variants": variants,
        "options": [{"name": "Title", "position": 1, "values": [title for _, title in product.variants]}],
        "images": [{"id": product.id + 1, "src": f"https://cdn.example.com/{product.handle}.jpg", "position": 1}],
        "variant_gids": [
            {"admin_graphql_api_id": v["admin_graphql_api_id"], "updated_at": local(at)} for v in variants
        ],
    }


def pixel(name: str, id_: str, person: Person, at: Millis, seq: int, data: Body) -> Body:
    """A web pixel event as the merchant's forwarder sends it; who is signed in is named beside the envelope."""
    body: Body = {
        "id": id_,
        "clientId": person.client_id,
        "name": name,
        "seq": seq,
        "timestamp": isoformat(at),
        "type": "standard",
        "context": {
            "document": {"location": {"href": f"https://{DOMAIN}/"}, "referrer": "", "title": "Aurora Outfitters"},
            "navigator": {"language": person.place.locale, "userAgent": "Mozilla/5.0"},
        },
        "data": data,
    }
    if person.signs_in and person.known:
        body["customer"] = {"id": str(person.id), "email": person.email}
    return body


def pixel_variant(product: Product, variant: tuple[int, str]) -> Body:
    """A variant as pixels show it: ids are texts, money is a number."""
    return {
        "id": str(variant[0]),
        "title": variant[1],
        "sku": f"AU-{variant[0] % 1_000_000:06d}",
        "price": {"amount": product.price / 100, "currencyCode": CURRENCY},
        "product": {
            "id": str(product.id),
            "title": product.title,
            "vendor": product.vendor,
            "type": product.kind,
            "url": f"/products/{product.handle}",
        },
        "image": {"src": f"https://cdn.example.com/{product.handle}.jpg"},
    }


def invented_order(rng: random.Random, at: Millis) -> Order:
    """A paid order of one or two lines by a person nobody has seen before, for benchmarks."""
    person = invent_people(rng, 1)[0]
    person.email = f"{rng.getrandbits(40):010x}.{person.email}"
    products = rng.sample(CATALOGUE, rng.choice((1, 2, 2)))
    lines = [
        Line(rng.randrange(10**17, 9 * 10**17), product, rng.choice(product.variants), rng.choice((1, 1, 2)))
        for product in products
    ]
    return Order(
        id=rng.randrange(10**17, 9 * 10**17),
        number=rng.randrange(1001, 900_000),
        token=f"{rng.getrandbits(128):032x}",
        cart_token=f"{rng.getrandbits(128):032x}",
        checkout_token=f"{rng.getrandbits(128):032x}",
        person=person,
        lines=lines,
        created=at,
        updated=at,
        paid=True,
    )
