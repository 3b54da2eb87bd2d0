"""Privacy requests in the database: what is kept of a person, and its erasure."""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import orjson
from sqlalchemy import Connection, RowMapping, Table, bindparam, delete, func, insert, select, text, tuple_, update

from connector.clock import DAY, Millis
from connector.domain import Identifier, PrivacyKind
from connector.profiles import journal
from connector.profiles import store as profiles
from connector.profiles.duplicates import store as duplicates
from connector.storage.phrases import upsert
from connector.storage.tables import (
    change,
    cue,
    dead_letter,
    entity,
    erasure,
    event,
    forgotten,
    identifier,
    likeness,
    membership,
    meta,
    outbox,
    privacy_request,
    profile,
    push,
    refund,
    shop_order,
    sync_state,
    trace,
)

Row = dict[str, Any]

PERSONAL: Sequence[Table] = (
    identifier,
    event,
    change,
    entity,
    shop_order,
    likeness,
    membership,
    sync_state,
    cue,
    push,
    outbox,
)
"""Every table with rows that belong to one profile, beside `profile` itself and the receipts."""

_REMEMBERED: Millis = 400 * DAY
"""How long late deliveries do not bring an erased person back: raw ones and dead letters are gone long before."""

_SALT = "forgotten_salt"

# --- requests --------------------------------------------------------------------------------------------------------


def add_request(
    tx: Connection,
    kind: PrivacyKind,
    *,
    source: str,
    reference: str,
    profile_id: int | None,
    received_at: Millis,
    run_at: Millis,
) -> int | None:
    """The id of the new request; None when this one is known already."""
    row = upsert(privacy_request).values(
        kind=kind,
        source=source,
        reference=reference,
        profile_id=profile_id,
        received_at=received_at,
        run_at=run_at,
        state="open",
    )
    made = tx.execute(row.on_conflict_do_nothing().returning(privacy_request.c.id)).scalar()
    return None if made is None else int(made)


def close_request(tx: Connection, request: int, now: Millis, *, state: str = "done", message: str = "") -> bool:
    """True when the request was open until now."""
    closed = (
        update(privacy_request)
        .where(privacy_request.c.id == request, privacy_request.c.state == "open")
        .values(state=state, closed_at=now, message=message)
    )
    return tx.execute(closed).rowcount == 1


def cancel(tx: Connection, request: int, now: Millis) -> bool:
    """True when a request that still waited is cancelled now."""
    waiting = (
        update(privacy_request)
        .where(privacy_request.c.id == request, privacy_request.c.state == "open", privacy_request.c.run_at > now)
        .values(state="cancelled", closed_at=now)
    )
    return tx.execute(waiting).rowcount == 1


def run_now(tx: Connection, request: int, now: Millis) -> bool:
    """True when an open request that waits is due now."""
    due = (
        update(privacy_request)
        .where(privacy_request.c.id == request, privacy_request.c.state == "open", privacy_request.c.run_at > now)
        .values(run_at=now)
    )
    return tx.execute(due).rowcount == 1


def count(tx: Connection, request: int, *, people: int = 0, deliveries: int = 0) -> None:
    """Note what a request has erased so far."""
    tx.execute(
        update(privacy_request)
        .where(privacy_request.c.id == request)
        .values(people=privacy_request.c.people + people, deliveries=privacy_request.c.deliveries + deliveries)
    )


def due_source(connection: Connection, now: Millis) -> RowMapping | None:
    """The oldest request to erase a whole source that has waited long enough."""
    query = (
        select(privacy_request)
        .where(
            privacy_request.c.state == "open",
            privacy_request.c.run_at <= now,
            privacy_request.c.kind == "erase_source",
        )
        .order_by(privacy_request.c.run_at)
        .limit(1)
    )
    return connection.execute(query).mappings().first()


