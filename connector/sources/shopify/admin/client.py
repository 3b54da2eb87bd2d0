"""Calls to a shop's Admin API: the token, Shopify's points, and refusals in words that say who must act."""

import re
import threading
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import orjson

from adapters.destination import Clock
from adapters.destination import Settings as AccountSettings
from adapters.errors import DeliveryError, Misconfigured, Rejected, Transient, Unauthorized, setting_up
from adapters.http import Answer, Fault, Http, Vendor, judge
from connector.domain import AdminConfig

_LOGIN = "/admin/oauth/access_token"
_RENEW_BEFORE = 3600.0  # seconds: a token lasts 24 h, and one that ends during a call would cost that call
_PATIENCE = 30.0  # seconds that a call waits here for points; a longer wait goes back to the caller
_TRIES = 6

_FAULTS: Mapping[int, Fault] = {
    400: Fault(Misconfigured, "bad_request"),
    401: Fault(Unauthorized, "unauthorized"),
    402: Fault(Unauthorized, "shop_frozen"),
    403: Fault(Unauthorized, "forbidden"),
    404: Fault(Misconfigured, "no_such_shop"),
    423: Fault(Unauthorized, "shop_locked"),
    430: Fault(Transient, "rate_limited", 60.0),  # Shopify's own, for what looks like an attack
}
_SAID: Mapping[int, str] = {
    401: "Shopify does not take the token: install the app in this shop again, and put its credentials into `admin`",
    402: "the shop is frozen: its owner must pay Shopify's bill",
    403: "Shopify refuses the app here: install it in this shop, in the Dev Dashboard under the app's Home",
    404: "there is no such shop, or the version of the API is too old: correct `admin.shop` and `admin.version`",
    423: "the shop is locked: its owner must ask Shopify",
}
_LOGIN_SAID: Mapping[str, str] = {
    "shop_not_permitted": "the app and the shop must belong to the same organisation, and the app must be installed "
    "in the shop; otherwise use an access_token",
    "invalid_client": "client_id or client_secret is not the app's: copy both again from its Settings",
    "application_cannot_be_found": "no app has this client_id: copy it again from the app's Settings",
    "app_not_installed": "install the app in this shop, in the Dev Dashboard under the app's Home",
}
_SCOPE = re.compile(r"`((?:read|write)_[a-z_]+)`")


class TooCostly(Rejected):
    """The query asks for more than Shopify lets one query have: ask for fewer things at once."""

    reason = "too_costly"


class Throttled(Transient):
    """The points are used up for `retry_after` seconds."""

    reason = "rate_limited"


class Points:
    """What Shopify has said of the points that are left: they come back at a rate, up to a maximum."""

    def __init__(self) -> None:
        self._left, self._rate, self._most, self._at = 0.0, 0.0, 0.0, 0.0

    def note(self, cost: Mapping[str, Any], now: float) -> None:
        """Take up `extensions.cost` of an answer."""
        status = cost.get("throttleStatus") or {}
        self._left = float(status.get("currentlyAvailable") or 0.0)
        self._rate = float(status.get("restoreRate") or 0.0)
        self._most = float(status.get("maximumAvailable") or 0.0)
        self._at = now

    def wait(self, cost: float, now: float) -> float:
        """Seconds until a query of this cost may be asked; 0 when nothing is known."""
        if self._rate <= 0:
            return 0.0
        left = min(self._most, self._left + (now - self._at) * self._rate)
        return max(0.0, (min(cost, self._most) - left) / self._rate)


