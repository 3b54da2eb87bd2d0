"""Trials: what a sample would mean to a source; nothing is kept."""

from marshmallow import Schema, fields

from connector.domain import Json, RawRequest
from connector.errors import DefinitionError
from connector.reporting.pages import Row
from connector.sources import SOURCES, configured
from connector.sources.trial import try_out
from connector.web import current
from connector.web.api.routes import Noun
from connector.web.problems import Refused, not_found

trials = Noun("trials", __name__, "What a request would mean; nothing is kept, and no signature is looked at.")


class SampleBody(Schema):
    """A request as its sender would make it."""

    body = fields.String(load_default="", metadata={"description": "The raw body, as text.", "examples": ['{"id": 7}']})
    headers = fields.Dict(keys=fields.String(), values=fields.String(), load_default=dict)
    query = fields.String(load_default="", metadata={"description": "What follows the ? of the address."})
    options = fields.Dict(
        keys=fields.String(),
        values=fields.Raw(),
        load_default=None,
        metadata={"description": "Options in place of those in force, such as a mapping that is being written."},
    )


class Trial(Schema):
    """One delivery of the sample: what it means, or why it would be refused. What does not apply is null."""

    topic = fields.String(required=True, allow_none=True, metadata={"examples": ["Order Completed"]})
    key = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "The customer key: equal keys are worked off in order."},
    )
    means = fields.Dict(keys=fields.String(), values=fields.Raw(), required=True, allow_none=True)
    refused = fields.Dict(keys=fields.String(), values=fields.String(), required=True, allow_none=True)
    greeting = fields.Dict(
        keys=fields.String(),
        values=fields.Raw(),
        required=True,
        allow_none=True,
        metadata={"description": "The answer to a request that only tries the address."},
    )


class TrialList(Schema):
    """What became of a sample, delivery by delivery."""

    items = fields.List(fields.Nested(Trial), required=True)


@trials.endpoint("POST", "/sources/<name>/try", answers=TrialList, body=SampleBody, refuses=(404, 422))
def try_source(sample: dict[str, Json], name: str) -> Row:
    """What a pasted sample would mean: its events, profile data and keys; or the reason why it would be refused."""
    configuration = current.services().configuration()
    config = configuration.sources.get(name)
    if config is None:
        raise not_found("source")
    options = config.options if sample["options"] is None else sample["options"]
    try:
        source = configured(SOURCES[config.kind], options)
    except DefinitionError as error:
        raise Refused(
            422, error.message, errors=[{"pointer": f"/options{error.pointer}", "detail": error.message}]
        ) from None
    headers = {key.lower(): value for key, value in sample["headers"].items()}
    path = f"/webhooks/{config.kind}/{name}"
    request = RawRequest("POST", path, headers, sample["body"].encode(), sample["query"], current.now())
    nothing = dict.fromkeys(Trial().fields)
    return {"items": [nothing | entry for entry in try_out(source, name, request, configuration.store)]}
