"""A sender's own words mapped to ours, as storecue.yaml says: paths into its JSON, and what they mean.

A value is a path (`$.order.id`, `@.sku`, `$.items[0]['unit price']`, `$.lines[*].sku`), or a constant (any other text,
number or flag), or an object: `path` or `first` (several paths, of which the first with a value counts) or `value`,
with `default`, `type` and `names` (the sender's word: ours). `$` is the whole body, `@` the item of `each`.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from connector.clock import Millis
from connector.domain import Channel, Consent, ConsentState, Delivery, Json, Normalised, StoreInfo
from connector.errors import DefinitionError, UnprocessableEvent
from connector.sources.fields import Unreadable, flag, id_text, instant, money, text, texts, whole
from connector.sources.filing import key_of
from connector.sources.instants import happened_at
from connector.sources.spoken import spoken


class Scope(NamedTuple):
    """What paths look into: the body, and the item of it that is one event."""

    body: Any
    item: Any


Pick = Callable[[Scope], Any]

# --- paths ------------------------------------------------------------------------------------------------------------

_STEP = re.compile(r"\.([A-Za-z_][A-Za-z0-9_$-]*)|\[(\d{1,6})\]|\[(\*)\]|\['([^']{1,200})'\]|\[\"([^\"]{1,200})\"\]")
_EACH = object()
_MOST = 1000  # values that one [*] gives


def path(written: str, pointer: str = "") -> Pick:
    """A reader of what lies at the path; None where nothing does. DefinitionError when it is no path."""
    steps: list[Any] = []
    at = 1
    while at < len(written):
        step = _STEP.match(written, at)
        if step is None:
            raise DefinitionError(
                f'"{written}" is no path from its character {at + 1} on; write such as $.order.lines[0].sku, '
                "$.lines[*].sku or $['first name']",
                pointer=pointer,
            )
        name, index, each, single, double = step.groups()
        steps.append(_EACH if each else int(index) if index is not None else name or single or double)
        at = step.end()
    whole_body = written[0] == "$"
    return lambda scope: _walk(scope.body if whole_body else scope.item, steps)


def _walk(value: Any, steps: Sequence[Any]) -> Any:
    for number, step in enumerate(steps):
        if step is _EACH:
            found = value if type(value) is list else ()
            inner = (_walk(one, steps[number + 1 :]) for one in found[:_MOST])
            return [one for one in inner if one is not None]
        if type(step) is int:
            value = value[step] if type(value) is list and step < len(value) else None
        else:
            value = value.get(step) if type(value) is dict else None
        if value is None:
            return None
    return value


# --- values -----------------------------------------------------------------------------------------------------------


def _text(value: Any) -> str | None:
    if type(value) is bool or type(value) in (dict, list):
        raise Unreadable("bad_type", "must be a text or a number")
    return str(value).strip() or None


def _flag(value: Any) -> bool:
    return _FLAGS[value.strip().lower()] if type(value) is str and value.strip().lower() in _FLAGS else flag(value)


def _instant(value: Any) -> Millis | None:
    """Of an ISO 8601 text, or of seconds or milliseconds since 1970, as a number or its digits."""
    if type(value) is str and re.fullmatch(r"[0-9]{9,13}(?:\.[0-9]{1,9})?", value):
        value = float(value)
    if type(value) is int or type(value) is float:
        if not 0 <= value < 1e14:
            raise Unreadable("bad_instant", "must be seconds or milliseconds since 1970")
        return int(value if value >= 1e11 else value * 1000)
    return instant(value)


def _list(value: Any) -> Any:
    return value if type(value) is list else texts(value)


_FLAGS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_TYPES: dict[str, Callable[[Any], Any]] = {
    "text": _text,
    "number": money,
    "whole": whole,
    "flag": _flag,
    "instant": _instant,
    "list": _list,
}
_SPOKEN = frozenset({"path", "first", "value", "default", "type", "names"})


def pick(written: Json, pointer: str, kind: Callable[[Any], Any] | None = None) -> Pick:
    """A reader of a value as written in the configuration; DefinitionError says what is wrong with it. `kind` is what
    the place wants: it comes after the value's own type."""
    if type(written) is not dict:
        return _read(_source(written, pointer), None, {}, None, kind, pointer)
    for key in written:
        if key not in _SPOKEN:
            raise DefinitionError(
                f"is not known here; use one of {', '.join(sorted(_SPOKEN))}", pointer=f"{pointer}/{key}"
            )
    ways = [key for key in ("path", "first", "value") if key in written]
    if len(ways) != 1:
        raise DefinitionError("needs one of path, first and value", pointer=pointer)
    stated = written.get("type")
    if stated is not None and stated not in _TYPES:
        raise DefinitionError(f"must be one of {', '.join(_TYPES)}", pointer=f"{pointer}/type")
    names = written.get("names", {})
    if type(names) is not dict:
        raise DefinitionError("must be an object: the sender's word: ours", pointer=f"{pointer}/names")
    source: Pick
    if ways[0] == "first":
        if type(written["first"]) is not list or not written["first"]:
            raise DefinitionError("must be a list of paths", pointer=f"{pointer}/first")
        source = _first([_source(one, f"{pointer}/first/{index}") for index, one in enumerate(written["first"])])
    elif ways[0] == "value":
        constant = written["value"]
        source = lambda scope: constant  # noqa: E731 (a reader like the others)
    else:
        if type(written["path"]) is not str or written["path"][:1] not in ("$", "@"):
            raise DefinitionError("must be a path, which begins with $ or @", pointer=f"{pointer}/path")
        source = path(written["path"], f"{pointer}/path")
    return _read(source, written.get("default"), names, None if stated is None else _TYPES[stated], kind, pointer)


