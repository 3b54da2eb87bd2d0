"""How many records to take at once, when some of them break us."""

from collections.abc import Iterable, Mapping, Sequence

import structlog
from sqlalchemy.exc import DatabaseError, DataError, DBAPIError, IntegrityError, ProgrammingError

from connector.errors import ConfigurationError, Fenced, UnprocessableEvent
from connector.inbox.notes import KILLED
from connector.ports import Rec

log = structlog.get_logger("worker")

_MOST = 500  # records in one transaction


def faults_of_ours(error: BaseException) -> bool:
    """True when no record is to blame: another worker, the database, the disk, or what an operator must mend."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    if isinstance(error, DataError | IntegrityError | ProgrammingError):
        return False
    return isinstance(error, Fenced | ConfigurationError | DatabaseError) or not isinstance(error, Exception)


def stalled(error: Exception) -> bool:
    """True when PostgreSQL has put an end to a transaction, because for too long we asked nothing in it."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", "") == "25P03"


def with_later(records: Iterable[Rec], raised: Mapping[Rec, Exception]) -> dict[Rec, Exception]:
    """Those of these records that raised, and all that come later of the same customers."""
    stuck: dict[str, Exception] = {}
    broken = {}
    for record in records:
        if record in raised:
            stuck.setdefault(record.key, raised[record])
        if record.key in stuck:
            broken[record] = stuck[record.key]
    return broken


class Care:
    """What one worker has learned of records that raise. A batch of n that holds one is taken in about log2(n) pieces
    until the one is alone; pieces are smaller while that happens often.

    Of a piece that raised, the first half is tried. When that goes through, the second half must hold the bad record:
    it is halved without being tried as a whole. What was taken last is of `part`; `fault` is what the only record of it
    is known to do to us.
    """

    def __init__(self) -> None:
        self.part = 0
        self.fault: Exception | None = None
        self._size = _MOST
        self._bad: dict[int, tuple[int, Exception]] = {}
        """Partition -> up to where a bad record lies, and what was raised"""
        self._taken: tuple[int, int] | None = None

    def take(self, part: int, records: Sequence[Rec], risky_to: int = 0, at_once: int = 0) -> Sequence[Rec]:
        """The first of these records, to be taken in one transaction. A worker has died over what lies below
        `risky_to`, of which so many may be taken `at_once`; 0: the first one is known to have killed it."""
        end, fault = self._bad.get(part, (0, None))
        suspects = sum(record.pos < end for record in records)
        self.fault = fault if suspects == 1 else None
        taken = records[: max(1, suspects // 2) if suspects else self._size]
        if risky := sum(record.pos < risky_to for record in records):
            taken = taken[: min(risky, max(1, at_once))]
            if at_once == 0 and taken[-1].pos + 1 == risky_to:
                self.fault = UnprocessableEvent("a worker died over it", reason=KILLED)
        self.part = part
        self._taken = (part, taken[-1].pos + 1)
        return taken

    def succeeded(self) -> None:
        """What was taken last is done."""
        assert self._taken is not None
        (part, end), self._taken = self._taken, None
        if part not in self._bad:
            self._size = min(_MOST, self._size + self._size // 4 + 1)
        elif end >= self._bad[part][0]:
            del self._bad[part]

    def failed(self, error: BaseException) -> bool:
        """What was taken last has raised, and nothing of it is done. False when no record is to blame for that."""
        taken, self._taken = self._taken, None
        if taken is None or not isinstance(error, Exception) or faults_of_ours(error):
            return False
        part, end = taken
        if part not in self._bad:
            log.warning("worker.batch_failed", error=type(error).__name__)
            self._size = max(1, self._size // 4)
        self._bad[part] = (end, error)
        return True
