"""Calls to one vendor's account: limits, retries that honour Retry-After, errors by who must act, no secret told."""

import random
import re
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlencode

import orjson

from adapters.address import permitted_address
from adapters.destination import Clock, Settings
from adapters.errors import DeliveryError, Misconfigured, Rejected, Transient, Unauthorized
from adapters.rate_limit import PATIENCE, Window, shared_limiter
from adapters.shape import dig

if TYPE_CHECKING:
    from tenacity import RetryCallState, Retrying

    from adapters.connection import Connection

TRIES = 3
LONGEST_WAIT = 3600.0
"""Seconds: a Retry-After beyond it is taken for a mistake and cut to it."""

_AFTER_TIMEOUT = 5.0
_LEAST_LEFT = 1.0  # seconds
_STOOD_BACK = 5.0
_AFTER_UNREADABLE = 30.0


class Answer(NamedTuple):
    """What the vendor answered. `data` is the JSON object, {} when there is none; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    data: dict[str, Any]

    def at(self, *path: str | int) -> Any:
        """The value under these keys; raises Transient when the answer does not have it, as no true answer would."""
        value = dig(self.data, *path)
        if value is None:
            message = f"the answer ({self.status}) has no {'/'.join(map(str, path))}"
            raise Transient(message, retry_after=_AFTER_UNREADABLE, reason="unreadable_answer")
        return value


class Fault(NamedTuple):
    """What a status means: the error to raise, its reason slug, and seconds to wait when the vendor names none."""

    error: type[DeliveryError]
    reason: str
    retry_after: float = 1.0


_FAULTS: Mapping[int, Fault] = {
    401: Fault(Unauthorized, "unauthorized"),
    403: Fault(Unauthorized, "missing_scope"),
    404: Fault(Rejected, "not_found"),
    408: Fault(Transient, "timed_out"),
    409: Fault(Rejected, "conflict"),
    410: Fault(Misconfigured, "retired_version"),
    413: Fault(Rejected, "too_large"),
    425: Fault(Transient, "unavailable"),
    429: Fault(Transient, "rate_limited"),
}


def judge(
    answer: Answer,
    now: float,
    message: str,
    *,
    faults: Mapping[int, Fault] = {},
    reason: str | None = None,
    culprit: str | None = None,
    retry_after: float | None = None,
) -> DeliveryError:
    """The error that an answer which is no success means: by `faults` of the vendor, then by those of every vendor,
    then by class (5xx Transient, 3xx Misconfigured, 4xx Rejected). `retry_after`: the vendor's own hint in seconds."""
    status = answer.status
    fault = faults.get(status) or _FAULTS.get(status)
    if fault is None:
        classes = {3: Fault(Misconfigured, "redirected"), 5: Fault(Transient, "unavailable")}
        fault = classes.get(status // 100, Fault(Rejected, "rejected"))
    text = f"{status}: {message[:500]}" if message else str(status)
    if issubclass(fault.error, Transient):
        told = parse_retry_after(answer.headers.get("retry-after"), now)
        wait = told if told is not None else retry_after if retry_after is not None else fault.retry_after
        return fault.error(text, retry_after=wait, reason=reason or fault.reason)
    if issubclass(fault.error, Rejected):
        return fault.error(text, field=culprit, reason=reason or fault.reason)
    return fault.error(text, reason=reason or fault.reason)


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Seconds to wait by a Retry-After header (seconds or an HTTP date), in 0..LONGEST_WAIT; None when it says nothing.

    `now` is epoch seconds. Shape: RFC 9110, 10.2.3; fractions and signs are accepted because servers send them.
    """
    text = (value or "").strip()
    if re.fullmatch(r"[+-]?[0-9]+(\.[0-9]*)?", text):
        return min(max(float(text), 0.0), LONGEST_WAIT)
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return min(max(moment.timestamp() - now, 0.0), LONGEST_WAIT)
    except (ValueError, OverflowError, IndexError):
        return None


def credential(settings: Settings, name: str) -> str:
    """The key of that name; Misconfigured when it is missing or could not stand in a header. Never quotes it."""
    key = settings.credentials.get(name, "")
    if not key:
        raise Misconfigured(f"credentials need {name}")
    if not re.fullmatch(r"[!-~]+", key):
        raise Misconfigured(f"{name} holds spaces, line breaks or characters outside ASCII: copy it again")
    return key


def count_option(settings: Settings, name: str, default: int) -> int:
    """The option of that name, a whole number from 1; raises Misconfigured."""
    told = settings.options.get(name, str(default))
    if not re.fullmatch(r"[1-9][0-9]{0,8}", told):
        raise Misconfigured(f"option {name} must be a whole number from 1, not {told!r}")
    return int(told)


@dataclass(frozen=True, slots=True)
class Vendor:
    """How one vendor is spoken to. `judge` turns an answer that is no success, and epoch seconds, into the error.
    `spent` gives the seconds to wait because the answer's own counters say that nothing is left; 0 mostly. `lingers`:
    seconds in which a call that timed out here may still count there as one at a time. `lists`: some answers are a list
    and no object; then it is `items` of Answer.data."""

    name: str
    address: str
    headers: Mapping[str, str] = field(repr=False)
    secrets: Sequence[str] = field(repr=False)
    judge: Callable[[Answer, float], DeliveryError]
    concurrency: int
    windows: Mapping[str, Sequence[Window]]
    spent: Callable[[Answer, float], float] = lambda answer, now: 0.0
    lingers: float = 0.0
    lists: bool = False


class Http:
    """Calls to one account. Used by any number of threads; all users of an account in this process share its limits."""

    def __init__(self, vendor: Vendor, settings: Settings, clock: Clock) -> None:
        self._vendor = vendor
        self._settings = settings
        self._clock = clock
        self.address = permitted_address(vendor.address, settings.base_url, settings.allow_insecure)
        account = "\n".join((self.address, *vendor.secrets))
        self._limiter = shared_limiter(account, clock, vendor.concurrency, vendor.windows)
        if settings.spent_until is not None:
            self._limiter.exhaust(settings.spent_until)
        self._lock = threading.Lock()
        self._opened: tuple[Connection, Retrying] | None = None

    def __repr__(self) -> str:
        return f"<Http {self._vendor.name} {self.address}>"

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, object] | None = None,
        family: str = "account",
        expect: Collection[int] = (),
        repeatable: bool = True,
    ) -> Answer:
        """The answer when its status is 2xx or in `expect`; otherwise raises what the vendor's table says.

        `body` is sent as JSON unless it is bytes. Short waits are spent here, up to TRIES attempts; a longer one leaves
        as Transient, and so does any call to an account that is out (see adapters.breaker). A call that is not
        `repeatable` and whose answer was lost is Rejected with reason `unknown_result`.
        """
        try:
            content = body if body is None or isinstance(body, bytes) else orjson.dumps(body)
        except TypeError as error:  # lone surrogates, integers beyond 64 bits
            raise Rejected(f"not expressible in JSON: {error}", reason="unencodable") from None
        url = self.address + path + (f"?{urlencode(query, quote_via=quote, safe=',()')}" if query else "")
        headers = {"User-Agent": "StoreCue", "Accept-Encoding": "gzip", **self._vendor.headers}
        if content is None:
            headers.pop("Content-Type", None)
        _, retrying = self._open()
        return retrying(self._attempt, method, url, headers, content, family, expect, repeatable)

    def fetch(self, url: str) -> bytes:
        """The body behind a link the vendor gave us, asked for without our key; raises Transient."""
        status, _, content = self._exchange("GET", url, {"User-Agent": "StoreCue"}, None, repeatable=True)
        if status != 200:
            raise Transient(f"{status} for a result of {self._vendor.name}", retry_after=_AFTER_TIMEOUT)
        return content

    def close(self) -> None:
        with self._lock:
            if self._opened:
                self._opened[0].close()
                self._opened = None

    def _attempt(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        content: bytes | None,
        family: str,
        expect: Collection[int],
        repeatable: bool,
    ) -> Answer:
        breaker = self._limiter.breaker
        breaker.enter()
        with self._limiter.slot(family):
            if self._settings.left() < _LEAST_LEFT:
                raise Transient(
                    "another process may be about to take this account over",
                    retry_after=_STOOD_BACK,
                    reason="stood_back",
                )
            try:
                status, received, raw = self._exchange(method, url, headers, content, repeatable)
            except DeliveryError as lost:
                _put_off(lost, breaker.failed())
                raise
        for secret in self._vendor.secrets:
            raw = raw.replace(secret.encode(), b"[redacted]")
        readable, data = parse(raw, self._vendor.lists)
        answer = Answer(status, received, raw, data)
        rest = 0.0
        if status >= 500 or (status < 300 and not readable):
            rest = breaker.failed()
        else:
            breaker.answered()
        if wait := self._vendor.spent(answer, self._clock.time()):
            self._limiter.block(family, wait)
        if status in expect or 200 <= status < 300:
            if not readable and status < 300:
                raise Transient(
                    f"{self._vendor.name} answered {status} with something other than a JSON object",
                    retry_after=max(rest, _AFTER_UNREADABLE),
                    reason="unreadable_answer",
                )
            return answer
        error = self._vendor.judge(answer, self._clock.time())
        asked = status == 503 and "retry-after" in received
        if isinstance(error, Transient) and (error.reason == "rate_limited" or asked):
            self._limiter.block(family, error.retry_after)
        _put_off(error, rest)
        raise error

    def _exchange(
        self, method: str, url: str, headers: dict[str, str], content: bytes | None, repeatable: bool
    ) -> tuple[int, dict[str, str], bytes]:
        from adapters.connection import TooMuch, Unanswered, Unreached

        connection, _ = self._open()
        name = self._vendor.name
        try:
            return connection.exchange(method, url, headers, content)
        except Unreached as error:
            raise Transient(f"{name} cannot be reached ({error})", reason="unreachable") from None
        except Unanswered as error:
            if error.timed_out and self._vendor.lingers > 0:
                self._limiter.linger(self._vendor.lingers)
            if not repeatable:
                raise Rejected(f"{name} did not answer ({error})", reason="unknown_result") from None
            wait = _AFTER_TIMEOUT if error.timed_out else 0.0
            raise Transient(f"{name} did not answer ({error})", retry_after=wait, reason="no_answer") from None
        except TooMuch as error:
            raise Transient(
                f"{name} answered {error}", retry_after=_AFTER_UNREADABLE, reason="unreadable_answer"
            ) from None

    def _open(self) -> "tuple[Connection, Retrying]":
        with self._lock:
            if self._opened is None:
                from tenacity import Retrying, retry_if_exception, stop_after_attempt

                from adapters.connection import Connection

                settings = self._settings
                self._opened = (
                    Connection(
                        settings.allow_insecure,
                        settings.connect_timeout,
                        settings.read_timeout,
                        self._vendor.concurrency,
                    ),
                    Retrying(
                        retry=retry_if_exception(_is_short),
                        stop=stop_after_attempt(TRIES),
                        wait=_pause,
                        sleep=self._clock.sleep,
                        reraise=True,
                    ),
                )
            return self._opened


def _put_off(error: DeliveryError, rest: float) -> None:
    """Not to be tried again within `rest` seconds: the account is out, and that is said by what it last answered."""
    if isinstance(error, Transient):
        error.retry_after = max(error.retry_after, rest)


def _is_short(error: BaseException) -> bool:
    return isinstance(error, Transient) and error.retry_after <= PATIENCE and error.reason != "unreadable_answer"


def _pause(state: "RetryCallState") -> float:
    # Never less than the vendor asked for, and never two callers at the same instant.
    error = state.outcome.exception() if state.outcome else None
    told = error.retry_after if isinstance(error, Transient) else 0.0
    backoff = 0.2 * 2 ** (state.attempt_number - 1)
    return float(told + backoff * random.uniform(0.5, 1.0))  # noqa: S311  spreads retries, guards nothing


def parse(raw: bytes, lists: bool = False) -> tuple[bool, dict[str, Any]]:
    """Whether a body is readable, and the JSON object in it; with `lists` a list is one too, under `items`."""
    if not raw.strip():
        return True, {}
    try:
        data = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return False, {}
    if lists and isinstance(data, list):
        return True, {"items": data}
    return (True, data) if isinstance(data, dict) else (False, {})
