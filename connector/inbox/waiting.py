"""A thread that waits until its deliveries are durable."""

import threading

from connector.errors import NotDurable


class Waiting:
    """A thread that waits, and the word that comes back."""

    __slots__ = ("_error", "_settled")

    def __init__(self) -> None:
        self._error: NotDurable | None = None
        self._settled = threading.Lock()
        self._settled.acquire()

    def settle(self, error: NotDurable | None) -> None:
        self._error = error
        self._settled.release()

    def wait(self, timeout: float) -> None:
        """Returns once it is settled; raises NotDurable, at the latest after `timeout` seconds."""
        if not self._settled.acquire(timeout=timeout):
            raise NotDurable("the log did not confirm the delivery in time")
        if self._error is not None:
            raise self._error
