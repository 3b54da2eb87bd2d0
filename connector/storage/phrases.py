"""SQL that SQLite and PostgreSQL say differently, as one phrase for both."""

from typing import Any

from sqlalchemy import ColumnElement, Text, literal_column
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction

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