def settled(connection: Connection) -> list[int]:
    """Open requests to erase a person of which nothing is left to do."""
    pending = select(erasure.c.request_id).where(erasure.c.state == "pending")
    query = select(privacy_request.c.id).where(
        privacy_request.c.state == "open",
        privacy_request.c.kind == "erase",
        privacy_request.c.id.not_in(pending),
        privacy_request.c.id.not_in(select(trace.c.request_id)),
    )
    return list(connection.execute(query).scalars())


# --- the people ------------------------------------------------------------------------------------------------------


def holders(connection: Connection, identifiers: Iterable[Identifier]) -> list[int]:
    """The profiles that have one of these customer ids, or else one of these addresses."""
    for kind in ("customer_id", "email"):
        values = [one.value for one in identifiers if one.kind == kind]
        query = select(identifier.c.profile_id).where(identifier.c.kind == kind, identifier.c.value.in_(values))
        if found := sorted(set(connection.execute(query).scalars())):
            return found
    return []


def people_of(connection: Connection, source: str, limit: int) -> list[int]:
    """Some of the profiles that a source has told of: its customers and buyers first, then whoever else."""
    queries = (
        select(identifier.c.profile_id).where(
            identifier.c.kind == "customer_id", identifier.c.value > f"{source}:", identifier.c.value < f"{source};"
        ),
        select(shop_order.c.profile_id).where(shop_order.c.source == source, shop_order.c.profile_id.is_not(None)),
        select(entity.c.profile_id).where(entity.c.source == source, entity.c.profile_id.is_not(None)),
        select(identifier.c.profile_id).where(identifier.c.source == source),
    )
    for query in queries:
        if found := connection.execute(query.limit(limit)).scalars().all():
            return sorted(set(found))
    return []


def also_known_elsewhere(connection: Connection, source: str, people: Sequence[int]) -> set[int]:
    """Those of these profiles of whom another source has told too."""
    query = select(identifier.c.profile_id).where(identifier.c.profile_id.in_(people), identifier.c.source != source)
    return set(connection.execute(query).scalars())


def parts(connection: Connection, person: int) -> list[int]:
    """The profile and those that were merged into it."""
    merged = connection.execute(select(profile.c.id).where(profile.c.merged_into == person)).scalars()
    return [person, *merged]


def identifiers_of(connection: Connection, people: Sequence[int]) -> list[Identifier]:
    """Every identifier tied to these profiles."""
    query = select(identifier.c.kind, identifier.c.value).where(identifier.c.profile_id.in_(people))
    return [Identifier(kind, value) for kind, value in connection.execute(query)]


def contacts_of(connection: Connection, people: Sequence[int]) -> list[tuple[str, str, str | None]]:
    """(destination, address, the vendor's record id) of every contact that was pushed for these profiles."""
    query = select(sync_state.c.destination, sync_state.c.pushed, sync_state.c.remote_id).where(
        sync_state.c.profile_id.in_(people), sync_state.c.pushed.is_not(None)
    )
    return [(name, str(orjson.loads(pushed)["email"]), id_) for name, pushed, id_ in connection.execute(query)]


def erase(tx: Connection, people: Sequence[int]) -> None:
    """Delete all that is kept of these profiles in the state's database."""
    orders = select(shop_order.c.source, shop_order.c.id).where(shop_order.c.profile_id.in_(people))
    tx.execute(delete(refund).where(tuple_(refund.c.source, refund.c.order_id).in_(orders)))
    for table in PERSONAL:
        tx.execute(delete(table).where(table.c.profile_id.in_(people)))
    tx.execute(
        delete(dead_letter).where(
            dead_letter.c.kind != "delivery", dead_letter.c.reference.in_([str(person) for person in people])
        )
    )
    journal.forget(tx, people)
    duplicates.forget(tx, people)
    profiles.spend_ids(tx, max(people))
    tx.execute(delete(profile).where(profile.c.id.in_(people)))


