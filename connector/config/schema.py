"""What storecue.yaml may say: marshmallow schemas for the whole file, and the configuration it means."""

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args
from zoneinfo import available_timezones

from marshmallow import EXCLUDE, Schema, ValidationError, fields, validates_schema

from adapters.address import permitted_address
from adapters.destination import Takes
from adapters.errors import Misconfigured
from connector.clock import DAY, HOUR, MINUTE, parse_duration
from connector.config import field_types, secrets
from connector.config.currencies import CURRENCIES
from connector.config.kinds import Kinds, creation_policy, known_kinds
from connector.config.rules import rule_problems
from connector.config.source_options import option_problems
from connector.config.stream_options import stream_problems
from connector.config.yaml_file import Document, escaped, nearest
from connector.domain import (
    ADMIN_SECRETS,
    AdminConfig,
    BrowserConfig,
    Configuration,
    CreatePolicy,
    DestinationConfig,
    Duplicates,
    FieldConfig,
    IdentityConfig,
    Json,
    Published,
    SegmentConfig,
    SourceConfig,
    StoreInfo,
    StreamConfig,
    VerifyConfig,
)
from connector.ports import Access, Asked, Remembers, Silent
from connector.sources import SOURCES
from connector.sources.segment_api import SegmentApi
from connector.sync.pace import AT_ONCE

_SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_SLUG_RULE = "a name has lower-case letters, digits, - and _ (at most 63, a letter or digit first), such as vip-2026"
_FIELD_NAME = re.compile(r"(?!storecue_)[a-z][a-z0-9_]{0,62}")
_FIELD_RULE = (
    "a field's name has lower-case letters, digits and _ (at most 63, a letter first), and is not storecue_..."
)

TRACKING = SegmentApi.kind
"""The kind of source that takes events from browsers and apps."""

_Found = Iterator[tuple[str, str]]
"""Problems as (JSON pointer, message)."""


def configuration_from(document: Document, kinds: Kinds | None = None) -> Configuration:
    """The configuration that a document means; secrets are as written, literal ones still in the clear.

    Raises InvalidConfiguration with every problem found, each with its line and JSON pointer.
    """
    kinds = kinds or known_kinds()
    try:
        loaded = _File().load(document.value)
    except ValidationError as error:
        raise document.invalid(list(_flat(error.messages, ""))) from None
    store = StoreInfo(**(loaded["store"] or {}))
    segments = {
        name: SegmentConfig(name, entry["name"] or name, entry["when"]) for name, entry in loaded["segments"].items()
    }
    problems = [
        *_path_problems(loaded, document.folder),
        *_source_problems(loaded["sources"], kinds),
        *_destination_problems(loaded["destinations"], kinds, list(segments)),
        *stream_problems(loaded["streams"], loaded["sources"]),
        *_field_problems(loaded["field_entries"], list(loaded["destinations"])),
        *rule_problems(segments, store),
    ]
    if problems:
        raise document.invalid(problems)
    folder = document.folder
    sources = {name: _source(name, entry, folder) for name, entry in loaded["sources"].items()}
    if problems := list(option_problems(sources, loaded["destinations"])):
        raise document.invalid(problems)
    return Configuration(
        store=store,
        identity=_identity(loaded["identity"]),
        sources=sources,
        destinations={
            name: _destination(name, entry, kinds.destinations[entry["kind"]], folder)
            for name, entry in loaded["destinations"].items()
        },
        streams={name: _stream(name, entry, folder) for name, entry in loaded["streams"].items()},
        fields={name: _field(name, entry) for name, entry in loaded["field_entries"].items()},
        segments=segments,
    )


# --- fields that say what would be right -----------------------------------------------------------------------------

_TYPES = {dict: "an object", list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}
_MESSAGES: dict[str, str | list[Any] | dict[Any, Any]] = {
    "required": "is missing",
    "null": "is empty; give it a value, or leave the key out",
}


def _type(value: Json) -> str:
    return _TYPES.get(type(value), "empty")


