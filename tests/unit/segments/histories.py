"""Random rules, and random people to try them on, out of a vocabulary so small that things coincide."""

from dataclasses import dataclass, field
from typing import Any

import orjson
from hypothesis import strategies as st
from sqlalchemy import Connection, insert, text

from connector.clock import MINUTE, Millis, isoformat
from connector.domain import Facts, StoredEvent
from connector.storage.tables import event, profile

START: Millis = 1_790_000_040_000  # on a whole minute; every instant here is START plus some minutes
NOW: Millis = START + 30 * MINUTE
NAMES = ("Product Viewed", "Checkout Started", "Order Completed")
LONGEST = 25  # minutes of the longest window

minutes = st.integers(0, 45)  # 15 of them after NOW
durations = st.integers(1, LONGEST).map(lambda n: f"{n}m")
numbers = st.sampled_from([0, 1, 2, 3, 19.99, 20, 0.1, 0.3, -5, 1e-7, 632910392, 632910392000000123])
scalars = st.one_of(numbers, st.sampled_from(["a", "b", "20", "[1]", "", "Ünï 'quoted' %", "632910392"]), st.booleans())
anything = st.one_of(scalars, scalars, st.none(), st.lists(scalars, max_size=2), st.just({"k": 1}))
dates = st.one_of(
    minutes.map(lambda n: START + n * MINUTE),
    minutes.map(lambda n: isoformat(START + n * MINUTE)),
    st.sampled_from(["2026-09-21", "2026-09-21T14:30:00+02:00", "2026-02-30", "20260921", "soon", True]),
)
constants = scalars.filter(lambda value: value != "")


@dataclass
class Person:
    """One person's history."""

    traits: dict[str, Any]
    consent: dict[str, Any]
    events: list[tuple[str, Millis, dict[str, Any]]] = field(default_factory=list)

    def facts(self) -> Facts:
        by_name: dict[str, list[StoredEvent]] = {}
        for name, at, properties in sorted(self.events, key=lambda each: each[1]):
            by_name.setdefault(name, []).append(StoredEvent(at, day_of(at), properties))
        states = {channel: given["state"] for channel, given in self.consent.items()}
        return Facts(self.traits, states, by_name)


def day_of(at: Millis) -> int:
    """Days of five minutes each, so that several fit in a history."""
    return 20_000 + (at - START) // (5 * MINUTE)


@st.composite
def people(draw: st.DrawFn) -> Person:
    traits = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "score": anything,
                "tags": st.one_of(anything, st.lists(constants, max_size=3)),
                "seen_at": st.one_of(dates, anything),
            },
        )
    )
    consent = draw(
        st.dictionaries(
            st.sampled_from(["email", "sms"]),
            st.fixed_dictionaries({"state": st.sampled_from(["subscribed", "pending", "unsubscribed"])}),
        )
    )
    values = {"total": anything, "token": st.one_of(st.sampled_from(["a", "b", 1, None]), anything), "seen_at": dates}
    product = st.one_of(st.fixed_dictionaries({}, optional={"total": anything, "token": anything}), scalars)
    properties = st.fixed_dictionaries(
        {}, optional=values | {"products": st.one_of(st.lists(product, max_size=2), anything)}
    )
    events = draw(
        st.lists(st.tuples(st.sampled_from(NAMES), minutes.map(lambda n: START + n * MINUTE), properties), max_size=7)
    )
    return Person(traits, consent, sorted(events, key=lambda each: each[1]))


# --- rules ------------------------------------------------------------------------------------------------------------

