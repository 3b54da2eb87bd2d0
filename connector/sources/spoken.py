"""What is told in words other than the Segment spec's, said in them: one event and what is known of its person."""

from collections.abc import Mapping
from dataclasses import replace

import orjson

from connector.clock import Millis, isoformat
from connector.domain import Delivery, Entity, Json, Normalised, StoreInfo
from connector.sources.contacts import read_email
from connector.sources.filing import email_key
from connector.sources.instants import happened_at
from connector.sources.segment_api.meaning import meaning

_CONTACT = ("email", "phone")


def spoken(
    name: str | None,
    properties: Mapping[str, Json],
    traits: Mapping[str, Json],
    about: Mapping[str, Json],
    at: Millis | None,
    delivery: Delivery,
    store: StoreInfo,
) -> Normalised:
    """What the event means, read as the tracking API reads a `track` and an `identify` of a server with a secret.

    `name` None is no event, only news of the person. `about` has userId, anonymousId and messageId; `traits` may have
    email, phone, city and country beside the sender's own. Two events of different names may share a messageId.
    """
    own = {trait: value for trait, value in traits.items() if value is not None}
    address = {part: own.pop(part) for part in ("city", "country") if part in own}
    known_as = {kind: own[kind] for kind in _CONTACT if kind in own} | {"address": address}
    call = {
        "userId": about.get("userId"),
        "anonymousId": about.get("anonymousId"),
        "messageId": about["messageId"] if name is None else f"{name}:{about['messageId']}",
        "timestamp": isoformat(happened_at(delivery.received_at, at)),
    }
    if name is None:
        meant = _told("identify", call | {"traits": own | known_as}, delivery, store)
        return replace(meant, entities=_person(call, own | known_as, delivery, store), authoritative=False)
    track = {"event": name, "properties": properties, "context": {"traits": known_as}}
    meant = _told("track", call | track, delivery, store)
    if not own and not address:
        return meant
    return replace(meant, entities=(*_person(call, own | known_as, delivery, store), *meant.entities))


def _person(
    call: Mapping[str, Json], traits: Mapping[str, Json], delivery: Delivery, store: StoreInfo
) -> tuple[Entity, ...]:
    """What is said of the person, as a record of this source; of somebody without an id under a hash of the address."""
    if call["userId"] is not None or call["anonymousId"] is not None:
        return _told("identify", {**call, "traits": traits}, delivery, store).entities
    stated = traits.get("email")
    email = read_email(stated) if type(stated) is str else None
    if email is None:
        return ()
    told = _told("identify", {**call, "userId": email, "traits": traits}, delivery, store)
    return tuple(replace(entity, id=email_key(email.encode())) for entity in told.entities)


def _told(kind: str, call: Mapping[str, Json], delivery: Delivery, store: StoreInfo) -> Normalised:
    body = orjson.dumps({name: value for name, value in call.items() if value is not None})
    told = Delivery(delivery.source, delivery.id, kind, delivery.received_at, {"trust": "server"}, body)
    return meaning(told, store)
