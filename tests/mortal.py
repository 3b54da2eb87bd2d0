"""Processes of tests that do not outlive them, however the test run ends."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_SYSTEM = ctypes.CDLL(None) if sys.platform == "linux" else None


def dies_with_us(number: signal.Signals = signal.SIGTERM) -> Callable[[], None] | None:
    """A `preexec_fn`: the process gets this signal when this one is gone, killed with -9 as well. Linux only.

    To be started by the main thread: the kernel takes the thread that starts a process for its parent."""
    us, system = os.getpid(), _SYSTEM
    if system is None:
        return None

    def in_the_child() -> None:
        # What a shell starts in the background ignores Ctrl-C, and so do its children: a test would wait for nothing.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        system.prctl(_PR_SET_PDEATHSIG, int(number))
        if os.getppid() != us:
            os.kill(os.getpid(), signal.SIGKILL)  # too late to be told

    return in_the_child
