"""Any sender at all: JSON, a form or a query, known by a token or an HMAC, and mapped as storecue.yaml says.

Serves automation tools, forms and scripts, which let their users choose address, headers and body.
"""

import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

from connector.domain import Delivery, Json, Normalised, RawRequest, StoreInfo
from connector.errors import DefinitionError, RejectedDelivery, UnprocessableEvent
from connector.ports import Claim
from connector.sources import signatures
from connector.sources.documents import json_bytes, json_object, refuse_nul, too_deep
from connector.sources.filing import delivery_id
from connector.sources.mapping import Meaning, Scope, compiled
from connector.sources.signatures import Scheme, base64_bytes, hex_bytes

_TOKEN_HEADER = "x-storecue-token"  # noqa: S105 (the name of a header)
_FORM = "application/x-www-form-urlencoded"
_MOST_ITEMS = 2000
_MOST_KEPT = 20 * 1024 * 1024  # bytes of all events of one request: each keeps the body around it
_UNMAPPED = compiled({"event": "Event Received"}, {})

Verify = Callable[[RawRequest, Sequence[str]], None]


class Generic:
    """The source of kind `generic`. As it is in SOURCES it maps nothing: `configured` makes the one that does."""

    kind = "generic"

    def __init__(self, meaning: Meaning = _UNMAPPED, verify: Verify | None = None) -> None:
        self._meaning = meaning
        self._verify = verify or _verify_token

    def configured(self, options: Mapping[str, Json]) -> "Generic":
        """A source with this mapping (see sources.mapping) and `signature`."""
        written = {name: value for name, value in options.items() if name != "signature"}
        return Generic(compiled(written, {}), verifier(options.get("signature", "token")))

    def verify(self, request: RawRequest, secrets: Sequence[str]) -> None:
        """Returns when a secret is the token, or signed the body; RejectedDelivery 401 otherwise."""
        self._verify(request, secrets)

    def claim(self, request: RawRequest) -> tuple[Claim, ...]:
        """A claim for each event. The body is parsed: only the mapping knows where a customer is named in it."""
        body, headers = _sent(request)
        try:
            document = _document(body, headers)
        except UnprocessableEvent:
            return (_unread(request, body, headers),)  # the worker will say what is wrong, and keep it
        scopes = self._meaning.items(document)
        if self._meaning.each is None:
            return (self._claim(scopes[0], body, headers, None if body is request.body else body),)
        if len(scopes) > _MOST_ITEMS or len(scopes) * _around(document, scopes) + len(body) > _MOST_KEPT:
            raise RejectedDelivery(f"a request may have {_MOST_ITEMS} events", status=413, reason="too_many_events")
        around = _without(document, [scope.item for scope in scopes])
        parts = [json_bytes({"body": around, "item": scope.item}) for scope in scopes]
        return tuple(
            self._claim(scope, part, {"part": "item"}, part) for scope, part in zip(scopes, parts, strict=True)
        )

    def _claim(self, scope: Scope, body: bytes, headers: dict[str, str], part: bytes | None = None) -> Claim:
        name = self._meaning.name(scope)
        id_ = delivery_id(None, name, body if part is None else part)
        return Claim(id_, name, self._meaning.key(scope) or f"delivery:{id_}", headers, part)

    def normalise(self, delivery: Delivery, store: StoreInfo) -> Normalised:
        """What the event means. UnprocessableEvent names the place in the mapping that cannot be read."""
        document = _document(delivery.body, delivery.headers)
        if delivery.headers.get("part") == "item":
            scope = Scope(document.get("body"), document.get("item"))
        elif self._meaning.each is None:
            scope = Scope(document, document)
        else:
            raise UnprocessableEvent("/each: this was received before there was an `each`", reason="not_split")
        id_ = self._meaning.said_id(scope) or delivery.id
        return self._meaning.meaning(scope, delivery, store, id_.partition("#")[0])


def _unread(request: RawRequest, body: bytes, headers: dict[str, str]) -> Claim:
    id_ = delivery_id(None, "event", body)
    return Claim(id_, "event", f"delivery:{id_}", headers, None if body is request.body else body)


def _sent(request: RawRequest) -> tuple[bytes, dict[str, str]]:
    """What is kept of a request: the body, or the query where there is none; and how to read it."""
    if not request.body and request.query:
        pairs = [pair for pair in request.query.split("&") if not pair.startswith("token=")]
        return "&".join(pairs).encode("utf-8", "replace"), {"form": "query"}
    type_ = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    # curl -d, and many a script, call JSON a form.
    form = type_ == _FORM and request.body.lstrip()[:1] not in (b"{", b"[")
    return request.body, {"form": "form"} if form else {}