class Client:
    """The Admin API of one shop. Tokens are kept in memory only: a new one costs one call, and one on disk would be a
    further secret to keep. Used by any number of threads."""

    def __init__(self, config: AdminConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._lock = threading.Lock()
        self._token: tuple[str, float] | None = None
        self._http: Http | None = None
        self._points = Points()
        self._costs: dict[str, float] = {}
        self._path = f"/admin/api/{config.version}/graphql.json"

    def __repr__(self) -> str:
        return f"<Client {self._config.shop}>"

    def ask(self, query: str, /, *, once: bool = False, **variables: Any) -> dict[str, Any]:
        """`data` of the answer. Waits for points, tries again what is worth it; raises an adapters.errors one. What
        must be done `once` is not sent again when its answer was lost: that is Transient; whoever asks looks first."""
        from tenacity import Retrying, retry_if_exception, stop_after_attempt

        retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, Throttled) and error.retry_after <= _PATIENCE),
            wait=lambda state: getattr(state.outcome and state.outcome.exception(), "retry_after", 0.0),
            stop=stop_after_attempt(_TRIES),
            sleep=self._clock.sleep,
            reraise=True,
        )
        with setting_up() if once else nullcontext():
            found: dict[str, Any] = retrying(self._asked, query, variables, not once)
        return found

    def close(self) -> None:
        with self._lock:
            if self._http is not None:
                self._http.close()
                self._http = None

    def _asked(self, query: str, variables: Mapping[str, Any], repeatable: bool) -> dict[str, Any]:
        if (wait := self._points.wait(self._costs.get(query, 0.0), self._clock.monotonic())) > 0:
            if wait > _PATIENCE:
                raise Throttled("the shop's points are used up", retry_after=wait)
            self._clock.sleep(wait)
        body = {"query": query, "variables": dict(variables)}
        http, token = self._opened()
        try:
            answer = http.call("POST", self._path, body=body, family="graphql", repeatable=repeatable)
        except Unauthorized as error:
            if error.reason != "unauthorized" or self._config.access_token is not None:
                raise
            http, _ = self._opened(refused=token)  # it may have been revoked before its time
            answer = http.call("POST", self._path, body=body, family="graphql", repeatable=repeatable)
        cost = (answer.data.get("extensions") or {}).get("cost") or {}
        if cost:
            self._points.note(cost, self._clock.monotonic())
            self._costs[query] = float(cost.get("requestedQueryCost") or 0.0)
        if errors := answer.data.get("errors"):
            raise self._error(errors, self._costs.get(query, 0.0))
        data = answer.data.get("data")
        if not isinstance(data, dict):
            raise Transient("the answer has no data", retry_after=30.0, reason="unreadable_answer")
        return data

    def _error(self, errors: Any, cost: float) -> DeliveryError:
        """What Shopify's errors, which come with status 200, mean."""
        first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
        code = (first.get("extensions") or {}).get("code")
        message = str(first.get("message") or errors)[:500]
        if code == "THROTTLED":
            wait = max(1.0, self._points.wait(cost, self._clock.monotonic()))
            return Throttled("the shop's points are used up", retry_after=wait)
        if code == "MAX_COST_EXCEEDED":
            return TooCostly(message)
        if code == "ACCESS_DENIED":
            return Unauthorized(denied(message), reason="missing_scope")
        if code in ("INTERNAL_SERVER_ERROR", "TIMEOUT"):
            return Transient(f"Shopify failed: {message}", retry_after=10.0)
        return Misconfigured(f"Shopify does not understand the query: {message}", reason="bad_query")

    # --- the token ----------------------------------------------------------------------------------------------------

    def _opened(self, refused: str | None = None) -> tuple[Http, str]:
        """Calls with a token that is good for a while; another one than `refused`."""
        with self._lock:
            now = self._clock.monotonic()
            known = self._token
            if self._http is not None and known is not None and known[0] != refused and now < known[1]:
                return self._http, known[0]
            if self._http is not None:
                self._http.close()
            token, lasts = self._login()
            self._token = (token, now + lasts)
            self._http = self._calls({"X-Shopify-Access-Token": token, "Content-Type": "application/json"}, token)
            return self._http, token

    def _login(self) -> tuple[str, float]:
        """A token and the seconds for which to use it."""
        config = self._config
        if config.access_token is not None:
            return config.access_token, float("inf")
        http = self._calls({"Content-Type": "application/json"})
        body = {
            "client_id": config.client_id,
            "client_secret": config.client_secret,
            "grant_type": "client_credentials",
        }
        try:
            answer = http.call("POST", _LOGIN, body=body, family="login", expect=(400, 401, 403))
        finally:
            http.close()
        token = answer.data.get("access_token")
        if answer.status != 200 or not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
            raise Unauthorized(f"Shopify gives no token: {_login_said(answer)}")
        lasts = float(answer.data.get("expires_in") or 0.0)
        return token, max(60.0, lasts - _RENEW_BEFORE)

    def _calls(self, headers: Mapping[str, str], *secrets: str) -> Http:
        config = self._config
        kept = (*secrets, *(secret for secret in (config.client_secret,) if secret))
        vendor = Vendor(
            name="Shopify",
            address=f"https://{config.shop}",
            headers=headers,
            secrets=kept,
            judge=_judged,
            concurrency=2,
            windows={},
        )
        settings = AccountSettings(credentials={}, base_url=config.base_url, allow_insecure=config.allow_insecure)
        return Http(vendor, settings, self._clock)


def denied(message: str) -> str:
    """What to do about Shopify's `Access denied for customers field. Required access: `read_customers` ...`."""
    scopes = ", ".join(dict.fromkeys(_SCOPE.findall(message)))
    if scopes:
        return (
            f"the app may not read this: add the scope {scopes} to it, release the version, and accept it in the shop"
        )
    return f"the app may not read this ({message}): give it the scope and the access to customer data that it names"


def _judged(answer: Answer, now: float) -> DeliveryError:
    return judge(answer, now, _SAID.get(answer.status, _message(answer)), faults=_FAULTS)


def _message(answer: Answer) -> str:
    said = answer.data.get("errors") or answer.data.get("error_description") or answer.data.get("error") or ""
    return said if isinstance(said, str) else orjson.dumps(said).decode()[:500]


def _login_said(answer: Answer) -> str:
    code = str(answer.data.get("error") or "")
    text = answer.content[:2000].decode("utf-8", "replace")  # the older pages of Shopify name the code in HTML
    code = code or next((known for known in _LOGIN_SAID if known in text), "")
    return _LOGIN_SAID.get(code, f"{answer.status} {code or _message(answer)}")
