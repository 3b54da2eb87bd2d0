"""A compiled rule as one SQL statement over a range of profiles: the set-based twin of `check`.

Shape, from the inside out:
  l  one line per person from the spine (see below), with all figures over events in one pass of the clustered table;
  t  values of traits and consent, each read once (only where the rule has some);
  v  the signed answer (see `condition`);
and around it the answer as matched and recheck_at, without people for whom nothing can change.

The spine is the narrowest table that has everybody the rule can concern: a segment it demands, the profiles with the
traits and consent it demands, those few with an event it demands, the events it demands, or, for rules such as "has
not bought", all profiles.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from connector.clock import Millis
from connector.segments.condition import NEVER, Anchors, Condition
from connector.segments.query import SQLITE, Aggregate, Dialect, Query, Rows


class Statement(NamedTuple):
    """A SELECT of (profile_id, matched, recheck_at), and its parameters. Bind `lo` and `hi` as well: the range is
    > lo and <= hi. Rows have matched = 1 or an instant to look again, which is later than `now` and never later than
    the exact one."""

    text: str
    params: dict[str, Any]


def statement(condition: Condition, now: Millis, dialect: Dialect = SQLITE) -> Statement:
    """The statement for one rule at an instant. It reads `membership` for the segments that the rule refers to."""
    query = Query(now, dialect)
    anchors = _usable(condition.anchors(matched=False))
    if anchors and anchors.segments:
        (query.spine_segment,) = anchors.segments
    answer = condition.sql(query)
    demands = () if query.spine_segment else condition.demands(query)
    seldom = condition.seldom(query) if anchors and anchors.events and not demands else None
    spine = _spine(query, anchors, demands, seldom)
    all_profiles = anchors is None or bool(demands)
    if query.lifted:
        columns = ["l.*", *(f"{text} AS t{i}" for i, text in enumerate(query.lifted))]
        person = "" if all_profiles else f" {dialect.join} profile p ON p.id = l.id"
        spine = f"SELECT {', '.join(columns)} FROM ({spine}) AS l{person} {dialect.fence}"
    newest = "l.newest" if query.aggregates else "NULL"
    signed = f"SELECT l.id AS id, {answer} AS signed, {newest} AS newest FROM ({spine}) AS l {dialect.fence}"
    never, at, soon = query.bind(NEVER), query.bind(now), query.bind(now + 1)
    # Events dated in the future are rare, so they only make the clock look again at once, by `check`.
    coming = f"v.newest > {at}" if query.aggregates else "FALSE"
    alive = "" if all_profiles else f" {dialect.join} profile p ON p.id = v.id"
    merged = "" if all_profiles else " AND p.merged_into IS NULL"
    text = (
        f"SELECT v.id AS profile_id, CASE WHEN v.signed > 0 THEN 1 ELSE 0 END AS matched,"
        f" CASE WHEN {coming} THEN {soon} WHEN abs(v.signed) < {never} THEN abs(v.signed) END AS recheck_at"
        f" FROM ({signed}) AS v{alive} WHERE (v.signed > -{never} OR {coming}){merged}"
    )
    return Statement(text, query.params)


def _usable(anchors: Anchors | None) -> Anchors | None:
    """Anchors that one table can give: events of some names, or one segment."""
    if anchors is None or (anchors.segments and (anchors.events or len(anchors.segments) > 1)):
        return None
    return anchors


def _spine(query: Query, anchors: Anchors | None, demands: Sequence[str], seldom: str | None) -> str:
    """The innermost SELECT: id, the figures, `newest` (the latest event of any kind the rule is about)."""
    rows = list(dict.fromkeys(aggregate.rows for aggregate in query.aggregates))
    figures = [f"{_figure(query, aggregate, len(rows) == 1)} AS a{i}" for i, aggregate in enumerate(query.aggregates)]
    figures += ["max(e.at) AS newest"] if figures else []
    meant = _meant(query, rows)
    if seldom is not None and len(rows) > 1:
        few = f"SELECT DISTINCT e.profile_id FROM event e WHERE e.profile_id > :lo AND e.profile_id <= :hi AND {seldom}"
        joined = f"({few}) AS s {query.dialect.join} event e ON e.profile_id = s.profile_id AND {meant}"
        return f"SELECT {', '.join(['s.profile_id AS id', *figures])} FROM {joined} GROUP BY s.profile_id"
    if anchors is not None and anchors.events and not demands:
        columns = ["e.profile_id AS id", *figures]
        where = f"e.profile_id > :lo AND e.profile_id <= :hi AND {meant}"
        return f"SELECT {', '.join(columns)} FROM event e WHERE {where} GROUP BY e.profile_id"
    if query.spine_segment is not None:
        segment = query.bind(query.spine_segment)
        columns = ["s.profile_id AS id", "s.matched AS matched", "s.recheck_at AS recheck_at", *figures]
        source, key, group = "membership s", "s.profile_id", "s.segment, s.profile_id"
        where = f"s.segment = {segment} AND s.profile_id > :lo AND s.profile_id <= :hi"
    else:
        columns = ["s.id AS id", "s.traits AS traits", "s.consent AS consent", *figures]
        source, key, group = "profile s", "s.id", "s.id"
        where = " AND ".join(("s.id > :lo AND s.id <= :hi AND s.merged_into IS NULL", *demands))
    if not figures:
        return f"SELECT {', '.join(columns)} FROM {source} WHERE {where}"
    # The join keeps the people outside and their events, side by side in the table, inside.
    join = query.dialect.join if anchors is not None and anchors.events else "LEFT JOIN"
    joined = f"{source} {join} event e ON e.profile_id = {key} AND {meant}"
    return f"SELECT {', '.join(columns)} FROM {joined} WHERE {where} GROUP BY {group}"


def _meant(query: Query, rows: list[Rows]) -> str:
    """The test of an event that any figure may need."""
    names = sorted({row.name for row in rows})
    tests = [f"e.name IN {query.binds(names)}" if len(names) != 1 else f"e.name = {query.bind(names[0])}"]
    floor = _common_floor(query)
    if floor is not None:
        tests.append(f"e.at > {query.bind(floor)}")
    if len(rows) == 1 and rows[0].test:
        tests.append(rows[0].test)
    return " AND ".join(tests)


def _common_floor(query: Query) -> Millis | None:
    """The start of the longest window, None when some figure has no window."""
    floors = [aggregate.floor for aggregate in query.aggregates]
    return None if None in floors else min((floor for floor in floors if floor is not None), default=None)


def _figure(query: Query, aggregate: Aggregate, alone: bool) -> str:
    """One aggregate; what the surrounding WHERE has already tested is not tested again."""
    tests = [] if alone else [f"e.name = {query.bind(aggregate.rows.name)}"]
    if aggregate.floor is not None and aggregate.floor != _common_floor(query):
        tests.append(f"e.at > {query.bind(aggregate.floor)}")
    # Someone without events is one line of nulls, which no figure may take for an event.
    tests.append("e.at IS NOT NULL" if aggregate.future else f"e.at <= {query.bind(query.now)}")
    if not alone and aggregate.rows.test:
        tests.append(aggregate.rows.test)
    # DISTINCT stands inside the parentheses of its function, and the CASE behind it.
    return aggregate.function.format(f"CASE WHEN {' AND '.join(tests)} THEN {aggregate.value} END")