def _document(body: bytes, headers: Mapping[str, str]) -> Any:
    """The body as JSON values. A form is an object of texts; a name that comes twice is a list."""
    if "form" not in headers:
        if body.lstrip()[:1] == b"[":
            return json_object(b'{"items":' + body + b"}")["items"]
        return json_object(body)
    found: dict[str, Any] = {}
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=1000, errors="strict")
    except ValueError as fault:
        raise UnprocessableEvent(f"/: the form cannot be read: {fault}", reason="not_a_form") from None
    for name, value in pairs:
        before = found.get(name)
        found[name] = value if before is None else [*before, value] if type(before) is list else [before, value]
    refuse_nul(found)
    return found


def _around(document: Any, scopes: Sequence[Scope]) -> int:
    return len(json_bytes(_without(document, [scope.item for scope in scopes])))


def _without(value: Any, items: Sequence[Any]) -> Any:
    """The body without the lists that hold the items: each event keeps its own, and what is around all of them.
    RejectedDelivery 400 when it is nested too deep."""
    ids = {id(item) for item in items if type(item) in (dict, list)}

    def bare(one: Any) -> Any:
        if type(one) is dict:
            return {name: bare(inner) for name, inner in one.items()}
        if type(one) is list:
            return [] if any(id(inner) in ids for inner in one) else [bare(inner) for inner in one]
        return one

    try:
        return bare(value)
    except RecursionError as fault:
        raise too_deep() from fault


# --- who may send -----------------------------------------------------------------------------------------------------


def _verify_token(request: RawRequest, secrets: Sequence[str]) -> None:
    """The token in Authorization: Bearer, in X-StoreCue-Token, or as `token` in the query."""
    bearer = request.headers.get("authorization", "")
    stated = bearer[7:] if bearer[:7].lower() == "bearer " else request.headers.get(_TOKEN_HEADER, "")
    if not stated:
        found = (pair[6:] for pair in request.query.split("&") if pair.startswith("token="))
        stated = unquote_plus(next(found, ""))
    given = stated.strip().encode("utf-8", "surrogatepass")
    fits = [hmac.compare_digest(given, secret.encode()) for secret in secrets]
    if not any(fits):
        raise RejectedDelivery(
            "the token fits none of this source's secrets; send it as Authorization: Bearer ..., as X-StoreCue-Token, "
            "or as ?token=... at the end of the address",
            status=401,
            reason="bad_signature",
        )


_DIGESTS = ("sha256", "sha1", "sha512")
_ENCODINGS: dict[str, Callable[[str], bytes]] = {"hex": hex_bytes, "base64": base64_bytes}
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,100}")
_HINT = "Its operator has described how it signs under options/signature in storecue.yaml"
_SAID = ("header", "algorithm", "encoding", "prefix", "timestamp", "signed")


def verifier(written: Json) -> Verify:
    """How a sender proves itself, as `signature` in the options says. DefinitionError with a JSON pointer."""
    if written == "token":
        return _verify_token
    if written == "standard-webhooks":
        scheme = signatures.STANDARD_WEBHOOKS
    elif type(written) is dict:
        scheme = _described(written)
    else:
        raise DefinitionError("must be token, standard-webhooks, or an object with header", pointer="/signature")
    return lambda request, secrets: signatures.verify(scheme, request, secrets, _HINT)


def _described(written: Mapping[str, Json]) -> Scheme:
    """{header, algorithm: sha256, encoding: hex, prefix: "", timestamp: header of the instant, signed: "{body}"}"""
    for key, value in written.items():
        if key not in _SAID:
            raise DefinitionError(f"is not known here; use one of {', '.join(_SAID)}", pointer=f"/signature/{key}")
        if type(value) is not str:
            raise DefinitionError("must be a text", pointer=f"/signature/{key}")
    digest, encoding = written.get("algorithm", "sha256"), written.get("encoding", "hex")
    stamp, signed = written.get("timestamp"), written.get("signed")
    for key, value, choices in (("algorithm", digest, _DIGESTS), ("encoding", encoding, tuple(_ENCODINGS))):
        if value not in choices:
            raise DefinitionError(f"must be one of {', '.join(choices)}", pointer=f"/signature/{key}")
    for key in ("header", "timestamp"):
        if key in written and not _HEADER.fullmatch(written[key]):
            raise DefinitionError("must be the name of a header, such as X-Signature", pointer=f"/signature/{key}")
    if "header" not in written:
        raise DefinitionError("is missing: the header that holds the signature", pointer="/signature/header")
    signed = signed or ("{timestamp}.{body}" if stamp else "{body}")
    template = [part for part in re.split(r"\{(timestamp|body)\}", signed) if part]
    if template.count("body") != 1 or ("timestamp" in template) != (stamp is not None):
        raise DefinitionError(
            "must have {body}, and {timestamp} where a timestamp header is named", pointer="/signature/signed"
        )
    read = partial(
        signatures.read_stated,
        written["header"].lower(),
        _ENCODINGS[encoding],
        written.get("prefix", ""),
        stamp.lower() if stamp else None,
        template,
    )
    return Scheme(read, digest)
