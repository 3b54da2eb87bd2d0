"""The SQL text of one rule while it is written: bound parameters, aggregates over events, values from JSON.

Rule constants, names and paths are always bound, never part of the text. What differs between databases is in Dialect.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from connector.clock import Millis
from connector.storage.phrases import any_listed


@dataclass(frozen=True, slots=True)
class Dialect:
    """The phrases that differ between databases, as templates.

    On SQLite a value out of JSON is a number or a text by itself; on PostgreSQL it is a jsonb, of which one or the
    other is asked. Booleans are the numbers 1 and 0, null is NULL.
    """

    value: str  # the value at a path of a JSON column; arrays and objects as text or jsonb
    kind: str  # the JSON type at a path: text, array, object, or one that nobody asks for
    path: Callable[[Sequence[str]], str]  # the path of these keys, one inside the other
    items: str  # a table of the items at a path, with key, value and type
    number: str  # a value if it is a number; if not, NULL or what never equals one
    text: str  # a value if it is a text; likewise
    fixed: str  # a value in 1/10,000, rounded half away from zero; NULL if it is no number
    instant: str  # epoch milliseconds of a value: a number of them or an ISO text; else NULL
    position: str  # 1-based position of a text in a value that is a text, 0 when absent
    fence: str  # keeps a subquery from being merged into its surroundings and computed again for each mention
    join: str  # an inner join that stays as it is written: its left side is gone through
    least: str
    greatest: str
    total: str  # the sum of a column, 0 of nothing
    people: str  # a test that a column is one of the ids in the JSON array `:ids`


def _sqlite_path(keys: Sequence[str]) -> str:
    return "$" + "".join(f'."{key}"' for key in keys)


def _postgresql_path(keys: Sequence[str]) -> str:
    return "{" + ",".join('"' + key.replace("\\", "\\\\") + '"' for key in keys) + "}"


SQLITE = Dialect(
    value="json_extract({0}, {1})",
    kind="json_type({0}, {1})",
    path=_sqlite_path,
    items="json_each({0}, {1})",
    number="{0}",
    text="{0}",
    fixed="CASE WHEN {0} < '' THEN round({0} * 10000) END",  # a number sorts below every text
    instant=(
        "CASE WHEN {0} GLOB '[1-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'"
        " THEN CAST(round((julianday({0}) - 2440587.5) * 86400000) AS INTEGER)"
        " WHEN {0} BETWEEN -8.64e15 AND 8.64e15 THEN CAST({0} AS INTEGER) END"
    ),
    position="instr({0}, {1})",
    fence="LIMIT -1",
    join="CROSS JOIN",
    least="min",
    greatest="max",
    total="total({})",
    people="{0} IN (SELECT value FROM json_each(:ids))",
)
POSTGRESQL = Dialect(
    value="storecue_value(CAST({0} AS jsonb) #> {1})",
    kind="storecue_kind(CAST({0} AS jsonb) #> {1})",
    path=_postgresql_path,
    items="storecue_items(CAST({0} AS jsonb) #> {1})",
    number="storecue_number({0})",
    text="storecue_text({0})",
    fixed="storecue_fixed({0})",
    instant="storecue_instant({0})",
    position="strpos(storecue_text({0}), {1})",
    fence="OFFSET 0",
    join="JOIN",
    least="least",
    greatest="greatest",
    total="coalesce(sum({}), 0)",
    people="{0} = " + any_listed(":ids"),
)
"""Its functions are made with the schema, see `storage.functions`."""

DIALECTS = {"sqlite": SQLITE, "postgresql": POSTGRESQL}
"""By the name that SQLAlchemy gives them."""


class Rows(NamedTuple):
    """Which events a condition is about: a name and a SQL test of the row `e` ('' when every one of that name)."""

    name: str
    test: str = ""


class Aggregate(NamedTuple):
    """One figure over a person's events: `function` (with {} for the value) of `value` where row and window fit.

    Only events that have happened count, unless `future`.
    """

    function: str
    value: str
    rows: Rows
    floor: Millis | None
    future: bool = False


@dataclass(slots=True)
class Query:
    """Gathers what the expressions of one rule need; `sql.statement` makes a statement of it."""

    now: Millis
    dialect: Dialect = SQLITE
    params: dict[str, Any] = field(default_factory=dict)
    aggregates: list[Aggregate] = field(default_factory=list)
    lifted: list[str] = field(default_factory=list)
    spine_segment: str | None = None
    _bound: dict[tuple[type, Any], str] = field(default_factory=dict)

    def bind(self, value: Any) -> str:
        """The parameter that carries this value; equal values share one, so equal expressions have equal text."""
        known = self._bound.get((type(value), value))
        if known is None:
            known = f":p{len(self._bound)}"
            self._bound[type(value), value] = known
            self.params[known[1:]] = value
        return known

    def binds(self, values: Sequence[Any]) -> str:
        """A parenthesised list of parameters."""
        return f"({', '.join(self.bind(value) for value in values)})"

    def path(self, *keys: str) -> str:
        """The parameter that carries the path of a key, or of one inside the other."""
        return self.bind(self.dialect.path(keys))

    def aggregate(self, aggregate: Aggregate) -> str:
        """The column that will carry this figure."""
        if aggregate not in self.aggregates:
            self.aggregates.append(aggregate)
        return f"a{self.aggregates.index(aggregate)}"

    def lift(self, expression: str) -> str:
        """The column that will carry this expression over the profile's `traits` or `consent`, computed once."""
        if expression not in self.lifted:
            self.lifted.append(expression)
        return f"t{self.lifted.index(expression)}"