def _source(written: Json, pointer: str) -> Pick:
    if type(written) is str and written[:1] in ("$", "@"):
        return path(written, pointer)
    if type(written) in (dict, list) or written is None:
        raise DefinitionError("must be a path such as $.email, or a constant", pointer=pointer)
    return lambda scope: written


def _first(sources: Sequence[Pick]) -> Pick:
    return lambda scope: next((found for one in sources if (found := one(scope)) not in (None, "")), None)


def _read(
    source: Pick,
    default: Json,
    names: Mapping[str, Json],
    stated: Callable[[Any], Any] | None,
    kind: Callable[[Any], Any] | None,
    pointer: str,
) -> Pick:
    def read(scope: Scope) -> Any:
        value = source(scope)
        if value is None or value == "":
            value = default
        elif names and (type(value) in (str, int, bool)):
            value = names.get(str(value).lower() if type(value) is bool else str(value), value)
        try:
            for reader in (stated, kind):
                if reader is not None and value is not None:
                    value = reader(value)
        except Unreadable as fault:
            raise UnprocessableEvent(f"{pointer}: {fault}", reason=fault.reason) from None
        return value

    return read


# --- a whole mapping --------------------------------------------------------------------------------------------------

_PERSON: dict[str, Callable[[Any], Any]] = {
    "email": _text,
    "phone": _text,
    "customer_id": id_text,
    "anonymous_id": id_text,
}
_CHANNELS: tuple[Channel, ...] = ("email", "sms", "whatsapp")
_STATES: dict[str, ConsentState] = {
    "subscribed": "subscribed",
    "true": "subscribed",
    "yes": "subscribed",
    "on": "subscribed",
    "1": "subscribed",
    "pending": "pending",
    "unsubscribed": "unsubscribed",
}
"""Anything else, an unticked box above all, says nothing: who is subscribed stays so."""

KEYS = ("each", "event", "id", "at", "person", "traits", "properties", "consent")
"""What a mapping may say."""

_TRAIT = re.compile(r"[a-z][a-z0-9_]{0,62}")
_NOT_SAID = frozenset({"traits", "properties", "consent", "person"})


@dataclass(frozen=True)
class Meaning:
    """A mapping, compiled."""

    event: Pick
    each: Pick | None = None
    id: Pick | None = None
    at: Pick | None = None
    person: Mapping[str, Pick] = field(default_factory=dict)
    traits: Mapping[str, Pick] = field(default_factory=dict)
    properties: Mapping[str, Pick] | Pick = field(default_factory=dict)
    consent: Mapping[Channel, Pick] = field(default_factory=dict)

    def items(self, body: Any) -> list[Scope]:
        """The events of a body: the items of `each`, or the body itself."""
        if self.each is None:
            return [Scope(body, body)]
        found = self.each(Scope(body, body))
        if found is None:
            return []
        return [Scope(body, one) for one in (found if type(found) is list else [found])]

    def key(self, scope: Scope) -> str | None:
        """The customer key: the strongest identifier that can be read."""
        for kind in ("customer_id", "email", "phone", "anonymous_id"):
            if (found := self._said(self.person.get(kind), scope)) is not None:
                return key_of(kind, str(found).lower())
        return None

    def name(self, scope: Scope) -> str:
        """The event's name for the filing, `event` where it cannot be read."""
        found = self._said(self.event, scope)
        usable = type(found) is str and 0 < len(found) <= 100 and found.isprintable() and "/" not in found
        return found if usable else "event"

    def said_id(self, scope: Scope) -> str | None:
        """The sender's own id of the event."""
        found = self._said(self.id, scope)
        return None if found is None else str(found)

    @staticmethod
    def _said(reader: Pick | None, scope: Scope) -> Any:
        try:
            return None if reader is None else reader(scope)
        except UnprocessableEvent:
            return None  # the worker will say so

    def meaning(self, scope: Scope, delivery: Delivery, store: StoreInfo, id_: str) -> Normalised:
        """What one event means: a track and, where there are traits, an identify, as the tracking API reads them."""
        name = self.event(scope)
        if name is None or name == "":
            return Normalised(skipped="not_mapped")
        if type(name) is not str:
            raise UnprocessableEvent("/event: must be a text", reason="no_name")
        stated = self.at(scope) if self.at is not None else None
        person = {kind: found for kind, read in self.person.items() if (found := read(scope)) is not None}
        traits = {trait: found for trait, read in self.traits.items() if (found := read(scope)) is not None}
        traits |= {kind: person[kind] for kind in ("email", "phone") if kind in person}
        about = {
            "userId": person.get("customer_id"),
            "anonymousId": person.get("anonymous_id"),
            "messageId": id_,
        }
        meant = spoken(name, self._properties(scope), traits, about, stated, delivery, store)
        at = happened_at(delivery.received_at, stated)
        return replace(meant, consents=tuple(self._consents(scope, at)))

    def _properties(self, scope: Scope) -> dict[str, Json]:
        if callable(self.properties):
            found = self.properties(scope)
            if found is None:
                return {}
            if type(found) is not dict:
                raise UnprocessableEvent("/properties: must be an object", reason="bad_type")
            return found
        return {name: found for name, read in self.properties.items() if (found := read(scope)) is not None}

    def _consents(self, scope: Scope, at: Millis) -> Iterable[Consent]:
        for channel, read in self.consent.items():
            found = read(scope)
            if found is not None and (state := _STATES.get(str(found).strip().lower())):
                yield Consent(channel, state, at)


