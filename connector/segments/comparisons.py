"""Comparisons of one JSON value with what a rule says: =, !=, <, <=, >, >=, in, contains, exists, before, after.

Each is a Python check and its SQL twin. Numbers are compared as rounded to 1/10,000, through bounds worked out once:
databases read decimals with their own last bit, and bounds half a unit away from any such number do not see it.
Booleans are the numbers 1 and 0. A whole number and its digits as a text are equal, for ids written either way.
`!=` and `exists: false` are the exact opposites of `=` and `exists: true`, so a missing value is `!=` to everything.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from connector.clock import Millis, parse_duration
from connector.domain import Json
from connector.segments.condition import NEVER, Signed
from connector.segments.query import Element, Operand, Query
from connector.segments.reading import Place, mapping, number

UNIT: Final = 10_000
_HALF: Final = 0.5 / UNIT
_WHOLE: Final = 1 << 31  # from here on whole numbers are ids: compared as they are
_EXACT: Final = float(1 << 52)
_LAST_INSTANT: Final = 8_640_000_000_000_000

NUMBERS: Final = frozenset({int, float, bool})
SCALARS: Final = frozenset({int, float, bool, str})


class Bounds(NamedTuple):
    """Both ends included."""

    low: float
    high: float
    inside: bool = True

    def holds(self, x: float) -> bool:
        return (self.low <= x <= self.high) is self.inside

    def sql(self, x: str, query: Query) -> str:
        return f"{x} {'' if self.inside else 'NOT '}BETWEEN {query.bind(self.low)} AND {query.bind(self.high)}"


def fixed(x: float) -> int:
    """A number in units of 1/10,000, rounded half away from zero: trunc(x * 10,000 ± 0.5), as SQL's round does."""
    y = x * UNIT
    if -_EXACT <= y <= _EXACT:
        return int(y + 0.5) if y >= 0 else int(y - 0.5)
    return int(y)


def bounds(operator: str, x: float, *, scaled: bool = False) -> Bounds:
    """The bounds that `operator x` means; `scaled` for figures that are in units of 1/10,000."""
    if scaled:
        middle, half = float(fixed(x)), 0.5
    elif abs(x) >= _WHOLE and x == int(x):
        return _whole_bounds(operator, int(x))
    else:
        middle, half = float(x), _HALF
    under, over = middle - half, middle + half
    below = math.nextafter(under, -math.inf), math.nextafter(over, -math.inf)
    return {
        "=": Bounds(under, below[1]),
        "!=": Bounds(under, below[1], False),
        "<": Bounds(-math.inf, below[0]),
        "<=": Bounds(-math.inf, below[1]),
        ">": Bounds(over, math.inf),
        ">=": Bounds(under, math.inf),
    }[operator]


def _whole_bounds(operator: str, x: int) -> Bounds:
    return {
        "=": Bounds(x, x),
        "!=": Bounds(x, x, False),
        "<": Bounds(-math.inf, x - 1),
        "<=": Bounds(-math.inf, x),
        ">": Bounds(x + 1, math.inf),
        ">=": Bounds(x, math.inf),
    }[operator]


# --- instants --------------------------------------------------------------------------------------------------------

_INSTANT = re.compile(
    r"([1-9]\d{3})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
    r"(?:[T ]([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d)(?:\.(\d{1,3}))?)?(?:Z|([+-])(0\d|1[0-4]):([0-5]\d))?)?",
    re.ASCII,
)


@lru_cache(maxsize=8192)
def _text_instant(text: str) -> Millis | None:
    match = _INSTANT.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, hours, minutes = match.groups()
    moment = datetime(int(year), int(month), 1, tzinfo=UTC) + timedelta(
        days=int(day) - 1, hours=int(hour or 0), minutes=int(minute or 0), seconds=int(second or 0)
    )
    offset = (int(hours) * 60 + int(minutes)) * (1 if sign == "+" else -1) if sign else 0
    return int(moment.timestamp()) * 1000 + int((fraction or "0").ljust(3, "0")) - offset * 60_000


