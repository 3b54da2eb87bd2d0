"""The SQL text of one rule while it is written: bound parameters, aggregates over events, values from JSON.

Rule constants, names and paths are always bound, never part of the text. What differs between databases is in Dialect.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from connector.clock import Millis


@dataclass(frozen=True, slots=True)
class Dialect:
    """The phrases that differ between databases, as templates.

    A JSON number sorts below every text, so `x < ''` is true of numbers only; booleans are 1 and 0.
    """

    value: str  # the scalar at a path of a JSON column; arrays and objects as text
    kind: str  # the JSON type at a path: text, integer, real, true, false, null, array, object
    path: str  # the path of one key
    items: str  # a table of the items at a path, with key, value and type
    fixed: str  # a number in 1/10,000, rounded half away from zero
    instant: str  # epoch milliseconds of a number of milliseconds or an ISO text, else NULL
    position: str  # 1-based position of a text in a text, 0 when absent
    fence: str  # keeps a subquery from being merged into its surroundings and computed again for each mention


SQLITE = Dialect(
    value="json_extract({0}, {1})",
    kind="json_type({0}, {1})",
    path='$."{0}"',
    items="json_each({0}, {1})",
    fixed="CASE WHEN {0} < '' THEN round({0} * 10000) END",
    instant=(
        "CASE WHEN {0} GLOB '[1-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'"
        " THEN CAST(round((julianday({0}) - 2440587.5) * 86400000) AS INTEGER)"
        " WHEN {0} BETWEEN -8.64e15 AND 8.64e15 THEN CAST({0} AS INTEGER) END"
    ),
    position="instr({0}, {1})",
    fence="LIMIT -1",
)


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

    def path(self, key: str) -> str:
        """The parameter that carries the path of a key."""
        return self.bind(self.dialect.path.format(key))

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
        """The scalar."""

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
        return self.query.bind("$")

    def expression(self) -> str:
        return f"{self.alias}.value"

    def kind(self) -> str:
        return f"{self.alias}.type"

    def computed(self, text: str) -> str:
        return text

    def direct(self) -> Operand:
        return self
