"""Many rows in one statement on PostgreSQL, where SQLAlchemy would send a statement for each.

A row by itself costs the driver 11 us and the server 9, one of many 0.5 and 5 (the timeline's, 2026-11): so an INSERT
that is given a list takes its rows out of one JSON text. SQLite is quick with one at a time, and left alone.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Engine, event

_INSERT = re.compile(r"(INSERT INTO \w+ \((.*?)\)) VALUES \((.*?)\)(\s+ON CONFLICT.*)?", re.DOTALL)
_VALUE = re.compile(r"%(?:\((\w+)\))?s::(VARCHAR|BIGINT|INTEGER|FLOAT)")  # what JSON can say: no bytes
_KEY = re.compile(r"\s+ON CONFLICT \(([\w, ]+)\) DO UPDATE")
_GIVEN = re.compile(r"%\((\w+)\)s")
_CONSTANT = re.compile(r"\w+_\d+")  # SQLAlchemy's name for a value in the statement itself: the same for all rows

Row = dict[str, Any] | tuple[Any, ...]


class _Said(NamedTuple):
    """An INSERT out of the JSON text `rows`, its columns, how to get their values out of a row, the columns of which no
    two rows may have the same values, and the names of its constants."""

    statement: str
    columns: list[str]
    values: Callable[[Any], list[Any]]
    key: list[str]
    constants: list[str]


def insert_at_once(engine: Engine) -> None:
    """Let an engine of PostgreSQL do so. The count of rows is right where a conflict does nothing; an UPDATE upon
    conflict may take several statements, and the count is of the last."""

    @event.listens_for(engine, "do_executemany")
    def _do(cursor: Any, statement: str, parameters: Sequence[Row], _context: object) -> bool | None:
        if len(parameters) == 1 or (said := _said(statement)) is None:
            return None
        first = parameters[0]
        constants = {name: first[name] for name in said.constants} if isinstance(first, dict) else {}
        rows = [dict(zip(said.columns, said.values(row), strict=True)) for row in parameters]
        for some in _each_key_once(rows, said.key) if said.key else (rows,):
            cursor.execute(said.statement, constants | {"rows": orjson.dumps(some).decode()})
        return True


@lru_cache(256)
def _said(statement: str) -> _Said | None:
    """None when the statement is another, or is given what JSON cannot say."""
    found = _INSERT.fullmatch(statement.strip())
    if found is None:
        return None
    into, named, values, conflict = found[1], found[2], found[3], found[4] or ""
    columns = named.split(", ")
    marks = [_VALUE.fullmatch(value) for value in values.split(", ")]
    constants = _GIVEN.findall(conflict)
    if len(columns) != len(marks) or None in marks or not all(map(_CONSTANT.fullmatch, constants)):
        return None
    names = [mark[1] for mark in marks if mark]
    typed = ", ".join(f"{column} {mark[2]}" for column, mark in zip(columns, marks, strict=True) if mark)
    taken = f"SELECT {named} FROM json_to_recordset(%(rows)s::json) AS r ({typed})"  # noqa: S608  (our own statement)
    key = _KEY.match(conflict)
    return _Said(
        f"{into} {taken}{conflict}",
        columns,
        (lambda row: [row[name] for name in names]) if names[0] else list,
        key[1].split(", ") if key else [],
        constants,
    )


def _each_key_once(rows: Iterable[dict[str, Any]], key: Sequence[str]) -> Iterable[list[dict[str, Any]]]:
    """All of them in as many parts as the most frequent key has rows, which stay in their order: one statement may not
    update a row twice."""
    parts: list[list[dict[str, Any]]] = []
    met: Counter[tuple[Any, ...]] = Counter()
    for row in rows:
        of = tuple(row[name] for name in key)
        if met[of] == len(parts):
            parts.append([])
        parts[met[of]].append(row)
        met[of] += 1
    return parts