def instant(value: Json) -> Millis | None:
    """Epoch milliseconds of a trait's value: a number of them, or an ISO date or time (UTC when without an offset)."""
    if type(value) in NUMBERS:
        return int(value) if -_LAST_INSTANT <= value <= _LAST_INSTANT else None
    return _text_instant(value) if isinstance(value, str) else None


def _constant_instant(place: Place, value: Json) -> Millis:
    """The instant a rule names; a date or time without an offset is the store's own."""
    if isinstance(value, datetime):  # YAML reads unquoted dates by itself
        moment = value
    elif hasattr(value, "isoformat"):
        moment = datetime.fromisoformat(value.isoformat())
    else:
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            raise place.wrong(
                f"{value!r} is neither a date, a time nor a duration: write such as 2026-11-20, 2026-11-20T08:00 or 30d"
            ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(place.store.timezone))
    return round(moment.timestamp() * 1000)


# --- comparisons that time does not change ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison. `sql` gives a boolean expression that may be NULL for false, except when `negative`."""

    words: str
    holds: Callable[[Json], bool]
    sql: Callable[[Operand], str]
    negative: bool = False


def _opposite(words: str, positive: Comparison) -> Comparison:
    holds, sql = positive.holds, positive.sql
    return Comparison(words, lambda x: not holds(x), lambda x: f"({sql(x)}) IS NOT TRUE", negative=True)


def _between(operator: str) -> Callable[[Place, Json], Comparison]:
    def read(place: Place, constant: Json) -> Comparison:
        if isinstance(constant, str):
            raise place.wrong(f"{operator} compares numbers: for dates use before or after")
        limits = bounds(operator, number(place, constant))
        low, high = limits.low, limits.high
        return Comparison(
            f"{operator} {constant}",
            lambda x: type(x) in NUMBERS and low <= x <= high,
            lambda x: limits.sql(_number(x), x.query),
        )

    return read


def _constant(place: Place, value: Json) -> list[int | str | Bounds]:
    """A scalar constant as what a value may be to equal it."""
    if isinstance(value, bool):
        return [int(value)]
    if isinstance(value, str):
        if "\0" in value:
            raise place.wrong("a text has no NUL character")
        whole = re.fullmatch(r"0|-?[1-9]\d{0,17}", value, re.ASCII)
        return [value, int(value)] if whole else [value]
    if isinstance(value, int | float):
        x = number(place, value)
        if x == int(x):
            if abs(x) >= 1 << 63:
                raise place.wrong(f"{value!r} is larger than any id")
            return [int(x), str(int(x))]
        return [bounds("=", x)]
    raise place.wrong(f"{value!r} is not a text, number or true/false" + (": use exists" if value is None else ""))


def _one_of(words: str, options: list[int | str | Bounds]) -> Comparison:
    exact = frozenset(option for option in options if not isinstance(option, Bounds))
    near = tuple(option for option in options if isinstance(option, Bounds))
    texts = tuple(option for option in exact if isinstance(option, str))
    ambiguous = any(text.startswith(("[", "{")) for text in texts)  # arrays and objects come out of SQL as such texts

    def holds(x: Json) -> bool:
        return type(x) in SCALARS and (
            x in exact or (bool(near) and type(x) is not str and any(option.holds(x) for option in near))
        )

    def sql(x: Operand) -> str:
        number, text = _number(x), _text(x)
        alike: dict[str, list[int | str]] = {}  # on SQLite one expression is both
        for option in sorted(exact, key=str):
            alike.setdefault(text if isinstance(option, str) else number, []).append(option)
        parts = [_is_one_of(value, options, x.query) for value, options in alike.items()]
        parts += [option.sql(number, x.query) for option in near]
        either = f"({' OR '.join(parts)})"
        return f"({either} AND {x.kind()} NOT IN ('array', 'object'))" if ambiguous else either

    return Comparison(words, holds, sql)


