"""A thread that takes one step after the other beside the worker's own work."""

import threading
from collections.abc import Callable

import structlog
from sqlalchemy.exc import OperationalError

from connector.errors import Fenced

log = structlog.get_logger("background")

STOP_WITHIN = 5.0
"""Seconds for a call under way."""


class Background:
    """`step` again and again, until `close`: at once while it says that there was something to do, else after
    `idle_wait` seconds. A fault of ours or of the disk is logged, and the next step tries again."""

    def __init__(self, name: str, step: Callable[[], bool], idle_wait: float) -> None:
        self._name = name
        self._step = step
        self._idle_wait = idle_wait
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let the step under way be the last one."""
        self._stopping.set()

    def close(self, within: float = STOP_WITHIN) -> None:
        """Returns when the step under way has ended, after `within` seconds at most."""
        self.stop()
        if self._thread is not None:
            self._thread.join(within)

    def _run(self) -> None:
        busy = False
        while not self._stopping.wait(0.0 if busy else self._idle_wait):
            try:
                busy = self._step()
            except Fenced as error:
                busy = False
                log.warning("background.fenced", work=self._name, hint=error.message)
            except OperationalError as error:
                busy = False
                log.error("background.database_failed", work=self._name, hint=str(error.orig))
            except Exception:
                busy = False
                log.exception("background.failed", work=self._name)
