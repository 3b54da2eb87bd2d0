"""Who an event is about, and what is said of them."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from connector.clock import isoformat
from connector.domain import Entity, Identifier, Json
from connector.sources.contacts import read_email, read_phone
from connector.sources.documents import known
from connector.sources.instants import OLDEST
from connector.sources.segment_api.arrival import Arrival
from connector.sources.segment_api.values import MOST_VALUES, pruned

# What scripts send when they have no id: as an id it would make one person of many.
_NOBODY = frozenset("0 -1 null undefined none nil nan false true anonymous guest unknown n/a".split())
_NOBODY |= {"[object object]"}

# Computed from what is stored (profiles.traits), or a stream of their own: nobody may set them by identify.
RESERVED = frozenset(
    "orders_count total_spent average_order_value first_order_at last_order_at last_viewed_products last_viewed_at "
    "last_viewed_product cart_items cart_products cart_lines cart_updated_at cart_total cart_url verified_email "
    "state tags email phone created_at updated_at id".split()
)
_READ = frozenset("email phone name firstName lastName first_name last_name locale address createdAt tags id".split())
_WORD_ENDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_TRAIT = re.compile(r"[a-z][a-z0-9_]{0,62}")


def identifiers(event: Mapping[str, Any], arrival: Arrival) -> tuple[Identifier, ...]:
    """Everything by which this person may be known; at most one of each kind."""
    return tuple({one.kind: one for one in _identifiers(event, arrival)}.values())


def _identifiers(event: Mapping[str, Any], arrival: Arrival) -> Iterator[Identifier]:
    traits = _traits(event)
    user, anonymous = id_of(event.get("userId")), id_of(event.get("anonymousId"))
    # A page repeats the user with every event. There identify alone says who somebody is, with all that is known of
    # them, so that it does not matter in which order the events come.
    if user is not None and (arrival.trusted or anonymous is None or event.get("type") == "identify"):
        # Many sites take the address for the id. It is one then, and no number of a customer.
        email = read_email(user)
        yield Identifier("email", email) if email else arrival.customer(user)
    if email := read_email(traits.get("email")):
        yield Identifier("email", email)
    if phone := read_phone(traits.get("phone"), (traits.get("address") or {}).get("country")):
        yield Identifier("phone", phone)
    if arrival.shop:  # tokens mean something only where the shop's own deliveries have them too
        properties = event.get("properties") or {}
        if token := properties.get("checkout_token"):
            yield Identifier("checkout_token", token)
        if token := properties.get("cart_token"):
            yield Identifier("cart_token", token)
    if anonymous is not None:
        yield Identifier("anonymous_id", anonymous)


def id_of(stated: str | None) -> str | None:
    """The id, unless it is what a script sends for nobody."""
    return None if stated is None or stated.lower() in _NOBODY else stated


def _traits(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """Those of the call; of a track, page or screen those in its context."""
    found: Mapping[str, Any] = event.get("traits") or (event.get("context") or {}).get("traits") or {}
    return found


def customer(event: Mapping[str, Any], raw: Mapping[str, Any], at: int, arrival: Arrival) -> tuple[Entity, ...]:
    """What an identify says of a person, as a record of this source; nothing when it says nothing.

    A browser's record is dated to the beginning of time: it fills what nobody else has said and replaces nothing. The
    address is no part of it, because the newest record's is the one that is written to.
    """
    traits = _traits(event)
    address = traits.get("address") or {}
    first, _, last = (traits.get("name") or "").strip().partition(" ")
    created_at = traits.get("createdAt")
    data = known(
        first_name=_short(traits.get("firstName") or traits.get("first_name") or first),
        last_name=_short(traits.get("lastName") or traits.get("last_name") or last.strip()),
        locale=_short(traits.get("locale") or (event.get("context") or {}).get("locale")),
        country=_short(address.get("country")),
        city=_short(address.get("city")),
        created_at=isoformat(min(created_at, arrival.received_at)) if created_at and created_at >= OLDEST else None,
    )
    if arrival.trusted:
        data |= known(
            email=read_email(traits.get("email")),
            phone=read_phone(traits.get("phone"), address.get("country")),
        )
        if traits.get("tags") is not None:
            data["tags"] = traits["tags"][:MOST_VALUES]
    data |= _own(_raw_traits(raw))
    user, visitor = id_of(event.get("userId")), id_of(event.get("anonymousId"))
    if not data or (user is None and visitor is None):
        return ()
    if arrival.trusted:
        return (Entity("customer", user or f"visitor:{visitor}", at, data),)
    return (Entity("customer", f"visitor:{visitor or user}", OLDEST, data),)


def _raw_traits(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """The traits as sent: `_traits` has only those that are read."""
    found: Mapping[str, Any] = raw.get("traits") or (raw.get("context") or {}).get("traits") or {}
    return found


def _own(traits: Mapping[str, Any]) -> dict[str, Json]:
    """The site's own traits in snake_case: `favouriteColour` is `favourite_colour`."""
    found: dict[str, Json] = {}
    for name, value in traits.items():
        if name in _READ or len(found) >= MOST_VALUES:
            continue
        trait = _WORD_ENDS.sub("_", name).lower().replace("-", "_").replace(" ", "_")
        if _TRAIT.fullmatch(trait) and trait not in RESERVED and value is not None:
            found[trait] = pruned(value)
    return found


def _short(text: str | None) -> str | None:
    return text.strip()[:255] if text else None
