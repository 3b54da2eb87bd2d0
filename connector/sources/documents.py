"""Bodies as JSON documents: read strictly, and written without what is not known."""

from typing import Any

import orjson

from connector.domain import Json
from connector.errors import RejectedDelivery, UnprocessableEvent


def json_object(body: bytes) -> dict[str, Any]:
    """The body, a JSON object; UnprocessableEvent when it is none.

    orjson refuses NaN, numbers beyond a double, lone surrogates and nesting past 1024.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as fault:
        raise UnprocessableEvent(f"/: the body is not JSON: {fault}", reason="not_json") from None
    if type(document) is not dict:
        raise UnprocessableEvent("/: the body must be an object", reason="not_an_object")
    if rb"\u0000" in body:
        refuse_nul(document)
    return document


def json_bytes(value: Any, option: int | None = None) -> bytes:
    """A part of a request's body, written again so that it can be kept; RejectedDelivery 400 when it is nested deeper
    than orjson writes, which is less deep than it reads."""
    try:
        return orjson.dumps(value, option=option)
    except TypeError as fault:
        raise too_deep() from fault


def too_deep() -> RejectedDelivery:
    return RejectedDelivery("the body is nested too deep to be anybody's event", reason="too_deep")


def refuse_nul(document: Any) -> None:
    """Raises UnprocessableEvent when there is a NUL in a text, which databases cannot store."""
    if (pointer := _nul(document)) is not None:
        raise UnprocessableEvent(f"{pointer}: holds a NUL character", reason="nul_character")


def known(**values: Json) -> dict[str, Json]:
    """The values that say something: null and the empty text are left out."""
    return {name: value for name, value in values.items() if value is not None and value != ""}


def _nul(document: Any) -> str | None:
    """The pointer of a text with a NUL, which databases cannot store."""
    left: list[tuple[str, Any]] = [("", document)]
    while left:
        pointer, value = left.pop()
        if isinstance(value, str):
            if "\0" in value:
                return pointer
        elif isinstance(value, dict):
            for key, inner in value.items():
                if "\0" in key:
                    return pointer or "/"
                left.append((f"{pointer}/{key}", inner))
        elif isinstance(value, list):
            left.extend((f"{pointer}/{index}", inner) for index, inner in enumerate(value))
    return None
