"""How far processing is behind the log of deliveries. The log may live in a database of its own: two reads."""

from dataclasses import dataclass

from sqlalchemy import Connection, func, select, tuple_

from connector.clock import Millis
from connector.storage.tables import delivery, log_head, log_position


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition: `head` is the next position to be written, `position` the next to be worked on."""

    part: int
    head: int
    position: int

    @property
    def lag(self) -> int:
        """Deliveries that wait."""
        return max(0, self.head - self.position)


def positions(state: Connection) -> dict[int, int]:
    """The next position of each partition that has been worked on."""
    return {part: pos for part, pos in state.execute(select(log_position.c.part, log_position.c.pos))}


def partitions(state: Connection, inbox: Connection) -> list[Partition]:
    """Every partition. Positions are read first, so that a lag is never understated by what happens in between."""
    done = positions(state)
    heads = inbox.execute(select(log_head.c.part, log_head.c.head).order_by(log_head.c.part))
    return [Partition(part, head, done.get(part, 0)) for part, head in heads]


def oldest_waiting(inbox: Connection, parts: list[Partition]) -> Millis | None:
    """When the delivery was received that waits longest; None when none waits."""
    firsts = [(part.part, part.position) for part in parts if part.lag]
    if not firsts:
        return None
    query = select(func.min(delivery.c.received_at)).where(tuple_(delivery.c.part, delivery.c.pos).in_(firsts))
    oldest: Millis | None = inbox.execute(query).scalar()
    return oldest
