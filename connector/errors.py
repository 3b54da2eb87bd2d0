"""Errors that say who must act. `reason` is a slug: metric label, log field and dead-letter column."""

from connector.clock import Millis


class ConnectorError(Exception):
    """Anything StoreCue itself refuses or cannot do."""

    reason = "error"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if reason is not None:
            self.reason = reason


class ConfigurationError(ConnectorError):
    """The operator must act: StoreCue refuses to start or to apply."""

    reason = "configuration"


class RejectedDelivery(ConnectorError):
    """The sender must act: answered with `status` (4xx) as problem+json."""

    reason = "rejected_delivery"

    def __init__(self, message: str, *, status: int = 400, reason: str | None = None) -> None:
        super().__init__(message, reason=reason)
        self.status = status


class UnprocessableEvent(ConnectorError):
    """The developer must act: the delivery goes to dead letters and can be replayed."""

    reason = "unprocessable"


class DefinitionError(ConnectorError):
    """The marketer must act: a definition is wrong at `pointer` (a JSON pointer). Answered with 422."""

    reason = "definition"

    def __init__(self, message: str, *, pointer: str = "", reason: str | None = None) -> None:
        super().__init__(message, reason=reason)
        self.pointer = pointer


class NotPermitted(ConnectorError):
    """No consent: a decision, logged and not retried."""

    reason = "not_permitted"


class CannotMerge(ConnectorError):
    """Whoever asked must choose two other profiles: these are not two."""

    reason = "cannot_merge"


class CannotUnmerge(ConnectorError):
    """Whoever asked must choose another merge: this one is none, or none any more."""

    reason = "cannot_unmerge"


class NotDurable(ConnectorError):
    """The log could not promise to keep a delivery in time: the sender gets 503 and repeats."""

    reason = "not_durable"

    def __init__(self, message: str, *, retry_after: Millis = 1000) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Overloaded(NotDurable):
    """More is sent than can be kept: the sender gets 503 at once and repeats; the operator adds a larger machine."""

    reason = "overloaded"


class StreamUnavailable(ConnectorError):
    """Whoever runs the broker, or the network to it, must act: a stream cannot be read or written now. Tried again."""

    reason = "unreachable"


class Fenced(ConnectorError):
    """Another process has moved this partition on, or has taken this work over: roll back and look again."""

    reason = "fenced"
