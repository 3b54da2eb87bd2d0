"""What several people did in a shop and on its site, and all that is known of them afterwards."""

import json
from typing import Any

from werkzeug.test import Client

from connector.app import create_app
from connector.clock import DAY, HOUR, MINUTE
from tests.conftest import CONFIG, NOON, Shop, checkout, iso, order
from tests.integration.emptied import empty

SERVER_KEY, BROWSER_KEY, PAGE = "sk_server_key", "wk_public_key", "https://aurora.example"
SITE = f"""
  site:
    kind: segment_api
    secrets: [{SERVER_KEY}]
    browser: {{keys: [{BROWSER_KEY}], origins: ["{PAGE}"]}}
    shop: shop
"""
RULES = """
  subscribed:
    name: May be written to
    when: {consent: email, in: [subscribed]}
  two-orders:
    name: Bought twice
    when: {event: Order Completed, count: {">=": 2}}
  looked:
    name: Looked at something
    when: {event: Product Viewed}
"""
CONFIGURED = CONFIG.replace("fields:\n", f"{SITE.lstrip(chr(10))}fields:\n", 1) + RULES

Told = tuple[str, dict[str, Any]]
"""A topic of the shop, or `identify`, `track` with the key it comes by (`server identify`), and the body."""


class History:
    """A shop and its site that can be told things in any order."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self._client = Client(create_app(services=shop.services, now=lambda: shop.time))

    def deliver(self, what: Told, id: str | None = None) -> None:
        """Deliver it, under an id of its own where none is given; a call of the site has its messageId."""
        topic, body = what
        whose, _, call = topic.partition(" ")
        if not call:
            assert self.shop.deliver(topic, body, id=id).status == 200
            return
        key = SERVER_KEY if whose == "server" else BROWSER_KEY
        origin = {} if whose == "server" else {"Origin": PAGE}
        sent = {"writeKey": key, "sentAt": iso(self.shop.time), **body}
        answer = self._client.post(
            f"/v1/{call}", data=json.dumps(sent), headers={"Content-Type": "text/plain", **origin}
        )
        assert answer.status_code == 200, answer.data

    def told(self, deliveries: list[Told], pauses: list[bool], times: int = 1) -> dict[str, Any]:
        """What comes of these deliveries; after those with a pause everything that waits is worked off. Each is sent
        so many times, as a sender does that has missed the answer."""
        empty(self.shop)
        self.shop.time = NOON + DAY
        for number, (what, pause) in enumerate(zip(deliveries, pauses, strict=True)):
            self.shop.time += 1
            for _ in range(times):
                self.deliver(what, f"told-{number}" if times > 1 else None)
            if pause:
                self.shop.work()
        self.shop.at(NOON + 2 * DAY)
        return content(self.shop)


def content(shop: Shop) -> dict[str, Any]:
    """All that is known of everybody, person by person, without the ids that we gave."""
    found: dict[int, dict[str, Any]] = {
        id_: {"traits": json.loads(traits), "consent": json.loads(said), "email": email}
        | {name: [] for name in ("identifiers", "events", "orders", "segments", "entities")}
        for id_, traits, said, email in shop.rows(
            "SELECT id, traits, consent, email FROM profile WHERE merged_into IS NULL"
        )
    }
    for name, query in _PARTS.items():
        for person, *row in shop.rows(query):
            if name == "entities":  # the order of its keys is that of arrival
                row[-1] = json.dumps(json.loads(row[-1]), sort_keys=True)
            found[person][name].append(tuple(row))
    people = sorted((person for person in found.values()), key=lambda person: json.dumps(person, sort_keys=True))
    return {"people": people, "letters": shop.rows("SELECT reason, body FROM dead_letter")}


_PARTS = {
    "identifiers": "SELECT profile_id, kind, value, shared FROM identifier ORDER BY kind, value",
    "events": "SELECT profile_id, id, at, name, properties FROM event ORDER BY id",
    "orders": "SELECT profile_id, id, total, refunded, counts FROM shop_order ORDER BY id",
    "segments": "SELECT profile_id, segment FROM membership WHERE matched = 1 ORDER BY segment",
    "entities": "SELECT profile_id, kind, id, data FROM entity WHERE profile_id IS NOT NULL ORDER BY source, kind, id",
}


def sound(shop: Shop, events: int) -> None:
    """Nothing is lost, nobody is in a circle, and whoever became part of another has nothing."""
    parent = dict(shop.rows("SELECT id, merged_into FROM profile"))
    for person in parent:
        seen = set()
        at: int | None = person
        while at is not None:
            assert at not in seen, "a circle of merges"
            seen.add(at)
            at = parent[at]
    for table in ("identifier", "event", "shop_order", "entity", "membership"):
        lost = shop.rows(
            f"SELECT count(*) FROM {table} LEFT JOIN profile ON profile.id = profile_id"
            " WHERE profile_id IS NOT NULL AND (profile.id IS NULL OR merged_into IS NOT NULL)"
        )
        assert lost == [(0,)], table
    assert shop.rows("SELECT count(*) FROM event") == [(events,)]


# --- what people do ---------------------------------------------------------------------------------------------------

_LINE = {"id": 9, "product_id": 9, "variant_id": 9, "quantity": 1, "price": "9.00", "title": "Cup"}


def customer(id_: int, at: int, **more: Any) -> Told:
    return "customers/update", {"id": id_, "created_at": iso(NOON - DAY), "updated_at": iso(at), **more}


def consent(id_: int, email: str, state: str, at: int) -> Told:
    said = {"state": state, "opt_in_level": "single_opt_in", "consent_updated_at": iso(at)}
    word = {"customer_id": id_, "email_address": email, "email_marketing_consent": said}
    return "customers_email_marketing_consent/update", word


def cart(token: str, at: int) -> Told:
    return "carts/update", {"id": token, "token": token, "updated_at": iso(at), "line_items": [_LINE]}


def looked(id_: str, browser: str, at: int, **more: Any) -> Told:
    viewed = {"event": "Product Viewed", "properties": {"product_id": f"p-{id_}"}}
    return "browser track", {"messageId": id_, "anonymousId": browser, "timestamp": iso(at), **viewed, **more}


def identified(id_: str, at: int, *, key: str = "browser", **more: Any) -> Told:
    return f"{key} identify", {"messageId": id_, "timestamp": iso(at), **more}


ADA, BOB, CAT = "ada@example.com", "bob@example.com", "cat@example.com"
PHONES = {501: "+33612345678", 502: "+33698765432"}

APART: list[Told] = [
    # Ada: a customer with an account, who looks before she signs in, and changes her address.
    looked("v1", "ada-phone", NOON),
    looked("v2", "ada-phone", NOON + HOUR),
    cart("cart-ada", NOON + MINUTE),
    ("checkouts/create", checkout("check-ada", at=NOON + 2 * MINUTE, email="", cart_token="cart-ada")),
    ("orders/create", order(1001, at=NOON + 3 * MINUTE, email=ADA, cart_token="cart-ada", checkout_token="check-ada")),
    identified("i1", NOON + 4 * MINUTE, anonymousId="ada-phone", userId="501", traits={"email": ADA}),
    customer(501, NOON + HOUR, email=ADA, first_name="Ada", phone=PHONES[501]),
    customer(501, NOON + 2 * HOUR, email="ada@new.example", first_name="Ada", phone=PHONES[501]),
    consent(501, ADA, "subscribed", NOON + MINUTE),
    # Bob: another customer, on two browsers, who says no in the end.
    looked("v3", "bob-laptop", NOON),
    looked("v4", "bob-tablet", NOON),
    identified("i2", NOON + MINUTE, key="server", anonymousId="bob-laptop", userId="502", traits={"email": BOB}),
    identified("i3", NOON + MINUTE, anonymousId="bob-tablet", userId="502"),
    ("orders/create", order(1002, customer=502, email=BOB, at=NOON + 5 * MINUTE, total="50.00")),
    ("orders/create", order(1003, customer=502, email=BOB, at=NOON + 6 * MINUTE, total="60.00")),
    customer(502, NOON + HOUR, email=BOB, first_name="Bob", phone=PHONES[502]),
    consent(502, BOB, "subscribed", NOON + MINUTE),
    consent(502, BOB, "unsubscribed", NOON + 2 * MINUTE),
    # Cat: a guest, known by her address alone, and a cart that nobody ever came back to.
    ("checkouts/create", checkout("check-cat", at=NOON, email=CAT, cart_token="cart-cat")),
    cart("cart-cat", NOON),
    ("orders/create", order(1004, customer=None, email=CAT, at=NOON + MINUTE, checkout_token="check-cat")),
    ("orders/create", order(1005, customer=None, email=CAT, at=NOON + DAY, total="20.00")),
    looked("v5", "cat-phone", NOON),
    identified("i4", NOON, anonymousId="cat-phone", traits={"email": CAT}),
    cart("cart-nobody", NOON),
    looked("v6", "nobody", NOON),
]  # fmt: skip
"""Ada, Bob, Cat and two unknown visitors, of whom no two claim one thing."""

DEE, EVE, FAY = "dee@example.com", "eve@example.com", "fay@example.com"
PHONE = "+33611111111"

MEETING: list[Told] = [
    # Dee gives up an address and a phone, which Eve has then: both are customers, and the shop says when.
    customer(503, NOON + MINUTE, email="shared@example.com", first_name="Dee", phone=PHONE),
    customer(504, NOON + HOUR, email="shared@example.com", first_name="Eve", phone=PHONE),
    customer(503, NOON + 2 * HOUR, email=DEE, first_name="Dee"),
    customer(504, NOON + 3 * HOUR, email=EVE, first_name="Eve", phone=PHONE),
    ("orders/create", order(2001, customer=503, email=DEE, at=NOON + 2 * HOUR, total="10.00")),
    # Of two at one instant.
    customer(505, NOON, email="twins@example.com", first_name="Una"),
    customer(506, NOON, email="twins@example.com", first_name="Ulf"),
    # Fay is a guest first, then a customer, and then the shop merges an account of hers into it.
    ("checkouts/create", checkout("check-fay", at=NOON, email=FAY)),
    ("orders/create", order(2002, customer=None, email=FAY, at=NOON + MINUTE, checkout_token="check-fay")),
    identified("j1", NOON, anonymousId="fay-phone", traits={"email": FAY}),
    looked("w1", "fay-phone", NOON),
    customer(507, NOON + HOUR, email=FAY, first_name="Fay"),
    ("orders/create", order(2003, customer=508, email="fay@work.example", at=NOON + MINUTE, total="30.00")),
    consent(507, FAY, "subscribed", NOON + MINUTE),
    ("customers/merge", {
        "admin_graphql_api_customer_kept_id": "gid://shopify/Customer/507",
        "admin_graphql_api_customer_deleted_id": "gid://shopify/Customer/508",
        "status": "completed",
    }),
    # An address that is nobody's.
    ("orders/create", order(2004, customer=None, email="test@test.com", total="5.00")),
    ("orders/create", order(2005, customer=None, email="test@test.com", total="6.00")),
]  # fmt: skip
"""People whose identifiers meet, with a rule for each that does not ask what came first."""
