"""The configuration as code, over HTTP: the objects of storecue.yaml as JSON."""

from typing import Any

from flask import request
from marshmallow import INCLUDE, Schema, fields, validate

from connector.config import store
from connector.config.export import to_yaml
from connector.config.plan import ConfigChange
from connector.config.schema import configuration_from
from connector.config.yaml_file import parse
from connector.domain import Configuration
from connector.reporting.pages import Row
from connector.web import current
from connector.web.api.routes import Noun

configuration = Noun("configuration", __name__, "Everything configured, as in storecue.yaml.")

_OBJECT = {"type": "object", "additionalProperties": {"type": "object"}}


def _section(example: dict[str, Any]) -> fields.Raw:
    return fields.Raw(metadata={**_OBJECT, "examples": [example]})


class ConfigurationFile(Schema):
    """What storecue.yaml says. Secrets are references (`env:NAME`, `file:PATH`) or encrypted values (`enc:...`); one
    that is sent in the clear is kept encrypted."""

    class Meta:
        unknown = INCLUDE  # the configuration's own check says what would be right

    version = fields.Raw(required=True, metadata={"const": 1})
    store = fields.Raw(
        metadata={
            "type": "object",
            "examples": [{"name": "Aurora Outfitters", "timezone": "Europe/Paris", "currency": "EUR"}],
        }
    )
    sources = _section({"shop": {"kind": "shopify", "secrets": ["env:SHOPIFY_SECRET"]}})
    destinations = _section({"klaviyo": {"kind": "klaviyo", "credentials": {"api_key": "env:KLAVIYO_KEY"}}})
    fields_ = fields.Raw(
        data_key="fields", metadata={**_OBJECT, "examples": [{"total_spent": {"from": "traits.total_spent"}}]}
    )
    segments = _section({"vip": {"name": "VIP", "when": {"trait": "total_spent", ">=": 1000}}})


class ValueChangeAnswer(Schema):
    """One value before and after. Secrets are masked."""

    name = fields.String(required=True, metadata={"examples": ["credentials.api_key"]})
    old = fields.Raw(required=True, allow_none=True)
    new = fields.Raw(required=True, allow_none=True)


class ConfigChangeAnswer(Schema):
    """One object that differs."""

    action = fields.String(required=True, validate=validate.OneOf(["create", "update", "delete", "reorder"]))
    kind = fields.String(required=True, metadata={"examples": ["segment"]})
    name = fields.String(required=True, metadata={"examples": ["vip"]})
    values = fields.List(fields.Nested(ValueChangeAnswer), required=True)


class PlanAnswer(Schema):
    """The differences, kind by kind."""

    changes = fields.List(fields.Nested(ConfigChangeAnswer), required=True)


@configuration.endpoint("GET", "/configuration", answers=ConfigurationFile)
def get_configuration() -> Row:
    """The configuration in force; sent back unchanged, it changes nothing."""
    return _exported(current.services().configuration())


@configuration.endpoint("PUT", "/configuration", body=ConfigurationFile, answers=PlanAnswer)
def put_configuration(_body: dict[str, Any]) -> Row:
    """Make this the configuration in force, all of it or nothing. Answers with what was changed."""
    services = current.services()
    return _plan(store.apply(services.database, services.vault, _read(), current.now()))


@configuration.endpoint("POST", "/configuration/plan", body=ConfigurationFile, answers=PlanAnswer)
def plan_configuration(_body: dict[str, Any]) -> Row:
    """What putting this configuration would change. Changes nothing."""
    services = current.services()
    return _plan(store.plan(services.database, services.vault, _read()))


def _read() -> Configuration:
    """The configuration in the body, which is JSON, as the schema found. JSON is YAML: the file's own reader
    says where something is wrong, and bounds depth and size."""
    return configuration_from(parse(request.get_data(), origin="configuration"))


def _exported(configured: Configuration) -> Row:
    written: Row = dict(parse(to_yaml(configured)).value)
    if "fields" in written:
        written["fields_"] = written.pop("fields")
    return written


def _plan(changes: list[ConfigChange]) -> Row:
    return {"changes": changes}
