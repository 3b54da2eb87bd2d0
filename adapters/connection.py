"""The wire: a requests session that reaches only permitted addresses, follows nothing and reads no environment.

Imported at the first call: requests costs more to import than all of the adapters together.
"""

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool
from urllib3.exceptions import HTTPError, ReadTimeoutError

from adapters.address import is_public
from adapters.errors import Misconfigured

_MAX_ANSWER = 64 * 1024 * 1024
_CHUNK = 256 * 1024


class Unreached(Exception):
    """The request did not reach the vendor: it is safe to send it again."""


class Unanswered(Exception):
    """The request was sent, the answer did not come: nobody knows whether it took effect."""

    def __init__(self, message: str, *, timed_out: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out


class TooMuch(Exception):
    """The answer is larger than anything we would read."""


class _PublicConnection(HTTPSConnection):
    """Refuses a peer outside the public internet after the connect and before the first byte: the name cannot resolve
    to anything else in between."""

    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        peer = sock.getpeername()[0]
        if not is_public(peer):
            sock.close()
            message = f"{self.host} resolves to {peer}, not on the public internet: set allow_insecure if that is meant"
            raise Misconfigured(message)
        return sock


class _PublicPool(HTTPSConnectionPool):
    ConnectionCls = _PublicConnection


class _PublicOnly(HTTPAdapter):
    """An HTTPAdapter for https to the public internet."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"https": _PublicPool}


class Connection:
    """A keep-alive pool to one vendor. Used by any number of threads."""

    def __init__(self, allow_insecure: bool, connect_timeout: float, read_timeout: float, pool: int) -> None:
        self._timeout = (connect_timeout, read_timeout)
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy, no netrc: the key goes where the settings say
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session.adapters.clear()
        adapter = (HTTPAdapter if allow_insecure else _PublicOnly)(pool_connections=4, pool_maxsize=pool, max_retries=0)
        for scheme in ("https://", "http://") if allow_insecure else ("https://",):
            self._session.mount(scheme, adapter)

    def exchange(
        self, method: str, url: str, headers: dict[str, str], body: bytes | None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (names in lower case) and body; raises Unreached, Unanswered or TooMuch."""
        with self._sent(method, url, headers, body) as response:
            content = self._read(response)
            if not content and _is_cut(response):
                raise Unanswered("the answer was cut off")
            return response.status_code, _named(response), content

    @contextmanager
    def stream(self, url: str, headers: dict[str, str]) -> Iterator[tuple[int, dict[str, str], Iterator[bytes]]]:
        """Status, headers and the body as it comes, however large; raises Unreached or Unanswered, also half way."""
        with self._sent("GET", url, headers, None) as response:
            pieces = iter(lambda: response.raw.read1(_CHUNK, decode_content=True), b"")
            yield response.status_code, _named(response), pieces

    @contextmanager
    def _sent(self, method: str, url: str, headers: dict[str, str], body: bytes | None) -> Iterator[requests.Response]:
        try:
            with self._session.request(
                method, url, headers=headers, data=body, timeout=self._timeout, allow_redirects=False, stream=True
            ) as response:
                yield response
        except (requests.Timeout, ReadTimeoutError) as error:
            if isinstance(error, requests.ConnectTimeout):
                raise Unreached("connecting timed out") from None
            raise Unanswered("timed out", timed_out=True) from None
        except requests.ConnectionError as error:
            # A MaxRetryError around one of these: urllib3 gave up before anything was sent.
            reason = getattr(error.args[0] if error.args else None, "reason", None)
            untrusted = any(isinstance(cause, ssl.SSLCertVerificationError) for cause in getattr(reason, "args", ()))
            if untrusted or type(reason).__name__ in ("NewConnectionError", "NameResolutionError"):
                raise Unreached("certificate not trusted" if untrusted else type(reason).__name__) from None
            raise Unanswered("connection lost") from None
        except (requests.RequestException, HTTPError) as error:
            raise Unanswered(type(error).__name__) from None

    def _read(self, response: requests.Response) -> bytes:
        """The whole body, read as it comes: a vendor that drips a byte at a time may not hold us longer than one that
        says nothing. By the machine's own clock, as socket timeouts are."""
        content = bytearray()
        deadline = time.monotonic() + self._timeout[1]
        while chunk := response.raw.read1(_CHUNK, decode_content=True):
            content += chunk
            if len(content) > _MAX_ANSWER:
                raise TooMuch(f"more than {_MAX_ANSWER} bytes")
            if time.monotonic() > deadline:
                raise Unanswered("timed out", timed_out=True)
        return bytes(content)

    def close(self) -> None:
        self._session.close()


def _is_cut(response: requests.Response) -> bool:
    """Whether an answer without a body ended in the middle of its head, with the connection. The standard library takes
    that for all of it: a read of what exists would have found nothing, and everything would be made once more."""
    headers = response.headers
    if response.status_code in (204, 304) or headers.get("content-length", "").isdigit():
        return False
    if headers.get("transfer-encoding", "") == "chunked":  # whose end shows
        return False
    return bool(getattr(response.raw._original_response, "will_close", False))


def _named(response: requests.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}