class _Text(fields.Field[str]):
    """A text of 1 to `longest` characters on one line. Its messages never repeat it: it may be a secret."""

    default_error_messages = _MESSAGES

    def __init__(self, *, longest: int = 200, fault: Callable[[str], str | None] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._longest = longest
        self._fault = fault

    def _deserialize(self, value: Json, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str):
            quotes = "" if isinstance(value, dict | list) else "; write it in quotes"
            raise ValidationError(f"is {_type(value)}, but must be a text{quotes}")
        if not value.strip() or len(value) > self._longest or not value.isprintable():
            raise ValidationError(f"must be a text of 1 to {self._longest} characters on one line")
        if self._fault and (fault := self._fault(value)):
            raise ValidationError(fault)
        return value


class _OptionText(_Text):
    """A text, or a number or flag as its text: options of vendors are passed on as texts."""

    def _deserialize(self, value: Json, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = str(value).lower() if isinstance(value, bool | int) else value
        return super()._deserialize(text, attr, data, **kwargs)


class _Flag(fields.Field[bool]):
    default_error_messages = _MESSAGES

    def _deserialize(self, value: Json, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise ValidationError(f"is {_type(value)}; write true or false")
        return value


class _Rule(fields.Field[dict[str, Json]]):
    default_error_messages = _MESSAGES

    def _deserialize(self, value: Json, attr: str | None, data: Any, **kwargs: Any) -> dict[str, Json]:
        if not isinstance(value, dict) or not value:
            found = _type(value) if value else "empty"
            raise ValidationError(f"is {found}, but must be a rule such as {{event: Order Completed}}")
        return value


class _Options(fields.Field[dict[str, Json]]):
    """A source's own options: its kind says what may be in them (source_options)."""

    default_error_messages = _MESSAGES

    def _deserialize(self, value: Json, attr: str | None, data: Any, **kwargs: Any) -> dict[str, Json]:
        if not isinstance(value, dict):
            raise ValidationError(f"is {_type(value)}, but must be an object: a key, a colon and its value")
        return value


class _Texts(fields.Field[list[str]]):
    """A list of different texts; `at_least` of them."""

    default_error_messages = _MESSAGES

    def __init__(self, text: _Text, *, at_least: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._text = text
        self._at_least = at_least

    def _deserialize(self, value: Json, attr: str | None, data: Any, **kwargs: Any) -> list[str]:
        if not isinstance(value, list):
            raise ValidationError(f"is {_type(value)}, but must be a list: [..]")
        if len(value) < self._at_least:
            raise ValidationError("is an empty list; give it at least one")
        result: list[str] = []
        problems: dict[int, Any] = {}
        for index, item in enumerate(value):
            try:
                text = self._text.deserialize(item)
                if text in result:
                    raise ValidationError(f"is the same as number {result.index(text) + 1} of the list; keep one")
                result.append(text)
            except ValidationError as error:
                problems[index] = error.messages
        if problems:
            raise ValidationError(problems)
        return result


class _Named(fields.Field[dict[str, Any]]):
    """An object of named entries, in their order; nothing at all counts as none."""

    def __init__(self, entry: Schema | _Text, name: re.Pattern[str], rule: str, **kwargs: Any) -> None:
        super().__init__(load_default=dict, allow_none=True, pre_load=lambda value: value or {}, **kwargs)
        self._entry = entry
        self._name = name
        self._rule = rule

    def _deserialize(self, value: Json, attr: str | None, data: Any, **kwargs: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValidationError(f"is {_type(value)}, but must be an object: a name, a colon, and what it stands for")
        result: dict[str, Any] = {}
        problems: dict[str, Any] = {}
        for name, entry in value.items():
            try:
                if not self._name.fullmatch(name):
                    raise ValidationError(self._rule)
                result[name] = (
                    self._entry.load(entry) if isinstance(self._entry, Schema) else self._entry.deserialize(entry)
                )
            except ValidationError as error:
                problems[name] = error.messages
        if problems:
            raise ValidationError(problems)
        return result


class _Section(Schema):
    """A schema whose unknown keys are answered with the nearest known one."""

    error_messages = {"type": "must be an object: a key, a colon and its value"}  # noqa: RUF012 (marshmallow's own)

    class Meta:
        unknown = EXCLUDE

    @validates_schema(skip_on_field_errors=False, pass_original=True)
    def _know_every_key(self, data: Any, original: Json, **kwargs: Any) -> None:
        if not isinstance(original, Mapping):
            return
        known = [name if one.data_key is None else one.data_key for name, one in self.fields.items()]
        unknown = {key: [f"is not known here; {nearest(key, known)}"] for key in original if key not in known}
        if unknown:
            raise ValidationError(unknown)


def _one_of(choices: Sequence[str]) -> Callable[[str], str | None]:
    return lambda text: None if text in choices else f'"{text}" is not known; {nearest(text, list(choices))}'


@functools.cache
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _time_zone_fault(text: str) -> str | None:
    if text in _time_zones():
        return None
    close = nearest(text, sorted(_time_zones()))
    hint = close if close.startswith("did") else "write an IANA name such as Europe/Paris"
    return f'"{text}" is not a time zone; {hint}'


def _currency_fault(text: str) -> str | None:
    return None if text in CURRENCIES else f'"{text}" is not a currency; write its ISO 4217 code, such as EUR'


# --- the file --------------------------------------------------------------------------------------------------------


class _Store(_Section):
    name = _Text(load_default=StoreInfo().name)
    timezone = _Text(fault=_time_zone_fault, load_default=StoreInfo().timezone)
    currency = _Text(fault=_currency_fault, load_default=StoreInfo().currency)


def _secret(**kwargs: Any) -> _Text:
    return _Text(longest=4096, fault=secrets.fault_of, **kwargs)


_MOST_VERIFIED = 10_000  # contacts: a night must suffice at the slowest vendor


class _Whole(fields.Field[int]):
    """A whole number from `least` to `most`."""

    default_error_messages = _MESSAGES

    def __init__(self, least: int, most: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._range = range(least, most + 1)

    def _deserialize(self, value: Json, attr: str | None, data: Any, **kwargs: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value not in self._range:
            raise ValidationError(f"must be a whole number from {self._range[0]} to {self._range[-1]}")
        return value


class _Nightly(_Section):
    sample = _Whole(1, _MOST_VERIFIED, load_default=VerifyConfig().sample)
    repair = _Flag(load_default=VerifyConfig().repair)


class _Verify(fields.Field[VerifyConfig | None]):
    """{sample, repair}, or false for never; true is the default."""

    default_error_messages = _MESSAGES

    def _deserialize(self, value: Json, attr: str | None, data: Any, **kwargs: Any) -> VerifyConfig | None:
        if isinstance(value, bool):
            return VerifyConfig() if value else None
        if not isinstance(value, dict):
            raise ValidationError(f"is {_type(value)}; write {{sample: 200, repair: true}}, or false for never")
        return VerifyConfig(**_Nightly().load(value))


_KEY = re.compile(r"[A-Za-z0-9_-]{8,200}")
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(?::[0-9]{1,5})?|null|\*")


def _key_fault(text: str) -> str | None:
    if text.startswith((secrets.ENV, secrets.FILE)):
        return "is public and stands on every page, so it is written here as it is"
    return None if _KEY.fullmatch(text) else "is a public write key of 8 to 200 letters, digits, - and _"


def _origin_fault(text: str) -> str | None:
    hint = "an origin is a scheme and a host, such as https://shop.example.com; `null` is a sandboxed frame, `*` any"
    return None if _ORIGIN.fullmatch(text) else hint


class _Browser(_Section):
    keys = _Texts(_Text(fault=_key_fault), at_least=1, required=True)
    origins = _Texts(_Text(fault=_origin_fault), at_least=1, required=True)
    events_per_second = _Whole(1, 100_000, load_default=500)


def _duration_fault(text: str) -> str | None:
    try:
        return None if parse_duration(text) else "is no time at all; write such as 6h or 2d"
    except ValueError as error:
        return str(error)


_PAST = Access(
    r"[a-z0-9][a-z0-9-]{0,62}\.myshopify\.com",
    "aurora.myshopify.com",
    (("client_id", "client_secret"), ("access_token",)),
    required=False,
)
_VERSION = re.compile(r"20[0-9]{2}-(?:01|04|07|10)")


def _version_fault(text: str) -> str | None:
    return None if _VERSION.fullmatch(text) else "must be a version of the API, such as 2026-10"


class _Admin(_Section):
    shop = _Text(required=True)
    client_id = _secret(load_default=None)
    client_secret = _secret(load_default=None)
    access_token = _secret(load_default=None)
    version = _Text(fault=_version_fault, load_default=AdminConfig("").version)
    base_url = _Text(longest=2000, load_default=None)
    allow_insecure = _Flag(load_default=False)


def _interval_fault(text: str) -> str | None:
    fault = _duration_fault(text)
    return fault or (None if MINUTE <= parse_duration(text) <= DAY else "must be from 1m to 1d, such as 15m")


def _pace_fault(text: str) -> str | None:
    if text == AT_ONCE:
        return None
    fault = _duration_fault(text)
    return fault or (f"is longer than 1h; {AT_ONCE} for none at all" if parse_duration(text) > HOUR else None)


class _Source(_Section):
    kind = _Text(required=True)
    secrets = _Texts(_secret(), at_least=1, load_default=list)
    browser = fields.Nested(_Browser, load_default=None, allow_none=True)
    shop = _Text(load_default=None)
    silent_after = _Text(load_default=None, fault=_duration_fault)
    options = _Options(load_default=dict)
    admin = fields.Nested(_Admin, load_default=None, allow_none=True)


_ANY_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")


class _Destination(_Section):
    kind = _Text(required=True)
    credentials = _Named(_secret(), _ANY_NAME, "is not the name of a credential")
    list_id = _Text(load_default=None)
    base_url = _Text(longest=2000, load_default=None)
    allow_insecure = _Flag(load_default=False)
    dry_run = _Flag(load_default=False)
    segments = _Texts(_Text(), at_least=0, load_default=None)
    lists = _Flag(load_default=False)
    events = _Flag(load_default=False)
    backfill = _Flag(load_default=False)
    create_contacts = _Text(fault=_one_of(get_args(CreatePolicy)), load_default=None)
    duplicates = _Text(fault=_one_of(get_args(Duplicates)), load_default="leave")
    at_most_every = _Text(fault=_pace_fault, load_default="1m")
    wait_for_more = _Flag(load_default=False)
    options = _Named(_OptionText(), _ANY_NAME, "is not the name of an option")
    verify = _Verify(load_default=VerifyConfig)
    engagement = _Text(load_default=None, fault=_interval_fault)


class _Stream(_Section):
    kind = _Text(required=True)
    topic = _Text(required=True)
    into = _Text(load_default=None)
    publish = _Texts(_Text(fault=_one_of(get_args(Published))), at_least=1, load_default=list)
    credentials = _Named(_secret(), _ANY_NAME, "is not the name of a credential")
    options = _Named(_OptionText(), _ANY_NAME, "is not the name of an option")


class _Field(_Section):
    source = _Text(data_key="from", required=True, fault=field_types.fault_of)
    type = _Text(fault=_one_of(field_types.FIELD_TYPES), load_default=None)
    label = _Text(longest=50, load_default=None)
    destinations = _Texts(_Text(), at_least=1, load_default=None)


class _Segment(_Section):
    name = _Text(longest=100, load_default=None)
    when = _Rule(required=True, allow_none=True, pre_load=lambda value: value or {})


def _require_version_1(value: Json) -> None:
    if value != 1 or isinstance(value, bool):
        raise ValidationError("must be 1, the only version of this format")


class _Blocked(_Section):
    email = _Texts(_Text(), at_least=1, load_default=list)
    phone = _Texts(_Text(), at_least=1, load_default=list)
    anonymous_id = _Texts(_Text(), at_least=1, load_default=list)
    customer_id = _Texts(_Text(), at_least=1, load_default=list)


class _Most(_Section):
    email = _Whole(1, 1_000, load_default=None)
    phone = _Whole(1, 1_000, load_default=None)
    anonymous_id = _Whole(1, 100_000, load_default=None)
    checkout_token = _Whole(1, 100_000, load_default=None)
    cart_token = _Whole(1, 100_000, load_default=None)


class _Identity(_Section):
    blocked = fields.Nested(_Blocked, load_default=dict)
    limits = fields.Nested(_Most, load_default=dict)


class _File(_Section):
    version = fields.Raw(
        required=True,
        validate=_require_version_1,
        error_messages={"required": "is missing; write version: 1", "null": "must be 1"},
    )
    store = fields.Nested(_Store, load_default=None, allow_none=True)
    identity = fields.Nested(_Identity, load_default=dict)
    sources = _Named(_Source(), _SLUG, _SLUG_RULE)
    destinations = _Named(_Destination(), _SLUG, _SLUG_RULE)
    streams = _Named(_Stream(), _SLUG, _SLUG_RULE)
    field_entries = _Named(_Field(), _FIELD_NAME, _FIELD_RULE, data_key="fields")
    segments = _Named(_Segment(), _SLUG, _SLUG_RULE)


def _flat(messages: Any, pointer: str) -> _Found:
    if isinstance(messages, Mapping):
        for key, below in messages.items():
            yield from _flat(below, pointer if key == "_schema" else f"{pointer}/{escaped(str(key))}")
    else:
        for message in messages:
            yield pointer, message


# --- what one entry says about another -------------------------------------------------------------------------------


def _path_problems(loaded: Mapping[str, Any], folder: Path | None) -> _Found:
    """Relative `file:` references, where there is no file to count them from."""
    places = [
        *((f"/sources/{name}/secrets", entry["secrets"]) for name, entry in loaded["sources"].items()),
        *(
            (f"/destinations/{name}/credentials", entry["credentials"])
            for name, entry in loaded["destinations"].items()
        ),
        *((f"/streams/{name}/credentials", entry["credentials"]) for name, entry in loaded["streams"].items()),
        *((f"/sources/{name}/admin", _admin_secrets(entry)) for name, entry in loaded["sources"].items()),
    ]
    for pointer, found in places:
        for key, secret in found.items() if isinstance(found, Mapping) else enumerate(found):
            path = secret.removeprefix(secrets.FILE)
            if path != secret and folder is None and not Path(path).is_absolute():
                yield f"{pointer}/{key}", "file: needs an absolute path here, such as file:/run/secrets/shopify"


def _source_problems(sources: Mapping[str, Any], kinds: Kinds) -> _Found:
    holders: dict[str, str] = {}
    for name, entry in sources.items():
        if entry["kind"] != TRACKING:
            for key in ("browser", "shop"):
                if entry[key] is not None:
                    yield f"/sources/{name}/{key}", f"is used by sources of kind {TRACKING} only; remove it"
        elif entry["shop"] is not None and (entry["shop"] not in sources or entry["shop"] == name):
            known = nearest(entry["shop"], [other for other in sources if other != name])
            yield f"/sources/{name}/shop", f'there is no other source "{entry["shop"]}"; {known}'
        if not entry["secrets"] and not isinstance(SOURCES.get(entry["kind"]), Silent):
            yield f"/sources/{name}/secrets", "is missing"
        yield from _admin_problems(f"/sources/{name}/admin", entry)
        for index, key in enumerate((entry["browser"] or {}).get("keys", ())):
            if key in holders or key in entry["secrets"]:
                yield f"/sources/{name}/browser/keys/{index}", "is used elsewhere too; each key opens one thing"
            holders[key] = name
        if entry["kind"] not in kinds.sources:
            yield (
                f"/sources/{name}/kind",
                f'"{entry["kind"]}" is not a kind of source; {nearest(entry["kind"], list(kinds.sources))}',
            )


def _admin_problems(here: str, entry: Mapping[str, Any]) -> _Found:
    admin, source = entry["admin"], SOURCES.get(entry["kind"])
    access = source.access if isinstance(source, Asked) else _PAST if isinstance(source, Remembers) else None
    if admin is None:
        if access is not None and access.required:
            yield here, f"is missing; {entry['kind']} needs it, because it has to be asked for what has changed"
        return
    if access is None:
        yield here, f"is not used by sources of kind {entry['kind']}; remove it"
        return
    if not re.fullmatch(access.shop, admin["shop"]):
        yield f"{here}/shop", f"must be the shop's own address, such as {access.example}"
    given = {key for key in ADMIN_SECRETS if admin[key] is not None}
    wanted = next((one for one in access.credentials if given & set(one)), access.credentials[0])
    if "access_token" in given and ("access_token",) in access.credentials:
        wanted = ("access_token",)
    for key in sorted(given - set(wanted)):
        yield f"{here}/{key}", f"is not used beside {' and '.join(wanted)}; keep one of the two ways"
    ways = ", or its ".join(" and ".join(one) for one in access.credentials)
    for key in wanted:
        if key not in given:
            yield f"{here}/{key}", f"is missing; write {ways.replace(', or', ' of the app, or', 1)}"
    if admin["base_url"] is not None and (fault := _address_fault(admin["base_url"], admin["allow_insecure"])):
        yield f"{here}/base_url", fault


def _admin_secrets(entry: Mapping[str, Any]) -> dict[str, str]:
    admin = entry["admin"] or {}
    return {key: admin[key] for key in ADMIN_SECRETS if admin.get(key) is not None}


def _field_problems(fields: Mapping[str, Any], destinations: list[str]) -> _Found:
    for name, entry in fields.items():
        for index, one in enumerate(entry["destinations"] or ()):
            if one not in destinations:
                where = f"/fields/{name}/destinations/{index}"
                yield where, f'there is no destination "{one}"; {nearest(one, destinations)}'


def _destination_problems(destinations: Mapping[str, Any], kinds: Kinds, segments: list[str]) -> _Found:
    for name, entry in destinations.items():
        here = f"/destinations/{name}"
        for index, segment in enumerate(entry["segments"] or ()):
            if segment not in segments:
                yield f"{here}/segments/{index}", f'there is no segment "{segment}"; {nearest(segment, segments)}'
        if entry["base_url"] is not None and (fault := _address_fault(entry["base_url"], entry["allow_insecure"])):
            yield f"{here}/base_url", fault
        kind = kinds.destinations.get(entry["kind"])
        if kind is None:
            known = nearest(entry["kind"], list(kinds.destinations))
            yield f"{here}/kind", f'"{entry["kind"]}" is not a kind of destination; {known}'
        else:
            yield from _kind_problems(here, entry, kind)


def _kind_problems(here: str, entry: Mapping[str, Any], kind: Takes) -> _Found:
    vendor = entry["kind"]
    for credential in kind.credentials:
        if credential not in entry["credentials"]:
            yield (
                f"{here}/credentials/{credential}",
                f'is missing; {vendor} needs it: {{{credential}: "env:NAME"}}, where NAME is an environment variable',
            )
    for key, known in (("credentials", list(kind.credentials)), ("options", list(kind.options))):
        for name in entry[key]:
            if name not in known:
                yield f"{here}/{key}/{name}", f"is not known to {vendor}; {nearest(name, known)}"
    for name, option in kind.options.items():
        if name in entry["options"] and not re.fullmatch(option.pattern, entry["options"][name], re.ASCII):
            yield f"{here}/options/{name}", f"must look like {option.example}"
    if kind.list_id and entry["list_id"] is None:
        yield f"{here}/list_id", f"is missing; {vendor} needs the id of the audience (list) to keep"
    if entry["engagement"] is not None and not kind.engagement:
        yield f"{here}/engagement", f"is not used by {vendor}: it cannot be asked; remove it"
    if not kind.list_id and entry["list_id"] is not None:
        yield f"{here}/list_id", f"is not used by {vendor}; remove it"


def _address_fault(address: str, allow_insecure: bool) -> str | None:
    try:
        permitted_address(address, address, allow_insecure)
    except Misconfigured as error:
        return error.message.removeprefix("base_url ")
    return None


# --- the configuration that it means ---------------------------------------------------------------------------------


def _identity(entry: Mapping[str, Any]) -> IdentityConfig:
    """What is written is added to what is blocked, and replaces what is the most."""
    common = IdentityConfig()
    own = {kind: values for kind, values in entry.get("blocked", {}).items() if values}
    blocked = {
        kind: tuple(sorted({*common.blocked.get(kind, ()), *(value.lower() for value in own.get(kind, ()))}))
        for kind in sorted(common.blocked.keys() | own.keys())
    }
    limits = {kind: most for kind, most in entry.get("limits", {}).items() if most is not None}
    return IdentityConfig(blocked, {**common.limits, **limits})


def _source(name: str, entry: Mapping[str, Any], folder: Path | None) -> SourceConfig:
    located = tuple(_located(secret, folder) for secret in entry["secrets"])
    browser = entry["browser"]
    taken = browser and BrowserConfig(tuple(browser["keys"]), tuple(browser["origins"]), browser["events_per_second"])
    return SourceConfig(
        name,
        entry["kind"],
        located,
        taken,
        entry["shop"],
        entry["silent_after"],
        entry["options"],
        _admin(entry, folder),
    )


def _admin(entry: Mapping[str, Any], folder: Path | None) -> AdminConfig | None:
    if entry["admin"] is None:
        return None
    address = entry["admin"]["base_url"]
    kept = {key: _located(secret, folder) for key, secret in _admin_secrets(entry).items()}
    return AdminConfig(**{**entry["admin"], **kept, "base_url": None if address is None else address.rstrip("/")})


def _destination(name: str, entry: Mapping[str, Any], kind: Takes, folder: Path | None) -> DestinationConfig:
    address = entry["base_url"]
    return DestinationConfig(
        name=name,
        kind=entry["kind"],
        credentials={key: _located(secret, folder) for key, secret in entry["credentials"].items()},
        list_id=entry["list_id"],
        base_url=None if address is None else address.rstrip("/"),
        allow_insecure=entry["allow_insecure"],
        dry_run=entry["dry_run"],
        segments=None if entry["segments"] is None else tuple(entry["segments"]),
        lists=entry["lists"],
        events=entry["events"],
        backfill=entry["backfill"],
        create_contacts=entry["create_contacts"] or creation_policy(kind),
        duplicates=entry["duplicates"],
        at_most_every=entry["at_most_every"],
        wait_for_more=entry["wait_for_more"],
        options=entry["options"],
        verify=entry["verify"],
        engagement=entry["engagement"],
    )


def _stream(name: str, entry: Mapping[str, Any], folder: Path | None) -> StreamConfig:
    credentials = {key: _located(secret, folder) for key, secret in entry["credentials"].items()}
    return StreamConfig(
        name, entry["kind"], entry["topic"], entry["into"], tuple(entry["publish"]), credentials, entry["options"]
    )


def _field(name: str, entry: Mapping[str, Any]) -> FieldConfig:
    path, shown = entry["source"], entry["destinations"]
    return FieldConfig(
        name,
        path,
        entry["type"] or field_types.type_of(path),
        entry["label"] or field_types.label_of(name),
        None if shown is None else tuple(shown),
    )


def _located(secret: str, folder: Path | None) -> str:
    """A `file:` reference with an absolute path, so that it means the same file wherever StoreCue is started."""
    if folder is None or not secret.startswith(secrets.FILE):
        return secret
    return f"{secrets.FILE}{folder / secret.removeprefix(secrets.FILE)}"
