"""Over which deliveries the line stumbles: it goes on with the others, and does all of it again without those."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Self

from connector.inbox.care import faults_of_ours
from connector.ports import Rec


class Stumbled(Exception):
    """Nothing of the batch may stand, because these of its deliveries raised."""

    def __init__(self, over: Mapping[Rec, Exception]) -> None:
        super().__init__(f"{len(over)} deliveries raised")
        self.over = over


class Stumbles:
    """What is raised inside `with stumbles.of(record)` or `about(person)` is noted, and the step goes on with the next.
    What cannot be laid on one customer, such as a fault of the database, is raised."""

    def __init__(self) -> None:
        self._raised: dict[Rec, Exception] = {}
        self._concerning: dict[int, list[Rec]] = defaultdict(list)
        self._at: Sequence[Rec] = ()

    def concern(self, people: Iterable[int], records: Iterable[Rec]) -> None:
        """These records touch these people."""
        told = list(records)
        for person in people:
            self._concerning[person] += told

    def concerning(self, person: int) -> Sequence[Rec]:
        return self._concerning.get(person, ())

    def of(self, record: Rec) -> Self:
        self._at = (record,)
        return self

    def about(self, person: int) -> Self:
        """Any of the records that touch a person may be it. Those of one customer wait together, and are soon tried one
        by one."""
        records = self.concerning(person)
        self._at = records if len({record.key for record in records}) == 1 else ()
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if error is None or not self._at or not isinstance(error, Exception) or faults_of_ours(error):
            return False
        for record in self._at:
            self._raised.setdefault(record, error)
        return True

    def settle(self) -> None:
        """Raises Stumbled when there was anything. To be called before writes: less is done again then."""
        if self._raised:
            raise Stumbled(self._raised)