def compiled(written: Mapping[str, Json], defaults: Mapping[str, Json]) -> Meaning:
    """The mapping as written, over its defaults. DefinitionError with a JSON pointer."""
    for key in written:
        if key not in KEYS:
            raise DefinitionError(f"is not known here; use one of {', '.join(KEYS)}", pointer=f"/{key}")
    said = {**defaults, **written}
    if "event" not in said:
        raise DefinitionError("is missing; write the event's name, or the path to it", pointer="/event")
    for key in _NOT_SAID & said.keys():
        whole_object = key == "properties" and type(said[key]) is str
        if type(said[key]) is not dict and not whole_object:
            raise DefinitionError("must be an object", pointer=f"/{key}")
    each = said.get("each")
    if each is not None and not (type(each) is str and each.startswith("$")):
        raise DefinitionError("must be a path to a list, which begins with $", pointer="/each")
    properties = said.get("properties", {})
    return Meaning(
        event=pick(said["event"], "/event", text),
        each=None if each is None else path(each, "/each"),
        id=pick(said["id"], "/id", id_text) if "id" in said else None,
        at=pick(said["at"], "/at", _instant) if "at" in said else None,
        person=_picks(said.get("person", {}), "/person", _PERSON),
        traits=_picks(said.get("traits", {}), "/traits", None),
        properties=pick(properties, "/properties")
        if type(properties) is str
        else _picks(properties, "/properties", None),
        consent=_consent(said.get("consent", {})),
    )


def _picks(
    written: Mapping[str, Json], pointer: str, known: Mapping[str, Callable[[Any], Any]] | None
) -> dict[str, Pick]:
    found = {}
    for name, one in written.items():
        if known is not None and name not in known:
            raise DefinitionError(f"is not known here; use one of {', '.join(known)}", pointer=f"{pointer}/{name}")
        if known is None and not _TRAIT.fullmatch(name):
            raise DefinitionError(
                "a name has lower-case letters, digits and _, a letter first", pointer=f"{pointer}/{name}"
            )
        found[name] = pick(one, f"{pointer}/{name}", known[name] if known else None)
    return found


def _consent(written: Mapping[str, Json]) -> dict[Channel, Pick]:
    for name in written:
        if name not in _CHANNELS:
            raise DefinitionError(f"must be one of {', '.join(_CHANNELS)}", pointer=f"/consent/{name}")
    return {channel: pick(written[channel], f"/consent/{channel}") for channel in _CHANNELS if channel in written}


def usual_person(place: str) -> dict[str, Json]:
    """Where senders usually name the person in the data at `place`: a default for senders that have an envelope."""
    holders = ("", ".customer", ".user", ".contact")
    ids = ("customer_id", "customerId", "user_id", "userId", "customer.id", "user.id", "contact.id")
    visitors = ("anonymous_id", "anonymousId")
    return {
        "email": {"first": [f"{place}{holder}.email" for holder in holders]},
        "phone": {"first": [f"{place}{holder}.phone" for holder in holders]},
        "customer_id": {"first": [f"{place}.{name}" for name in ids]},
        "anonymous_id": {"first": [f"{place}.{name}" for name in visitors]},
    }
