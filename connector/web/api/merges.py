"""People found to be one: why and when, and undone."""

from typing import Any

from marshmallow import Schema, fields, validate

from connector.errors import CannotMerge, CannotUnmerge
from connector.pipeline import Pipeline
from connector.profiles import journal
from connector.profiles.duplicates import store as duplicates
from connector.profiles.duplicates.likeness import WEIGHTS
from connector.reporting.pages import Page, Row, cut, decode
from connector.web import current
from connector.web.api.routes import Noun
from connector.web.api.shapes import LARGEST_ID, PageQuery, instant, page_of
from connector.web.problems import Refused

merges = Noun("merges", __name__, "People found to be one, why and when; and how to undo it.")


class MergeQuery(PageQuery):
    """Which part of the list of which merges."""

    profile_id = fields.Integer(validate=validate.Range(0, LARGEST_ID), metadata={"description": "On either side."})


class MergeAnswer(Schema):
    """Two people found to be one."""

    id = fields.Integer(required=True)
    at = instant(required=True)
    winner = fields.Integer(required=True, metadata={"description": "The profile that is left."})
    loser = fields.Integer(required=True, metadata={"description": "The profile that became part of it."})
    because = fields.String(required=True, metadata={"examples": ["both have email ada@example.com"]})
    source = fields.String(required=True, metadata={"examples": ["shop"]})
    delivery_id = fields.String(required=True, metadata={"description": "The delivery that showed it."})
    state = fields.String(required=True, validate=validate.OneOf(["merged", "undone"]))
    undone_at = instant(required=True)
    moved = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        required=True,
        metadata={"examples": [{"events": 4, "orders": 1}]},
    )


class UnmergedAnswer(Schema):
    """Two people again."""

    profiles = fields.List(fields.Integer(), required=True)


@merges.endpoint("GET", "/merges", query=MergeQuery, answers=page_of(MergeAnswer, "MergePage"))
def list_merges(query: dict[str, Any]) -> Page:
    """Merges, newest first."""
    before = None if query.get("cursor") is None else int(decode(query["cursor"], int)[0])
    with current.services().database.read() as connection:
        rows = journal.merges(connection, profile_id=query.get("profile_id"), before=before, limit=query["limit"] + 1)
    return cut(rows, query["limit"], lambda row: (row["id"],))


@merges.endpoint("POST", f"/merges/<int(max={LARGEST_ID}):merge_id>/undo", answers=UnmergedAnswer, refuses=(409,))
def undo_merge(merge_id: int) -> Row:
    """Make two people of one again. What each had before the merge is theirs, and no delivery merges them anew.

    Events that came since without an order of the one who leaves stay with the other. No flow starts by it.
    """
    services = current.services()
    pipeline = Pipeline(services.configuration(), services.ruleset(), services.source_kinds)
    try:
        with services.database.tx() as tx:
            return {"profiles": sorted(pipeline.unmerge(tx, merge_id, current.now()))}
    except CannotUnmerge as error:
        raise Refused(409, error.message) from None


class DuplicateAnswer(Schema):
    """Two profiles that may be one person."""

    low = fields.Integer(required=True)
    high = fields.Integer(required=True)
    score = fields.Float(required=True, metadata={"description": "0 to 1.", "examples": [0.88]})
    because = fields.List(
        fields.String(validate=validate.OneOf(list(WEIGHTS))),
        required=True,
        metadata={"examples": [["phone", "place"]]},
    )
    at = instant("When they were found to be alike.", required=True)


class MergedAnswer(Schema):
    """The profile that is left of two."""

    profile = fields.Integer(required=True)


class DismissedAnswer(Schema):
    """Two people, from now on known to be two."""

    dismissed = fields.Boolean(required=True)


PAIR = f"/duplicates/<int(max={LARGEST_ID}):low>/<int(max={LARGEST_ID}):high>"


@merges.endpoint("GET", "/duplicates", query=PageQuery, answers=page_of(DuplicateAnswer, "DuplicatePage"))
def list_duplicates(query: dict[str, Any]) -> Page:
    """Pairs of profiles that may be one person, the likeliest first. They are never merged by themselves."""
    after = None
    if query.get("cursor") is not None:
        percent, low, high = decode(query["cursor"], int, int, int)
        after = (int(percent) / 100, int(low), int(high))
    with current.services().database.read() as connection:
        rows = duplicates.suspects(connection, after=after, limit=query["limit"] + 1)
    return cut(rows, query["limit"], lambda row: (round(row["score"] * 100), row["low"], row["high"]))


@merges.endpoint("POST", f"{PAIR}/merge", answers=MergedAnswer, refuses=(409,))
def merge_duplicates(low: int, high: int) -> Row:
    """Say that two profiles are one person. No flow starts by it; it can be undone."""
    services = current.services()
    pipeline = Pipeline(services.configuration(), services.ruleset(), services.source_kinds)
    try:
        with services.database.tx() as tx:
            return {"profile": pipeline.merge(tx, low, high, "somebody said so", current.now())}
    except CannotMerge as error:
        raise Refused(409, error.message) from None


@merges.endpoint("POST", f"{PAIR}/dismiss", answers=DismissedAnswer, refuses=(409,))
def dismiss_duplicates(low: int, high: int) -> Row:
    """Say that two profiles are two people: they are not shown again, and no delivery merges them."""
    with current.services().database.tx() as tx:
        if not duplicates.dismiss(tx, min(low, high), max(low, high)):
            raise Refused(409, f"{low} and {high} are not among the pairs that are open")
        journal.keep_apart(tx, low, high, current.now())
    return {"dismissed": True}
