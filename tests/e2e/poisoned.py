"""A worker whose source kills it, over and over, with somebody who starts it again: `poisoned.py DATA`.

A delivery whose id begins with `hang` is looked at for ever, by a regular expression that lets no other thread run; one
that begins with `crash` makes the system end the process.
"""

import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from connector import serve
from connector.config.settings import Settings
from connector.domain import Delivery, Normalised, StoreInfo
from connector.inbox import notes
from connector.sources import SOURCES
from connector.sources.shopify import Shopify

notes.HANGS_AFTER = 0.5

POISONS: dict[str, Callable[[], object]] = {
    "hang": lambda: re.match(r"(a+)+$", "a" * 64 + "b"),
    "crash": lambda: os.kill(os.getpid(), signal.SIGSEGV),
}


class Poisoned(Shopify):
    def normalise(self, delivery: Delivery, store: StoreInfo) -> Normalised:
        POISONS.get(delivery.id.rstrip("0123456789"), str)()
        return super().normalise(delivery, store)


def main() -> None:
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
