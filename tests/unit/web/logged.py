"""The process's logging caught as JSON lines, and put back afterwards."""

import io
import json
import logging
from contextlib import contextmanager

import structlog

from connector import logs


class Written(io.StringIO):
    """What was logged."""

    def entries(self):
        return [json.loads(line) for line in self.getvalue().splitlines()]


@contextmanager
def logged(style="json", level="debug", secrets=()):
    root, config = logging.getLogger(), structlog.get_config()
    handlers, before = root.handlers[:], root.level
    written = Written()
    logs.configure(level, style, secrets=secrets, stream=written)
    try:
        yield written
    finally:
        root.handlers[:] = handlers
        root.setLevel(before)
        structlog.configure(**config)