def erase_of_source(tx: Connection, source: str, people: Sequence[int]) -> None:
    """Delete what one source has told of these profiles; what others told stays, and so do the addresses, which the
    others know as well."""
    other = identifier.alias()
    known_by = (
        select(func.min(other.c.source))
        .where(other.c.profile_id == identifier.c.profile_id, other.c.source != source)
        .scalar_subquery()
    )
    tx.execute(
        update(identifier)
        .where(
            identifier.c.source == source,
            identifier.c.profile_id.in_(people),
            identifier.c.kind.in_(("email", "phone")),
        )
        .values(source=known_by)
    )
    orders = select(shop_order.c.id).where(shop_order.c.source == source, shop_order.c.profile_id.in_(people))
    tx.execute(delete(refund).where(refund.c.source == source, refund.c.order_id.in_(orders)))
    for table in (identifier, event, entity, shop_order):
        tx.execute(delete(table).where(table.c.source == source, table.c.profile_id.in_(people)))


def erase_things(tx: Connection, source: str) -> None:
    """Delete what is left of a source when its people are gone: products, carts of nobody, refunds that wait."""
    for table in (entity, shop_order, refund):
        tx.execute(delete(table).where(table.c.source == source))


# --- what was received before ----------------------------------------------------------------------------------------


def remember(tx: Connection, identifiers: Sequence[Identifier], now: Millis) -> None:
    """Note that the people with these identifiers were erased."""
    if identifiers:
        row = upsert(forgotten)
        row = row.on_conflict_do_update(index_elements=["digest"], set_={"at": row.excluded.at})
        digests = _digests(_salt(tx), identifiers)
        tx.execute(row, [{"digest": digest, "at": now} for digest in digests.values()])


def erased_at(connection: Connection, identifiers: Iterable[Identifier]) -> dict[Identifier, Millis]:
    """When the people who had these identifiers were erased, of those who were."""
    if connection.execute(select(forgotten.c.at).limit(1)).first() is None:
        return {}  # as in nearly every shop, and then nothing has to be hashed
    digests = _digests(_salt(connection), identifiers)
    query = select(forgotten.c.digest, forgotten.c.at).where(forgotten.c.digest.in_(list(digests.values())))
    known = {digest: at for digest, at in connection.execute(query)}
    return {one: known[digest] for one, digest in digests.items() if digest in known}


def prune_forgotten(tx: Connection, now: Millis) -> None:
    tx.execute(delete(forgotten).where(forgotten.c.at < now - _REMEMBERED))


def _digests(salt: bytes, identifiers: Iterable[Identifier]) -> dict[Identifier, bytes]:
    return {one: blake2b(f"{one.kind}:{one.value}".encode(), digest_size=16, key=salt).digest() for one in identifiers}


def _salt(connection: Connection) -> bytes:
    known = connection.execute(select(meta.c.value).where(meta.c.name == _SALT)).scalar()
    if known is None:
        known = secrets.token_hex(32)
        connection.execute(insert(meta), {"name": _SALT, "value": known})
    return bytes.fromhex(known)


# --- traces in raw deliveries ----------------------------------------------------------------------------------------


def add_trace(tx: Connection, request: int, needles: Iterable[str], until: Millis) -> None:
    """Let raw deliveries be searched for these texts."""
    row = upsert(trace).values(request_id=request, needles=orjson.dumps(sorted(needles)).decode(), until=until)
    tx.execute(row.on_conflict_do_nothing())


def next_trace(connection: Connection) -> RowMapping | None:
    return connection.execute(select(trace).order_by(trace.c.request_id).limit(1)).mappings().first()


def move_trace(tx: Connection, request: int, position: int) -> None:
    tx.execute(update(trace).where(trace.c.request_id == request).values(position=position))


def end_trace(tx: Connection, request: int) -> None:
    tx.execute(delete(trace).where(trace.c.request_id == request))


def dead_deliveries(connection: Connection, until: Millis, after: int, limit: int) -> list[tuple[int, bytes]]:
    """(id, body) of deliveries among the dead letters, in order."""
    received_at = func.coalesce(dead_letter.c.received_at, dead_letter.c.at)
    query = (
        select(dead_letter.c.id, dead_letter.c.body)
        .where(dead_letter.c.kind == "delivery", received_at <= until, dead_letter.c.id > after)
        .order_by(dead_letter.c.id)
        .limit(limit)
    )
    return [(id_, body) for id_, body in connection.execute(query)]


