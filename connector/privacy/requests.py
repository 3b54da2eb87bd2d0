"""A request taken: the person is looked for and erased here at once, and everywhere else as soon as it can be done."""

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection

from connector.clock import DAY, Millis
from connector.domain import Delivery, Identifier, Normalised, PrivacyKind
from connector.privacy import store

GRACE: Millis = 7 * DAY
"""How long the erasure of a whole source can be cancelled. Shopify sends shop/redact 48 hours after an app was removed,
and gives 30 days (2026-09): a shop that only renewed its app would lose every contact, some of them for good."""

_NEEDLES = ("customer_id", "email", "phone")
_TELLING = 8  # characters from which a customer id is nothing else by chance: Shopify's have 13, WooCommerce counts


def take(
    tx: Connection, delivery: Delivery, normalised: Normalised, destinations: Iterable[str], now: Millis
) -> int | None:
    """The id of the request that a delivery makes, None when it was made before: a replay erases nobody again who has
    come back since."""
    assert normalised.privacy is not None
    return request(
        tx,
        normalised.privacy,
        normalised.identifiers,
        destinations,
        source=delivery.source,
        reference=delivery.id.partition("#")[0],
        received_at=delivery.received_at,
        now=now,
    )


def request(
    tx: Connection,
    kind: PrivacyKind,
    identifiers: Sequence[Identifier],
    destinations: Iterable[str],
    *,
    source: str,
    reference: str,
    received_at: Millis,
    now: Millis,
) -> int | None:
    """The id of a new request about the person with these identifiers. An erasure is done here and now, and is due at
    the destinations; whoever is not known here may be known there, and is erased there by the address given."""
    if kind == "erase_source":
        return store.add_request(
            tx,
            kind,
            source=source,
            reference=reference,
            profile_id=None,
            received_at=received_at,
            run_at=now + GRACE,
        )
    people = store.holders(tx, identifiers)
    id_ = store.add_request(
        tx,
        kind,
        source=source,
        reference=reference,
        profile_id=people[0] if people else None,
        received_at=received_at,
        run_at=now,
    )
    if id_ is not None and kind == "erase":
        for person in people:
            erase(tx, id_, person, destinations, received_at, now)
        if not people:
            # They may be on their way here, in a backfill that is under way.
            store.remember(tx, identifiers, received_at)
            _erase_elsewhere(tx, id_, 0, [], identifiers, destinations, received_at, now)
    return id_


def erase(
    tx: Connection, request: int, person: int, destinations: Iterable[str], asked_at: Millis, now: Millis
) -> None:
    """Erase a person in the state's database, and note what is still to be done: contacts at the destinations, raw
    deliveries. Of the person nothing stays but that; what was received until `asked_at` does not make them anew."""
    people = store.parts(tx, person)
    identifiers = store.identifiers_of(tx, people)
    contacts = store.contacts_of(tx, people)
    store.erase(tx, people)
    store.remember(tx, identifiers, asked_at)
    store.count(tx, request, people=1)
    _erase_elsewhere(tx, request, person, contacts, identifiers, destinations, asked_at, now)


def _erase_elsewhere(
    tx: Connection,
    request: int,
    person: int,
    contacts: Sequence[tuple[str, str, str | None]],
    identifiers: Sequence[Identifier],
    destinations: Iterable[str],
    asked_at: Millis,
    now: Millis,
) -> None:
    addresses = [one.value for one in identifiers if one.kind == "email"]
    # A destination may have the person from elsewhere, so that every address is erased everywhere.
    wanted = {(name, email): None for name in destinations for email in addresses}
    wanted |= {(name, email): remote_id for name, email, remote_id in contacts}  # type: ignore[misc]
    store.add_erasures(
        tx,
        [
            {
                "request_id": request,
                "destination": name,
                "profile_id": person,
                "email": email,
                "remote_id": remote_id,
                "due_at": now,
                "at": now,
            }
            for (name, email), remote_id in wanted.items()
        ],
    )
    needles = {needle for one in identifiers if one.kind in _NEEDLES for needle in _needles(one)}
    if needles:
        store.add_trace(tx, request, needles | {email.lower() for _, email, _ in contacts}, asked_at)


def _needles(one: Identifier) -> list[str]:
    """What a raw delivery shows of an identifier: a customer id stands in it without the name of its source. A short
    one, such as 5, is a quantity and a price as well, and counts only where it says whose the delivery is."""
    if one.kind != "customer_id":
        return [one.value.lower()]
    source, _, id_ = one.value.partition(":")
    if len(id_) >= _TELLING:
        return [id_]
    return [f"{source}/customer:{id_}", f"{source}/user:{id_}", f'"userId":"{id_}"', f'"userId":{id_}']