class Operand(Protocol):
    """A JSON value in a query: what stands at `path` (a parameter) of `column`."""

    @property
    def query(self) -> Query: ...
    @property
    def column(self) -> str: ...
    @property
    def path(self) -> str: ...

    def expression(self) -> str:
        """The value."""

    def kind(self) -> str:
        """Its JSON type."""

    def computed(self, text: str) -> str:
        """`text`, an expression over `direct`, or the name under which it is computed beforehand."""

    def direct(self) -> "Operand":
        """The same value, computed in place."""


class Value(NamedTuple):
    """A value of an event's properties; a `lifted` one is of a person's traits or consent, computed once a person."""

    query: Query
    column: str
    path: str
    lifted: bool = False

    def expression(self) -> str:
        return self.computed(self.query.dialect.value.format(self.column, self.path))

    def kind(self) -> str:
        return self.computed(self.query.dialect.kind.format(self.column, self.path))

    def computed(self, text: str) -> str:
        return self.query.lift(text) if self.lifted else text

    def direct(self) -> Operand:
        return self._replace(lifted=False)


class Item(NamedTuple):
    """A value of one item of a list of objects, such as one of an order's products; `alias` is the list as a table."""

    query: Query
    alias: str
    path: str

    @property
    def column(self) -> str:
        # Beside what the type says, because nothing says which of two tests is made first.
        return f"CASE WHEN {self.alias}.type = 'object' THEN {self.alias}.value ELSE '{{}}' END"

    def expression(self) -> str:
        return self.query.dialect.value.format(self.column, self.path)

    def kind(self) -> str:
        return self.query.dialect.kind.format(self.column, self.path)

    def computed(self, text: str) -> str:
        return text

    def direct(self) -> Operand:
        return self


class Element(NamedTuple):
    """One item of a list of scalars; `alias` is the list as a table."""

    query: Query
    alias: str

    @property
    def column(self) -> str:
        return f"{self.alias}.value"

    @property
    def path(self) -> str:
        return self.query.path()

    def expression(self) -> str:
        return f"{self.alias}.value"

    def kind(self) -> str:
        return f"{self.alias}.type"

    def computed(self, text: str) -> str:
        return text

    def direct(self) -> Operand:
        return self