def drop_dead_deliveries(tx: Connection, ids: Sequence[int]) -> None:
    tx.execute(delete(dead_letter).where(dead_letter.c.id.in_(ids)))


# --- contacts at the destinations ------------------------------------------------------------------------------------

_PENDING = (
    select(erasure)
    .where(
        erasure.c.destination == bindparam("destination_"),
        erasure.c.state == "pending",
        erasure.c.due_at <= bindparam("now_"),
    )
    .order_by(erasure.c.due_at)
    .limit(bindparam("limit_"))
)


def add_erasures(tx: Connection, rows: Sequence[Row]) -> None:
    """Rows are {request_id, destination, profile_id, email, remote_id, due_at, at}."""
    if rows:
        tx.execute(insert(erasure), rows)


def pending_erasures(connection: Connection, destination: str, now: Millis, limit: int) -> list[RowMapping]:
    rows = connection.execute(_PENDING, {"destination_": destination, "now_": now, "limit_": limit})
    return list(rows.mappings())


def settle_erasure(tx: Connection, id_: int, state: str, now: Millis, message: str = "") -> None:
    """Close an erasure, and keep the address no longer if the destination has done it."""
    values: Row = {"state": state, "at": now, "message": message}
    if state == "done":
        values |= {"email": "", "remote_id": None}
    tx.execute(update(erasure).where(erasure.c.id == id_).values(values))


def retry_erasure(tx: Connection, id_: int, due_at: Millis, now: Millis, message: str) -> None:
    again = {"attempts": erasure.c.attempts + 1, "due_at": due_at, "at": now, "message": message}
    tx.execute(update(erasure).where(erasure.c.id == id_).values(again))


def without_destination(tx: Connection, configured: Iterable[str], now: Millis) -> None:
    """Give up erasures at destinations that are configured no more: somebody must do them at the vendor."""
    orphans = (erasure.c.state == "pending", erasure.c.destination.not_in(list(configured)))
    told = "the destination was removed: erase the person at the vendor yourself"
    tx.execute(update(erasure).where(*orphans).values(state="dead", at=now, message=told))


# --- for people ------------------------------------------------------------------------------------------------------


def unfinished(connection: Connection) -> list[Row]:
    """Contacts that are not erased yet, or that a vendor refused to erase: {destination, state (pending or dead),
    contacts, since}."""
    columns = (erasure.c.destination, erasure.c.state)
    query = (
        select(*columns, func.count().label("contacts"), func.min(erasure.c.at).label("since"))
        .where(erasure.c.state != "done")
        .group_by(*columns)
        .order_by(*columns)
    )
    return [dict(row) for row in connection.execute(query).mappings()]


def requests(connection: Connection, *, before: int | None = None, limit: int = 100) -> list[Mapping[str, Any]]:
    """Requests, newest first, each with its `receipts` per destination."""
    query = select(privacy_request).order_by(privacy_request.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(privacy_request.c.id < before)
    rows = [dict(row) for row in connection.execute(query).mappings()]
    return [row | {"receipts": receipts(connection, row["id"])} for row in rows]


def request(connection: Connection, id_: int) -> Mapping[str, Any] | None:
    """One request with its receipts."""
    row = connection.execute(select(privacy_request).where(privacy_request.c.id == id_)).mappings().first()
    return None if row is None else {**row, "receipts": receipts(connection, id_)}


def receipts(connection: Connection, request: int) -> list[Row]:
    """What became of the contacts at the destinations: {destination, state, at, message, contacts}."""
    columns = (erasure.c.destination, erasure.c.state, erasure.c.message)
    query = (
        select(*columns, func.max(erasure.c.at).label("at"), func.count().label("contacts"))
        .where(erasure.c.request_id == request)
        .group_by(*columns)
        .order_by(text("destination"), text("state"))
    )
    return [dict(row) for row in connection.execute(query).mappings()]
