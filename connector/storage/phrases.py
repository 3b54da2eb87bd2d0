"""SQL that SQLite and PostgreSQL say differently, as one phrase for both."""

from collections.abc import Iterable
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Dialect, Integer, Text, TypeDecorator, bindparam, literal_column
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement, GenericFunction

upsert = insert
"""INSERT with ON CONFLICT. Both dialects compile PostgreSQL's construct; only its class has all that both ask for."""


class least(GenericFunction[Any]):
    """The smallest of its arguments, none of which is NULL: with NULL the databases disagree."""

    inherit_cache = True


class greatest(GenericFunction[Any]):
    """The greatest of its arguments, none of which is NULL."""

    inherit_cache = True


class json_text(GenericFunction[Any]):
    """What stands under a key of a JSON object, for comparison with another such value or with a text: numbers and
    booleans as their digits, NULL where there is nothing. Both are columns or parameters that hold JSON as text."""

    type = Text()
    inherit_cache = True


def any_listed(given: str, kind: str = "bigint") -> str:
    """PostgreSQL's ANY of the values in a JSON text.

    Out of a subquery, PostgreSQL takes it for ten values and looks in the index for each. Of hundreds that it can see
    it believes, as long as it knows nothing of a young table, that most rows have one of them, and reads all rows.
    """
    return f"ANY(ARRAY(SELECT CAST(json_array_elements_text(CAST({given} AS json)) AS {kind})))"


class _Listed(TypeDecorator[Iterable[Any]]):
    """A list as a parameter of PostgreSQL: JSON text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Iterable[Any] | None, dialect: Dialect) -> str:
        return orjson.dumps(list(value or ())).decode()


class among(FunctionElement[bool]):
    """A column is one of the values in the list that the parameter of this name gives. On PostgreSQL one parameter, and
    so one text whatever their number: with IN the driver writes and the server reads a new one of a thousand marks each
    time."""

    inherit_cache = True

    def __init__(self, column: ColumnElement[Any], name: str) -> None:
        super().__init__(column, bindparam(name, type_=_Listed()))


@compiles(among, "sqlite")
def _among_sqlite(element: among, compiler: SQLCompiler, **kw: Any) -> str:
    # No JSON here: SQLite's ends a text at a NUL, so that an id with one would never be found again.
    column, given = element.clauses
    return compiler.process(column.in_(bindparam(given.key, expanding=True)), **kw)


@compiles(among, "postgresql")
def _among_postgresql(element: among, compiler: SQLCompiler, **kw: Any) -> str:
    column, given = (compiler.process(part, **kw) for part in element.clauses)
    kind = "bigint" if isinstance(next(iter(element.clauses)).type, Integer) else "text"
    return f"{column} = {any_listed(given, kind)}"


@compiles(least, "sqlite")
def _least(element: least, compiler: SQLCompiler, **kw: Any) -> str:
    return f"min{compiler.process(element.clause_expr, **kw)}"


@compiles(greatest, "sqlite")
def _greatest(element: greatest, compiler: SQLCompiler, **kw: Any) -> str:
    return f"max{compiler.process(element.clause_expr, **kw)}"


@compiles(json_text, "sqlite")
def _json_text_sqlite(element: json_text, compiler: SQLCompiler, **kw: Any) -> str:
    column, key = _parts(element, compiler, kw)
    return f"CAST(json_extract({column}, '$.' || {key}) AS TEXT)"


@compiles(json_text, "postgresql")
def _json_text_postgresql(element: json_text, compiler: SQLCompiler, **kw: Any) -> str:
    column, key = _parts(element, compiler, kw)
    return f"(CAST({column} AS jsonb) ->> {key})"


def _parts(element: json_text, compiler: SQLCompiler, kw: dict[str, Any]) -> tuple[str, str]:
    column, key = element.clauses
    return compiler.process(column, **kw), compiler.process(key, **kw)


def text_of(column: ColumnElement[Any], key: str) -> json_text:
    """The value under a key of our own choosing (no quotes in it), see `json_text`."""
    return json_text(column, literal_column(f"'{key}'"))
