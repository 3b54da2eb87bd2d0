"""A simulated Shopify store: people browse, fill carts, leave checkouts, buy, give back; Shopify tells of it.

The same seed and start give the same bytes. Every instant is the store's own: nothing here asks a clock.
"""

import heapq
import random
from collections.abc import Iterator
from itertools import count
from typing import Any

from connector.clock import DAY, HOUR, MINUTE, SECOND, Millis, isoformat
from connector.simulator import bodies
from connector.simulator.bodies import Body, Line, Order, local
from connector.simulator.catalogue import CATALOGUE, Product
from connector.simulator.delivery import Courier, Disorder, Webhook, encode, sign
from connector.simulator.people import Person, invent_people
from connector.simulator.sender import Sender

__all__ = ["Disorder", "Sender", "Shop", "Webhook", "order_body", "sign"]

Pauses = Iterator[Millis]
"""What somebody does, as a generator: each yield is a pause before the next act."""

_COSTLY = 350_00
_NUMBERS = (10**17, 9 * 10**17)


def order_body(rng: random.Random, at: Millis) -> bytes:
    """An orders/create body of about 7 KB by a person nobody has seen before, for benchmarks."""
    return encode(bodies.order(bodies.invented_order(rng, at)))


class Shop:
    """One store and its people.

    sessions_per_hour: visits that begin, on average. pace: how many times faster than real people visitors act, and
    deliveries travel, once a visit has begun; the visits themselves stay as frequent.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        people: int = 200,
        products: int = len(CATALOGUE),
        secret: str = "shpss_simulated",
        sessions_per_hour: float = 240.0,
        pace: float = 1.0,
        disorder: Disorder | None = None,
    ) -> None:
        self._random = random.Random(seed)
        self.secret = secret
        self.people = invent_people(self._random, people)
        self.products = CATALOGUE[:products]
        self._sessions_per_hour = sessions_per_hour
        self._pace = pace
        self._courier = Courier(self._random, secret, disorder or Disorder(), pace)
        self._outgoing: list[tuple[Millis, int, Webhook]] = []
        self._steps: list[tuple[Millis, int, Pauses]] = []
        self._order = count()
        self._order_number = count(1001)
        self.orders: list[Order] = []
        self.checkouts: list[dict[str, Any]] = []  # left standing or not, with what the Admin API tells of them
        self._now: Millis = 0

    # --- time passes --------------------------------------------------------------------------------------------------

    def run(self, start_ms: Millis) -> Iterator[Webhook]:
        """Live traffic from `start_ms` on, without end, in the order in which the deliveries arrive."""
        self._begin(start_ms, self._visitors())
        while self._steps:
            yield from self._advance()

    def history(self, start_ms: Millis, end_ms: Millis, *, orders: int = 120) -> Iterator[Webhook]:
        """What happened from `start_ms` until before `end_ms`: the catalogue, customers with their consent, about
        `orders` orders, views and checkouts left standing in the last two days. In order of arrival, then it ends."""
        self._now = start_ms
        for product in self.products:
            self._tell("products/create", bodies.product(product, start_ms))
        for person in self.people:
            if self._random.random() < 0.7:
                joined = self._between(start_ms, end_ms - DAY)
                self._begin(joined, self._join(person))
        for _ in range(orders):
            person = self._shopper()
            at = self._between(start_ms + HOUR, end_ms - 2 * MINUTE)
            if person.big_spender:  # they have not been seen for a while, as the lapsed have not
                at = self._between(start_ms + HOUR, max(start_ms + 2 * HOUR, end_ms - 12 * DAY))
            self._begin(at, self._past_order(person, end_ms))
        for person in self._random.sample(self.people, len(self.people) // 3):
            self._begin(self._between(max(start_ms, end_ms - 2 * DAY), end_ms - MINUTE), self._past_visit(person))
        for number, person in enumerate(self._random.sample(self.people, len(self.people) // 10)):
            # Every other one comes of age, half an hour old, in the minute after `end_ms`.
            oldest = end_ms - (30 if number % 2 else 90) * MINUTE
            self._begin(self._between(oldest, end_ms - 29 * MINUTE), self._past_checkout(person))
        while self._steps and self._steps[0][0] < end_ms:
            yield from self._advance()
        self._steps.clear()
        while self._outgoing:
            yield heapq.heappop(self._outgoing)[2]

    def _advance(self) -> Iterator[Webhook]:
        """Lets the next act happen, after whatever arrives before it."""
        at = self._steps[0][0]
        while self._outgoing and self._outgoing[0][0] <= at:
            yield heapq.heappop(self._outgoing)[2]
        _, _, acts = heapq.heappop(self._steps)
        self._now = at
        pause = next(acts, None)
        if pause is not None:
            heapq.heappush(self._steps, (at + max(1, pause), next(self._order), acts))

    def _begin(self, at: Millis, acts: Pauses) -> None:
        heapq.heappush(self._steps, (at, next(self._order), acts))

    def _tell(self, topic: str, body: Body) -> None:
        for webhook in self._courier.post(topic, body, self._now):
            heapq.heappush(self._outgoing, (webhook.at, next(self._order), webhook))

    # --- live visits --------------------------------------------------------------------------------------------------

    def _visitors(self) -> Pauses:
        while True:
            self._begin(self._now, self._visit(self._shopper()))
            yield int(self._random.expovariate(self._sessions_per_hour / HOUR))

    def _visit(self, person: Person) -> Pauses:
        viewed: list[Product] = []
        for number in range(self._random.choice((1, 2, 2, 3, 4, 6))):
            if number == 0 and self._happens(0.2):
                self._search(person)
                yield self._pause(8)
            viewed.append(self._view(person))
            yield self._pause(25)
        if not self._happens(0.55):
            return
        lines = self._choose(viewed)
        cart_token, opened = self._token(), self._now
        self._add(person, lines[0])
        self._tell("carts/create", bodies.cart(cart_token, lines[:1], opened, self._now))
        yield self._pause(20)
        if len(lines) > 1:
            self._add(person, lines[1])
            self._tell("carts/update", bodies.cart(cart_token, lines, opened, self._now))
            yield self._pause(30)
        if not self._happens(0.7):
            return
        yield from self._check_out(person, lines, cart_token)

    def _check_out(self, person: Person, lines: list[Line], cart_token: str) -> Pauses:
        token, began = self._token(), self._now
        marketing = self._happens(0.5)
        created = bodies.checkout(token, cart_token, person, lines, began, began, addressed=False)
        self._tell("checkouts/create", created)
        self._pixel("checkout_started", person, {"checkout": {"token": token, "email": person.email}})
        yield self._pause(35)
        updated = bodies.checkout(token, cart_token, person, lines, began, self._now, marketing=marketing)
        self._tell("checkouts/update", updated)
        yield self._pause(40)
        if not self._happens(0.6):
            return  # there is no "abandoned" event: the silence is the cue
        order = self._buy(person, lines, cart_token, token, marketing)
        done = bodies.checkout(
            token, cart_token, person, lines, began, self._now, completed=self._now, marketing=marketing
        )
        self._tell("checkouts/update", done)
        yield self._pause(1)
        self._pay(order)
        yield self._pause(3)
        if marketing and not person.subscribed:
            self._consent(person, "subscribed")
        yield self._pause(HOUR // SECOND)
        yield from self._afterwards(order)

    def _afterwards(self, order: Order) -> Pauses:
        """What may follow an order, an hour or more later."""
        if self._happens(0.03):
            self._cancel(order)
        elif self._happens(0.5):
            order.fulfilled, order.updated = True, self._now
            self._tell("orders/fulfilled", bodies.order(order))
            yield self._pause(3 * DAY // SECOND)
            if self._happens(0.12):
                self._give_back(order)
        if self._happens(0.06):
            self._consent(order.person, "unsubscribed" if order.person.subscribed else "subscribed")
        if order.person.loyal and order.person.orders >= 3:
            self._tag(order.person, "vip")
        if self._happens(0.01):
            self._merge(order.person)

    # --- acts ---------------------------------------------------------------------------------------------------------

    def _view(self, person: Person) -> Product:
        product = self.products[0] if self._happens(0.2) else self._random.choice(self.products)
        variant = bodies.pixel_variant(product, self._random.choice(product.variants))
        self._pixel("product_viewed", person, {"productVariant": variant})
        return product

    def _search(self, person: Person) -> None:
        query = self._random.choice(self.products).kind.lower()
        self._pixel("search_submitted", person, {"searchResult": {"query": query, "productVariants": []}})

    def _add(self, person: Person, line: Line) -> None:
        cost = {"totalAmount": {"amount": line.total / 100, "currencyCode": bodies.CURRENCY}}
        merchandise = bodies.pixel_variant(line.product, line.variant)
        data = {"cartLine": {"cost": cost, "merchandise": merchandise, "quantity": line.quantity}}
        self._pixel("product_added_to_cart", person, data)

    def _pixel(self, name: str, person: Person, data: Body) -> None:
        body = bodies.pixel(name, f"sh-{self._token()[:24]}", person, self._now, next(self._order), data)
        self._tell(f"web_pixels/{name}", body)

    def _buy(self, person: Person, lines: list[Line], cart_token: str, token: str, marketing: bool) -> Order:
        if not person.known:
            self._register(person)
        discounted = self._happens(0.15)
        order = Order(
            id=self._number(),
            number=next(self._order_number),
            token=self._token(),
            cart_token=cart_token,
            checkout_token=token,
            person=person,
            lines=lines,
            created=self._now,
            updated=self._now,
            discount=sum(line.total for line in lines) // 10 if discounted else 0,
            code="WELCOME10" if discounted else None,
            marketing=marketing,
        )
        person.orders += 1
        self.orders.append(order)
        self._tell("orders/create", bodies.order(order))
        return order

    def _pay(self, order: Order) -> None:
        order.paid, order.updated = True, self._now
        body = bodies.order(order)
        self._tell("orders/paid", body)
        self._tell("orders/updated", body)
        self._tell("customers/update", bodies.customer(order.person, self._now, with_addresses=True))

    def _cancel(self, order: Order) -> None:
        order.cancelled, order.cancel_reason, order.updated = self._now, "customer", self._now
        body = bodies.order(order)
        self._tell("orders/cancelled", body)
        self._tell("orders/updated", body)

    def _give_back(self, order: Order) -> None:
        line = self._random.choice(order.lines)
        line.refunded, order.updated = line.quantity, self._now
        refund = bodies.refund(order, line, self._number(), self._now)
        order.refunds.append(refund)
        self._tell("refunds/create", refund)
        self._tell("orders/updated", bodies.order(order))

    def _register(self, person: Person) -> None:
        person.known, person.joined = True, self._now
        self._tell("customers/create", bodies.customer(person, self._now, with_addresses=True))

    def _consent(self, person: Person, state: str) -> None:
        person.subscribed = state == "subscribed"
        at = local(self._now)
        consent = {"state": state, "opt_in_level": "single_opt_in", "consent_updated_at": at}
        email = {"customer_id": person.id, "email_address": person.email, "email_marketing_consent": consent}
        self._tell("customers_email_marketing_consent/update", email)
        if person.phone and self._happens(0.4):
            sms = {"id": person.id, "phone": person.phone}  # `id` here is the customer's, unlike its sibling's
            sms["sms_marketing_consent"] = consent | {"consent_collected_from": "SHOPIFY"}
            self._tell("customers_marketing_consent/update", sms)

    def _tag(self, person: Person, tag: str) -> None:
        gid = f"gid://shopify/Customer/{person.id}"
        self._tell("customer.tags_added", {"customerId": gid, "tags": [tag], "occurredAt": isoformat(self._now)})

    def _merge(self, person: Person) -> None:
        """A guest record of the same person, with another address, is merged into theirs."""
        guest = self._number()
        body = bodies.customer(person, self._now)
        body |= {"id": guest, "email": f"old.{person.email}", "phone": None}
        body["admin_graphql_api_id"] = f"gid://shopify/Customer/{guest}"
        self._tell("customers/create", body)
        merged: Body = {
            "admin_graphql_api_customer_kept_id": f"gid://shopify/Customer/{person.id}",
            "admin_graphql_api_customer_deleted_id": f"gid://shopify/Customer/{guest}",
            "admin_graphql_api_job_id": None,
            "status": "completed",
            "errors": [],
        }
        self._tell("customers/merge", merged)

    # --- the past -----------------------------------------------------------------------------------------------------

    def _join(self, person: Person) -> Pauses:
        if not person.known:
            self._register(person)
        yield 2 * SECOND
        if self._happens(0.6):
            self._consent(person, "subscribed")

    def _past_order(self, person: Person, end: Millis) -> Pauses:
        lines = self._choose([])
        if person.big_spender:
            dear = [product for product in self.products if product.price >= _COSTLY] or list(self.products)
            lines = [self._line(product, 2) for product in self._random.sample(dear, min(2, len(dear)))]
        order = self._buy(person, lines, self._token(), self._token(), self._happens(0.5))
        yield 2 * SECOND
        self._pay(order)
        yield HOUR
        if self._happens(0.04):
            self._cancel(order)
        elif self._happens(0.08) and self._now + 3 * DAY < end:
            yield 3 * DAY
            self._give_back(order)
        elif person.loyal and person.orders >= 2:
            self._tag(person, "vip")

    def _past_visit(self, person: Person) -> Pauses:
        for _ in range(self._random.choice((1, 2, 3))):
            self._view(person)
            yield 20 * SECOND

    def _past_checkout(self, person: Person) -> Pauses:
        lines, token, cart_token = self._choose([]), self._token(), self._token()
        began = self._now
        self._tell("carts/create", bodies.cart(cart_token, lines, began, began))
        yield 10 * SECOND
        began = self._now
        self._tell("checkouts/create", bodies.checkout(token, cart_token, person, lines, began, began))
        self.checkouts.append({"token": token, "person": person, "lines": lines, "created": began})

    # --- chance -------------------------------------------------------------------------------------------------------

    def _shopper(self) -> Person:
        person = self._random.choice(self.people)
        return person if person.loyal else self._random.choice(self.people)

    def _choose(self, viewed: list[Product]) -> list[Line]:
        wanted = viewed or [self._random.choice(self.products)]
        lines = [self._line(wanted[-1], 1)]
        if len(wanted) > 1 and wanted[0] is not wanted[-1]:
            lines.append(self._line(wanted[0], self._random.choice((1, 1, 2))))
        return lines

    def _line(self, product: Product, quantity: int) -> Line:
        return Line(self._number(), product, self._random.choice(product.variants), quantity)

    def _happens(self, share: float) -> bool:
        return self._random.random() < share

    def _pause(self, seconds: float) -> Millis:
        """About `seconds` of a visitor's time, hastened by the pace."""
        return int(seconds * SECOND * self._random.uniform(0.4, 1.8) / self._pace)

    def _between(self, first: Millis, last: Millis) -> Millis:
        return self._random.randrange(first, max(first + 1, last))

    def _token(self) -> str:
        return f"{self._random.getrandbits(128):032x}"

    def _number(self) -> int:
        return self._random.randrange(*_NUMBERS)
