"""A worker whose source kills it, over and over, with somebody who starts it again: `poisoned.py DATA`.

A delivery whose id begins with `hang` is looked at for ever, by a regular expression that lets no other thread run; one
that begins with `crash` makes the system end the process, with `oom` as it does with one that has taken all memory; and
one that begins with `bomb` takes more and more of it, until there is none left of what a worker may have.
"""

import os
import re
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from connector import serve
from connector.clock import SECOND
from connector.config.settings import Settings
from connector.domain import Delivery, Normalised, StoreInfo
from connector.inbox import notes, parking
from connector.logs import configure
from connector.sources import SOURCES
from connector.sources.shopify import Shopify

ROOM = 256 << 20
"""Bytes of address space that a worker may have beyond what it has as it begins to take them."""


def explode() -> None:
    page = resource.getpagesize()
    has = int(Path("/proc/self/statm").read_text().split()[0]) * page
    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (has + ROOM, most))
    try:
        taken = []
        while True:
            taken.append(bytes(16 << 20))
    finally:
        # Nothing of it is left by now; with the limit gone the next one is like the first.
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


POISONS: dict[str, Callable[[], object]] = {
    "bomb": explode,
    "oom": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hang": lambda: re.match(r"(a+)+$", "a" * 64 + "b"),
    "crash": lambda: os.kill(os.getpid(), signal.SIGSEGV),
}


class Poisoned(Shopify):
    def normalise(self, delivery: Delivery, store: StoreInfo) -> Normalised:
        POISONS.get(delivery.id.rstrip("0123456789"), str)()
        return super().normalise(delivery, store)


def main() -> None:
    configure("info", "console")
    notes.HANGS_AFTER = 0.5
    parking._WAITS = (SECOND,) * len(parking._WAITS)
    SOURCES["shopify"] = Poisoned()  # type: ignore[index]
    settings = Settings.from_environment(data_dir=Path(sys.argv[1]))
    while True:
        worker = os.fork()
        if worker == 0:
            serve.worker(settings)
        _, status = os.waitpid(worker, 0)
        if status == 0:
            return
        print(f"the worker died: {os.waitstatus_to_exitcode(status)}", flush=True)


if __name__ == "__main__":
    main()