def _is_one_of(value: str, options: Sequence[int | str], query: Query) -> str:
    return f"{value} = {query.bind(options[0])}" if len(options) == 1 else f"{value} IN {query.binds(options)}"


def _number(x: Operand) -> str:
    return x.query.dialect.number.format(x.expression())


def _text(x: Operand) -> str:
    return x.query.dialect.text.format(x.expression())


def _equal(place: Place, constant: Json) -> Comparison:
    if isinstance(constant, list):
        raise place.wrong("= compares with one value: use in for a list")
    return _one_of(f"= {_shown(constant)}", _constant(place, constant))


def _differs(place: Place, constant: Json) -> Comparison:
    if isinstance(constant, list):
        raise place.wrong("!= compares with one value: use not with in for a list")
    return _opposite(f"!= {_shown(constant)}", _one_of("", _constant(place, constant)))


def _among(place: Place, constant: Json) -> Comparison:
    if not isinstance(constant, list) or not constant:
        raise place.wrong("in takes a list of values, such as [FR, BE]")
    options = [option for i, value in enumerate(constant) for option in _constant(place.at(i), value)]
    return _one_of(f"in {', '.join(_shown(value) for value in constant)}", options)


def _contains(place: Place, constant: Json) -> Comparison:
    """True of a list with an item equal to the constant, and of a text with the constant in it."""
    if constant == "":
        raise place.wrong("contains needs a text, such as vip")
    equal = _one_of("", _constant(place, constant))
    part = str(constant) if not isinstance(constant, bool) else ""

    def holds(x: Json) -> bool:
        if type(x) is list:
            return any(map(equal.holds, x))
        return type(x) is str and part != "" and part in x

    def sql(operand: Operand) -> str:
        query, x = operand.query, operand.direct()
        items = query.dialect.items.format(x.column, x.path)
        inside = equal.sql(Element(query, "i"))
        inside_text = f"{query.dialect.position.format(x.expression(), query.bind(part))} > 0" if part else "FALSE"
        return operand.computed(
            f"CASE {x.kind()} WHEN 'array' THEN EXISTS (SELECT 1 FROM {items} AS i WHERE {inside})"
            f" WHEN 'text' THEN {inside_text} ELSE FALSE END"
        )

    return Comparison(f"contains {_shown(constant)}", holds, sql)


def _exists(place: Place, constant: Json) -> Comparison:
    if not isinstance(constant, bool):
        raise place.wrong("exists is true or false")
    known = Comparison("is known", lambda x: x is not None, lambda x: f"{x.expression()} IS NOT NULL")
    return known if constant else _opposite("is not known", known)


def _dated(after: bool) -> Callable[[Place, Json], Comparison]:
    def read(place: Place, constant: Json) -> Comparison:
        at = _constant_instant(place, constant)

        def holds(x: Json) -> bool:
            then = instant(x)
            return then is not None and (then >= at) is after

        def sql(x: Operand) -> str:
            return f"({x.query.dialect.instant.format(x.expression())}) {'>=' if after else '<'} {x.query.bind(at)}"

        return Comparison(f"{'after' if after else 'before'} {constant}", holds, sql)

    return read


def _shown(constant: Json) -> str:
    return str(constant).lower() if isinstance(constant, bool) else str(constant)


OPERATORS: Final[dict[str, Callable[[Place, Json], Comparison]]] = {
    "=": _equal,
    "!=": _differs,
    "<": _between("<"),
    "<=": _between("<="),
    ">": _between(">"),
    ">=": _between(">="),
    "in": _among,
    "contains": _contains,
    "exists": _exists,
    "before": _dated(False),
    "after": _dated(True),
}


