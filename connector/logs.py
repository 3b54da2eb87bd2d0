"""Logs: one line per thing that happened, as JSON or for a person to read, with secrets and personal data removed."""

import logging
import re
import sys
from collections.abc import Iterable, MutableMapping
from typing import Any, TextIO

import structlog

HIDDEN = "[hidden]"

_SECRET_NAMES = re.compile(
    r"secret|token|passw|authori[sz]ation|api_?key|credential|cookie|signature|hmac", re.IGNORECASE
)
_NOT_SECRET = frozenset({"token_name", "token_id"})  # which token was used, for people to find it again
_PERSONAL_NAMES = frozenset({"email", "phone", "first_name", "last_name", "address", "body", "traits"})
_PATTERNS = (
    (re.compile(r"[A-Za-z0-9._%+-]+(?:@|%40)[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"), "[e-mail]"),
    (re.compile(r"(?<![\w+])\+\d[\d ().-]{6,18}\d"), "[phone]"),
    (re.compile(r"(?i)\b(bearer|basic|klaviyo-api-key)\s+[A-Za-z0-9._~+/=-]+"), rf"\1 {HIDDEN}"),
    # Keys that start so: ours, Shopify's, HubSpot's, Klaviyo's private ones; Mailchimp's end in its data centre.
    (re.compile(r"\b(?:sc_|shp(?:ss|at|pa|ua|ca)_|pat-[a-z]{2}\d-|pk_)[A-Za-z0-9_-]{8,}"), HIDDEN),
    (re.compile(r"\b[0-9a-f]{32}-us\d{1,3}\b"), HIDDEN),
)
_DEPTH = 6  # of nested values that are looked at; what lies deeper is not logged


class Redaction:
    """A structlog processor that hides secrets and personal data, in names, values, messages and tracebacks.

    `secrets` are values known to be secret: they are hidden wherever they appear.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = tuple(secret for secret in secrets if len(secret) >= 6)

    def __call__(self, _logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for name, value in entry.items():
            entry[name] = self._named(name, value, _DEPTH)
        return entry

    def text(self, text: str) -> str:
        """`text` without secrets, e-mail addresses and phone numbers."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        for pattern, instead in _PATTERNS:
            text = pattern.sub(instead, text)
        return text

    def _named(self, name: str, value: Any, depth: int) -> Any:
        if name in _PERSONAL_NAMES or (_SECRET_NAMES.search(name) and name not in _NOT_SECRET):
            return HIDDEN if value else value
        return self._value(value, depth)

    def _value(self, value: Any, depth: int) -> Any:
        if value is None or isinstance(value, bool | int | float):
            return value
        if depth == 0:
            return HIDDEN
        if isinstance(value, dict):
            return {self.text(str(key)): self._named(str(key), item, depth - 1) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._value(item, depth - 1) for item in value]
        return self.text(value if isinstance(value, str) else str(value))


def configure(level: str, style: str, *, secrets: Iterable[str] = (), stream: TextIO | None = None) -> None:
    """Set up all logging of this process, the libraries' included. `level` as in logging, `style` json or console."""
    out = sys.stderr if stream is None else stream
    first: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        structlog.processors.UnicodeDecoder(),
        Redaction(secrets),
    ]
    last: Any = structlog.processors.JSONRenderer(ensure_ascii=False)
    if style == "console":
        last = structlog.dev.ConsoleRenderer(
            colors=out.isatty(), timestamp_key="at", exception_formatter=structlog.dev.plain_traceback
        )
    structlog.configure(
        processors=[*first, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        # A line below the level costs 3 us, with logging's own filter 5: the pipeline writes one per event.
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=first,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
