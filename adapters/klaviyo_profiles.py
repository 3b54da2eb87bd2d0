"""How a change becomes a Klaviyo profile and how a profile is read back: tags of ours or shared, fields, consent."""

from collections.abc import Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson

from adapters.destination import Change, Consent, Held, Wanted
from adapters.errors import Rejected
from adapters.shape import dig, entries, records, stated, word
from adapters.values import as_wanted

TAGS = "storecue_tags"
"""The property of our own: written whole. One of another name is shared with other tools, whose values stay."""

_PROFILE_BYTES = 100_000


class Item(NamedTuple):
    """A change and its profile, written once however often its batch is cut. `digest` stands for what is wanted,
    however it is written; `repeatable` is False where a repeat could append a tag twice."""

    key: str
    change: Change
    profile: bytes
    digest: str
    repeatable: bool = True


def encoded(change: Change, tags: str, there: Mapping[str, Any] | None, *, by_email: bool = False) -> Item:
    """The change as it is sent. tags: the property that holds them; there: the profile as it is now, which is looked
    at for shared tags only. by_email: the address says whose profile it is. Raises Rejected for what Klaviyo would not
    take, whatever it holds."""
    if by_email:
        change = replace(change, remote_id=None)
    written, patch = _tags(change, tags, dig(there, "attributes", "properties", tags))
    attributes: dict[str, Any] = {"email": change.email}
    if not by_email:
        attributes["external_id"] = change.external_id
    names = {"first_name": change.first_name, "last_name": change.last_name}
    attributes.update({name: value for name, value in names.items() if value is not None})
    attributes["properties"] = {**change.fields, **written}
    identity = {"id": change.remote_id} if change.remote_id else {}
    meta = {"meta": {"patch_properties": patch}} if patch else {}
    try:
        profile = orjson.dumps({"type": "profile", **identity, "attributes": attributes, **meta})
    except TypeError as error:  # lone surrogates, integers beyond 64 bits
        raise Rejected(f"not expressible in JSON: {error}", reason="unencodable") from None
    if len(profile) > _PROFILE_BYTES:
        raise Rejected("a profile may have 100 kB at most", reason="too_large")
    return Item(change.key, change, profile, digest(change), "append" not in patch)


def digest(change: Change) -> str:
    """Sixteen letters that stand for what a change wants; those of two changes are equal when they want the same. ""
    for what JSON cannot say."""
    names = (change.email, change.external_id, change.first_name, change.last_name)
    try:
        wanted = orjson.dumps((names, change.fields, change.tags), option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return ""
    return blake2b(wanted, digest_size=8).hexdigest()


def _tags(change: Change, tags: str, there: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The properties to set and the patches to apply, so that the tags are as wanted. What appending a value does that
    is there already is not documented (2026-07), so that none is appended."""
    if tags == TAGS:
        return {TAGS: list(change.tags)}, {}
    if not there:
        return ({tags: list(change.tags)} if change.tags else {}), {}
    if not isinstance(there, list):
        raise Rejected(f"the property {tags} holds no list: name another for the tags", field=tags, reason="field_type")
    append = [tag for tag in change.tags if tag not in there]
    unappend = [tag for tag in change.tags_removed if tag in there]
    patches = {"append": append, "unappend": unappend}
    return {}, {name: {tags: values} for name, values in patches.items() if values}


def held(want: Wanted, profile: Mapping[str, Any] | None, tags: str) -> Held:
    """What a profile shows of a contact; of shared tags those of other tools as well."""
    if profile is None:
        return Held(want.key, "missing")
    attributes = dig(profile, "attributes")
    properties = dig(attributes, "properties") or {}
    return Held(
        want.key,
        "found" if want.remote_id in (None, word(profile, "id")) else "merged",
        word(profile, "id"),
        word(attributes, "email").lower(),
        tuple(sorted(set(map(str, entries(properties, tags))))),
        {name: as_wanted(dig(properties, name), value, value) for name, value in want.fields.items()},
        _consent(dig(attributes, "subscriptions", "email", "marketing")),
        stated(attributes, "first_name"),
        stated(attributes, "last_name"),
    )


def _consent(marketing: Any) -> Consent | None:
    # UNSUBSCRIBE is listed among the suppressions of a profile, as bounces and complaints are.
    reasons = {word(suppression, "reason") for suppression in records(marketing, "suppression")}
    consent = word(marketing, "consent")
    if consent == "UNSUBSCRIBED" or "UNSUBSCRIBE" in reasons:
        return "unsubscribed"
    return "suppressed" if reasons else "subscribed" if consent == "SUBSCRIBED" else None
