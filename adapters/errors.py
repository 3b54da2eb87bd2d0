"""What can go wrong with a vendor, by who or what must act. `reason` is a slug: metric label and dead-letter column."""

from collections.abc import Iterator
from contextlib import contextmanager


class DeliveryError(Exception):
    """A call to the vendor did not do what was asked."""

    reason = "delivery"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if reason is not None:
            self.reason = reason


class Transient(DeliveryError):
    """Time will mend it: rate limited, unavailable, timed out. Try again `retry_after` seconds from now."""

    reason = "unavailable"

    def __init__(self, message: str, *, retry_after: float = 1.0, reason: str | None = None) -> None:
        super().__init__(message, reason=reason)
        self.retry_after = retry_after


class Rejected(DeliveryError):
    """This one item is refused for good; `field` names the culprit where the vendor says so."""

    reason = "rejected"

    def __init__(self, message: str, *, field: str | None = None, reason: str | None = None) -> None:
        super().__init__(message, reason=reason)
        self.field = field


class Unauthorized(DeliveryError):
    """The credentials do not open this account (any more): the destination pauses until somebody gives new ones."""

    reason = "unauthorized"


class Misconfigured(DeliveryError):
    """The settings given to the adapter cannot work; says what would be right."""

    reason = "misconfigured"


@contextmanager
def setting_up() -> Iterator[None]:
    """Runs the body, which makes something exist at the vendor.

    What the vendor rejects there is Misconfigured: no item is at fault, somebody has to change settings or account.
    Where nobody knows whether it was made, it is Transient: the next try looks before it makes another.
    """
    try:
        yield
    except Rejected as error:
        if error.reason == "unknown_result":
            raise Transient(error.message, reason="no_answer") from None
        raise Misconfigured(error.message, reason=error.reason) from None