comparisons = st.one_of(
    st.fixed_dictionaries({"=": constants}),
    st.fixed_dictionaries({"!=": constants}),
    st.fixed_dictionaries({"in": st.lists(constants, min_size=1, max_size=3)}),
    st.fixed_dictionaries({"contains": constants}),
    st.fixed_dictionaries({"exists": st.booleans()}),
    st.dictionaries(st.sampled_from(["<", "<=", ">", ">="]), numbers, min_size=1, max_size=2),
    st.dictionaries(
        st.sampled_from(["before", "after"]), minutes.map(lambda n: isoformat(START + n * MINUTE)), min_size=1
    ),
)
ago = st.dictionaries(st.sampled_from(["before", "after"]), durations, min_size=1, max_size=2)
where = st.dictionaries(
    st.sampled_from(["total", "token"]),
    st.one_of(constants, st.lists(constants, min_size=1, max_size=2), comparisons),
    min_size=1,
)
numeric = st.dictionaries(st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), numbers, min_size=1, max_size=2)
counted = st.dictionaries(st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), st.integers(0, 4), min_size=1, max_size=2)
of = st.fixed_dictionaries({"of": st.sampled_from(["total", "token"])})


def _joined(*parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(*parts).map(lambda dicts: {key: value for each in dicts for key, value in each.items()})


def _maybe(key: str, value: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={key: value})


traits = _joined(
    st.fixed_dictionaries({"trait": st.sampled_from(["score", "tags", "seen_at"])}), st.one_of(comparisons, ago)
)
consents = _joined(
    st.fixed_dictionaries({"consent": st.sampled_from(["email", "sms"])}),
    st.one_of(st.just({}), st.just({"!=": "unsubscribed"}), st.just({"in": ["pending", "unsubscribed"]})),
)
ends = _joined(
    _maybe("of", st.sampled_from(["seen_at", "total", "at"])),
    st.one_of(comparisons, ago, _joined(comparisons, ago)),
)
figures = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"count": _joined(counted, _maybe("distinct", st.sampled_from(["day", "token", "total"])))}),
    st.sampled_from(["sum", "average", "min", "max"]).flatmap(
        lambda kind: st.fixed_dictionaries({kind: _joined(of, numeric)})
    ),
    st.sampled_from(["first", "last"]).flatmap(lambda kind: st.fixed_dictionaries({kind: ends})),
)
events = _joined(
    st.fixed_dictionaries({"event": st.sampled_from(NAMES)}),
    _maybe("where", where),
    _maybe("within", durations),
    figures,
)


def _valid(rule: dict[str, Any]) -> bool:
    waits = "within" not in rule or "after" not in rule or int(rule["after"][:-1]) < int(rule["within"][:-1])
    return waits and rule["event"] != rule["not_followed_by"]


abandonments = _joined(
    st.fixed_dictionaries({"event": st.sampled_from(NAMES), "not_followed_by": st.sampled_from(NAMES)}),
    _maybe("where", where),
    _maybe("same", st.sampled_from(["token", "total"])),
    _maybe("after", durations),
    _maybe("within", durations),
).filter(_valid)

atoms = st.one_of(traits, consents, events, events, events, abandonments)


def rules(leaves: st.SearchStrategy[dict[str, Any]] = atoms) -> st.SearchStrategy[dict[str, Any]]:
    """Rules of any shape."""
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.fixed_dictionaries({"all": st.lists(inner, min_size=1, max_size=3)}),
            st.fixed_dictionaries({"any": st.lists(inner, min_size=1, max_size=3)}),
            st.fixed_dictionaries({"not": inner}),
        ),
        max_leaves=4,
    )


# --- the database ----------------------------------------------------------------------------------------------------


def store(connection: Connection, persons: list[Person]) -> None:
    """Replace what the database holds by these people, with ids from 1."""
    connection.rollback()  # PostgreSQL would refuse everything after an error in the example before
    for table in ("profile", "event", "membership", "refill"):
        connection.execute(text(f"DELETE FROM {table}"))
    for id, person in enumerate(persons, start=1):
        row = {"id": id, "traits": _json(person.traits), "consent": _json(person.consent), "created_at": 0}
        connection.execute(insert(profile), [row | {"updated_at": 0}])
        rows = [
            {
                "profile_id": id,
                "at": at,
                "id": f"{id}-{number:03}",
                "name": name,
                "day": day_of(at),
                "properties": _json(properties),
                "source": "test",
            }
            for number, (name, at, properties) in enumerate(person.events)
        ]
        if rows:
            connection.execute(insert(event), rows)


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
