"""openapi.yaml is the app: equal to what the routes say, complete, and valid."""

import re
from pathlib import Path

import pytest
import yaml
from flask import Flask
from jsonschema import Draft202012Validator
from openapi_schema_validator import OAS31Validator

from connector.web import openapi
from connector.web.pages import example

FILE = Path(__file__).parent.parent / "openapi.yaml"


@pytest.fixture(scope="module")
def document():
    return openapi.document()


def operations(document):
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if isinstance(operation, dict):
                yield method, path, operation


def references(value):
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_the_file_is_what_the_app_says():
    assert FILE.read_text(encoding="utf-8") == openapi.text(), "run: python -m connector.web.openapi"


def test_the_file_is_the_same_document(document):
    assert yaml.safe_load(FILE.read_text(encoding="utf-8")) == document


def test_every_route_is_described(document):
    app = Flask("connector.app", static_folder=None)
    openapi.register(app)
    routes = {
        (method.lower(), re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", *(["OPTIONS"] if rule.provide_automatic_options else [])}
    }
    assert routes == {(method, path) for method, path, _ in operations(document)}
    assert ("post", "/webhooks/{kind}/{source}") in routes
    assert ("get", "/healthz") in routes


def test_every_operation_has_a_name_a_summary_and_a_tag_of_its_own(document):
    found = [operation for *_, operation in operations(document)]
    names = [operation["operationId"] for operation in found]
    assert len(set(names)) == len(names)
    assert all(operation["summary"].endswith(".") for operation in found)
    assert {tag for operation in found for tag in operation["tags"]} == {tag["name"] for tag in document["tags"]}


def test_the_api_asks_for_a_token_and_nothing_else_does(document):
    assert document["security"] == [{"token": []}]
    for _, path, operation in operations(document):
        assert ("security" in operation) != path.startswith("/api/v1/"), path
        assert ("401" in operation["responses"]) or not path.startswith("/api/v1/"), path


def test_every_reference_leads_somewhere_and_every_schema_is_used(document):
    used = set(references(document))
    defined = {
        f"#/components/{kind}/{name}"
        for kind, members in document["components"].items()
        for name in members
        if kind != "securitySchemes"
    }
    assert used == defined


def test_every_schema_is_valid_and_its_example_fits_it(document):
    schemas = document["components"]["schemas"]
    for name, schema in schemas.items():
        Draft202012Validator.check_schema(schema)
        OAS31Validator.check_schema(schema)
        whole = {"components": {"schemas": schemas}, **schema}
        assert list(Draft202012Validator(whole).iter_errors(example(schema, schemas))) == [], name


def test_every_member_of_an_answer_is_promised(document):
    """What we always send is `required`, so that a generated client need not ask whether it is there."""
    optional = {"Problem", "Consent", "ConfigurationFile", "Trial"}
    for name, schema in document["components"]["schemas"].items():
        if name not in optional and not name.endswith(("Body", "Filter")):
            assert set(schema.get("required", ())) == set(schema["properties"]), name


def test_instants_are_date_times(document):
    for schema in document["components"]["schemas"].values():
        for member, one in schema["properties"].items():
            if member == "at" or member.endswith("_at"):
                assert one["format"] == "date-time", member