# --- comparisons that time changes -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ago:
    """`after: 30d` (less than that long ago) or its opposite `before: 30d` (at least that long ago)."""

    words: str
    length: Millis
    after: bool

    def signed(self, x: Json, now: Millis) -> Signed:
        then = instant(x)
        if then is None:
            return -NEVER
        turns = then + self.length
        if now < turns:
            return turns if self.after else -turns
        return -NEVER if self.after else NEVER

    def sql(self, x: Operand) -> str:
        query = x.query
        then = x.computed(query.dialect.instant.format(x.direct().expression()))
        turns = f"({then}) + {query.bind(self.length)}"
        never = query.bind(NEVER)
        soon, late = (turns, f"-{never}") if self.after else (f"-({turns})", never)
        now = query.bind(query.now)
        return f"CASE WHEN {turns} > {now} THEN {soon} WHEN {turns} IS NULL THEN -{never} ELSE {late} END"


@dataclass(frozen=True, slots=True)
class Comparisons:
    """What a rule says of one value: all of it must hold."""

    fixed: tuple[Comparison, ...]
    ago: tuple[Ago, ...]

    @property
    def words(self) -> str:
        return " and ".join([part.words for part in self.fixed] + [part.words for part in self.ago])

    def holds(self) -> Callable[[Json], bool]:
        """A check of the parts that time does not change."""
        checks = tuple(part.holds for part in self.fixed)
        if len(checks) == 1:
            return checks[0]
        return lambda x: all(check(x) for check in checks)

    def signed(self) -> Callable[[Json, Millis], Signed]:
        """A check of all parts."""
        holds, ago = self.holds(), self.ago

        def check(x: Json, now: Millis) -> Signed:
            if not holds(x):
                return -NEVER
            answer = min([part.signed(x, now) for part in ago], default=NEVER)
            turns = abs(answer)
            while len(ago) > 1 and turns < NEVER:  # one may turn at the instant at which another turns back
                later = min(part.signed(x, turns) for part in ago)
                if (later > 0) is not (answer > 0):
                    break
                turns = abs(later)
            return turns if answer > 0 else -turns

        return check

    def truth(self, x: Operand) -> str:
        """The SQL test of the parts that time does not change."""
        return " AND ".join(part.sql(x) for part in self.fixed)

    def sql(self, x: Operand) -> str:
        """The signed answer over a value."""
        never = x.query.bind(NEVER)
        parts = [part.sql(x) for part in self.ago]
        if self.fixed:
            parts.append(f"CASE WHEN {self.truth(x)} THEN {never} ELSE -{never} END")
        return parts[0] if len(parts) == 1 else f"{x.query.dialect.least}({', '.join(parts)})"


def comparisons(place: Place, rule: Mapping[str, Json], *, relative: bool = True) -> Comparisons:
    """The comparisons among the keys of `rule`; other keys are not looked at."""
    fixed_parts: list[Comparison] = []
    ago: list[Ago] = []
    for operator, constant in rule.items():
        if operator not in OPERATORS:
            continue
        length = _length(constant) if operator in ("before", "after") else None
        if length is None:
            fixed_parts.append(OPERATORS[operator](place.at(operator), constant))
        elif relative:
            words = f"less than {constant} ago" if operator == "after" else f"at least {constant} ago"
            ago.append(Ago(words, length, operator == "after"))
        else:
            raise place.at(operator).wrong("here it takes a date or time: for the last days of events use within")
    if not fixed_parts and not ago:
        raise place.wrong(f"say what to compare with, by one of: {', '.join(OPERATORS)}")
    return Comparisons(tuple(fixed_parts), tuple(ago))


def value_comparisons(place: Place, value: Json) -> Comparisons:
    """What `where` says of one property: a value, a list of values, or a mapping of operators."""
    if isinstance(value, Mapping):
        mapping(place, value, OPERATORS, "a comparison")
        return comparisons(place, value, relative=False)
    operator = "in" if isinstance(value, list) else "="
    return Comparisons((OPERATORS[operator](place, value),), ())


def _length(constant: Json) -> Millis | None:
    try:
        return parse_duration(constant) if isinstance(constant, str) else None
    except ValueError:
        return None
