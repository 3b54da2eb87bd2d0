"""What is computed of a person from what is stored, and the address to write to."""

from collections import defaultdict
from collections.abc import Mapping

from sqlalchemy import Connection

from connector.clock import Millis
from connector.domain import Json, StoreInfo
from connector.pipeline.batch import Batch
from connector.pipeline.stumbles import Stumbles
from connector.pipeline.timeline import change
from connector.profiles import customer, store, traits
from connector.profiles.store import Person

_COMPUTED = {name for names in traits.COMPUTED.values() for name in names}


def compute_traits(tx: Connection, persons: Mapping[int, Person], batch: Batch, shop: StoreInfo, now: Millis) -> None:
    """Recompute the parts of the traits whose things were touched, and the address to write to."""
    parts = {name: people & persons.keys() for name, people in batch.parts.items()}
    computed = _computed(tx, parts, batch.stumbles, shop)
    emails = store.emails(tx, persons)
    for id_, person in persons.items():
        with batch.stumbles.about(id_):
            gone = {name for part in parts if id_ in parts[part] for name in traits.COMPUTED.get(part, ())}
            if id_ in parts.get("customer", ()):
                gone |= person.traits.keys() - _COMPUTED
            after = {name: value for name, value in person.traits.items() if name not in gone} | computed[id_]
            if after != person.traits:
                batch.changes.append(change(id_, "traits", _difference(person.traits, after), now))
                person.traits, person.changed = after, True
            held = emails.get(id_, [])
            # An address that has moved to somebody else is theirs, whatever this person's record says still.
            email = said if (said := after.get("email")) in held else next(iter(held), None)
            if email != person.email:
                person.email, person.changed = email, True
    batch.stumbles.settle()


def _computed(
    tx: Connection, parts: Mapping[str, set[int]], stumbles: Stumbles, shop: StoreInfo
) -> dict[int, dict[str, Json]]:
    """The touched parts of the traits, from what is stored."""
    computed: dict[int, dict[str, Json]] = defaultdict(dict)
    if people := parts.get("customer"):
        for id_, records in store.customer_records(tx, people).items():
            with stumbles.about(id_):
                for record in records:
                    computed[id_] |= customer.traits(record)
    if people := parts.get("orders"):
        sums = store.order_sums(tx, people)
        for id_ in people:
            with stumbles.about(id_):
                orders = sums.get(id_, traits.Orders(0, 0, None, None))
                computed[id_] |= traits.from_orders(orders, shop)
    if people := parts.get("carts"):
        carts, tokens = store.carts(tx, people), store.ordered_tokens(tx, people)
        for id_ in people:
            with stumbles.about(id_):
                computed[id_] |= traits.from_carts(carts.get(id_, ()), tokens.get(id_, set()))
    if people := parts.get("views"):
        for id_, views in store.views(tx, people).items():
            with stumbles.about(id_):
                computed[id_] |= traits.from_views(views)
    return computed


def _difference(before: Mapping[str, Json], after: Mapping[str, Json]) -> dict[str, list[Json]]:
    """Name -> [before, after] of the traits that differ."""
    names = sorted(before.keys() | after.keys())
    return {name: [before.get(name), after.get(name)] for name in names if before.get(name) != after.get(name)}
