"""A clock that moves only when told, for rate windows and jobs."""

import pytest


class StillClock:
    """Epoch seconds that stand still; `sleep` moves them on."""

    def __init__(self, at: float = 1_795_000_000.0) -> None:
        self.at = at

    def time(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds


@pytest.fixture
def clock() -> StillClock:
    return StillClock()
