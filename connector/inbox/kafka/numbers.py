"""Topics that are or were the log: the partitions of each have numbers of their own."""

from sqlalchemy import Connection, insert, select, update

from connector.storage.tables import log_topic

APART = 100_000
"""Between the numbers of two topics' partitions; below the first are those of SqlLog."""


def first(tx: Connection, name: str, id_: str | None) -> int:
    """Where the numbers of a topic's partitions begin. `name`: cluster/topic; `id_`: what tells it from one of the same
    name that was there before; None where nobody can say, because there is no controller at the moment, or because the
    brokers know no ids yet.

    Whoever is not told takes the newest topic of the name, and what was met without an id gets the one that is told
    first: a log must not be another one, to be worked off once more, because a broker is away or was upgraded.
    """
    rows = tx.execute(select(log_topic.c.id, log_topic.c.first)).all()
    ours: dict[str, int] = {known: number for known, number in rows if known == name or known.startswith(f"{name}/")}
    if id_ is None and ours:
        return max(ours.values())
    full = name if id_ is None else f"{name}/{id_}"
    if full in ours:
        return ours[full]
    if name in ours:
        tx.execute(update(log_topic).where(log_topic.c.id == name).values(id=full))
        return ours[name]
    number: int = max((number for _, number in rows), default=0) + APART
    tx.execute(insert(log_topic).values(id=full, first=number))
    return number
