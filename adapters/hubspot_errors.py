"""What HubSpot's refusals mean: by status, by the policy of a limit, by the words in a batch's errors."""

import re
from collections.abc import Mapping
from typing import Any

from adapters.errors import DeliveryError, Rejected, Transient, Unauthorized
from adapters.http import Answer, Fault, judge
from adapters.shape import entries, records, word

_FAULTS = {
    423: Fault(Transient, "locked", 2.0),
    477: Fault(Transient, "migration", 30.0),
}
POLICY_WAITS = {"TEN_SECONDLY_ROLLING": 10.0, "SECONDLY": 1.0}
"""Seconds by the policy that a 429 names; DAILY lasts until midnight where the account is."""

# What the codes and texts of a refusal mean to us. The texts are not documented (2026-11).
_REASONS = (
    (re.compile(r"INVALID_OPTION|not one of the allowed options"), "unknown_option"),
    (re.compile(r"PROPERTY_DOESNT_EXIST|Property .* does not exist"), "unknown_field"),
    (re.compile(r"gdpr|privacy|blocklist|blacklist", re.IGNORECASE), "erased"),
)
_ERASED = "HubSpot blocks this address since it was erased there for privacy; only its owner can come back, by a form"
# Categories of an item's error that time will mend, with seconds to wait.
_PASSING = {"RATE_LIMITS": 10.0, "LOCKED": 2.0, "INTERNAL_ERROR": 5.0, "SERVICE_UNAVAILABLE": 5.0, "TIMEOUT": 5.0}


def judged(answer: Answer, now: float, wait: float | None) -> DeliveryError:
    """The error that an answer means. `wait`: seconds by the policy of a limit, where one is named."""
    message, reason = word(answer.data, "message"), _reason(answer.data)
    if reason == "erased" and answer.status in (400, 409):
        message = _ERASED
    scopes = [
        str(scope)
        for cause in (answer.data, *records(answer.data, "errors"))
        for name in ("requiredScopes", "requiredGranularScopes")
        for scope in entries(cause, "context", name)
    ]
    if scopes and answer.status == 403:
        message = f"{message} (scopes: {', '.join(dict.fromkeys(scopes))})"
    told = reason if answer.status in (400, 409) else None
    return judge(answer, now, message, faults=_FAULTS, reason=told, culprit=culprit_in(answer.data), retry_after=wait)


def item_error(error: Mapping[str, Any]) -> DeliveryError:
    """What the error of one item of a batch means: a later try, or a refusal for good."""
    category, status = word(error, "category"), word(error, "status")
    message = word(error, "message")[:500]
    wait = _PASSING.get(category)
    if wait is None and re.fullmatch(r"4(23|29|77)|5\d\d", status):
        wait = 5.0
    if wait is not None:
        return Transient(message, retry_after=wait, reason="locked" if category == "LOCKED" else "unavailable")
    if category in ("MISSING_SCOPES", "INVALID_AUTHENTICATION"):
        return Unauthorized(message, reason="missing_scope")
    reason = _reason(error)
    return Rejected(_ERASED if reason == "erased" else message, field=culprit_in(error), reason=reason)


def names_in(error: Mapping[str, Any]) -> list[str]:
    """Every name by which a batch error may point at an input: HubSpot puts them in different places by operation.
    Trace ids say it best; without one, whatever stands in its context, but for the record that is in the way."""
    context = error.get("context")
    context = context if isinstance(context, dict) else {}
    traces = [error.get("objectWriteTraceId"), *_listed(context.get("objectWriteTraceId"))]
    others = [error.get("id"), *(v for n, held in context.items() if n != "existingId" for v in _listed(held))]
    found = [name for name in traces if name is not None] or others
    return [str(name).lower() for name in found if name is not None]


def culprit_in(error: Mapping[str, Any]) -> str | None:
    """The property that an error names."""
    for cause in (error, *records(error, "errors")):
        name = word(cause, "context", "propertyName") or word(cause, "context", "propertyName", 0)
        if name:
            return name
    return None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _reason(error: Mapping[str, Any]) -> str | None:
    said = " ".join(word(cause, name) for cause in (error, *records(error, "errors")) for name in ("code", "message"))
    return next((reason for pattern, reason in _REASONS if pattern.search(said)), None)
