"""The result of a bulk operation: the one address that Shopify gives us and that we follow, asked for without a key."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from adapters.address import permitted_address
from adapters.connection import Connection, Unanswered, Unreached
from adapters.errors import Misconfigured, Transient
from connector.domain import AdminConfig

_STORAGE = ("storage.googleapis.com", ".storage.googleapis.com", ".shopify.com", ".shopifycdn.com", ".shopifycloud.com")
"""Where Shopify keeps results (2026-11: storage.googleapis.com); a name that begins with a dot stands for its ends."""
_TIMEOUTS = (10.0, 60.0)  # seconds to connect, and between two pieces


def permitted(url: str, config: AdminConfig) -> str:
    """The address, when it may be followed: https at Shopify's storage, or the test server of `base_url`. Raises
    Misconfigured."""
    parts = urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc}"
    if config.base_url is not None and config.allow_insecure and origin == config.base_url:
        return url
    host = (parts.hostname or "").lower()
    known = any(host.endswith(name) if name.startswith(".") else host == name for name in _STORAGE)
    if parts.scheme != "https" or not known or parts.username or parts.port not in (None, 443):
        raise Misconfigured(
            f"the result of a bulk operation lies at {origin[:200]}, which is not known as Shopify's storage, and was "
            "not fetched: tell the makers of StoreCue",
            reason="foreign_address",
        )
    permitted_address(origin, None, False)
    return url


def pieces(url: str, start: int, config: AdminConfig) -> tuple[int, Iterator[bytes]]:
    """Where the pieces begin, `start` or 0, and the pieces as they come. Raises Transient, also half way."""
    connection = Connection(config.allow_insecure, *_TIMEOUTS, 1)
    headers = {"User-Agent": "StoreCue", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    coming = _coming(connection, url, headers)
    begins = next(coming)
    assert isinstance(begins, int)
    return begins, coming  # type: ignore[return-value]  # only the first one is a number


def _coming(connection: Connection, url: str, headers: dict[str, str]) -> "Iterator[bytes | int]":
    try:
        with connection.stream(url, headers) as (status, received, content):
            asked = int(headers["Range"].removeprefix("bytes=").removesuffix("-")) if "Range" in headers else 0
            if status == 416 and asked:  # all of it was here already when a crash came
                yield asked
                return
            if status not in (200, 206):
                raise Transient(f"{status} for the result of a bulk operation", retry_after=30.0, reason="no_result")
            resumed = status == 206 and received.get("content-range", "").startswith(f"bytes {asked}-")
            if status == 206 and not resumed:
                raise Transient("the result of a bulk operation came from another place", reason="no_result")
            yield asked if resumed else 0
            yield from content
    except (Unreached, Unanswered) as error:
        raise Transient(f"the result of a bulk operation did not come ({error})", retry_after=5.0) from None
    finally:
        connection.close()
