"""The description of the API as files and as a page for people. Nothing here is a secret: no token is asked."""

from typing import Any

import orjson
from flask import Response, render_template, send_from_directory
from markupsafe import Markup, escape
from werkzeug.exceptions import NotFound

from connector.web.api.routes import Noun
from connector.web.problems import REASONS, not_found

pages = Noun("description", __name__, "This description itself.", prefix="")

_FOLDER = "web/static"  # below the package
_MAX_DEPTH = 6  # of an example; ours are flatter


@pages.endpoint("GET", "/openapi.yaml", answers={"type": "object"}, content_type="application/yaml")
def get_openapi_yaml() -> Response:
    """The description of every route as YAML."""
    from connector.web.openapi import text

    return Response(text(), content_type="application/yaml")


@pages.endpoint("GET", "/openapi.json", answers={"type": "object"})
def get_openapi_json() -> Response:
    """The description of every route as JSON."""
    from connector.web.openapi import document

    return Response(orjson.dumps(document()), content_type="application/json")


@pages.endpoint("GET", "/docs", answers={"type": "string"}, content_type="text/html")
def get_docs() -> str | Response:
    """The description of every route as a page."""
    from connector.web.openapi import document

    described = document()
    schemas = described["components"]["schemas"]
    page = render_template(
        "docs.html",
        document=described,
        groups=_groups(described),
        schemas=schemas,
        reasons=REASONS,
        example=lambda schema: _text(example(schema, schemas)),
        type_of=type_of,
        prose=prose,
        name_of=_name_of,
    )
    return Response(page, content_type="text/html; charset=utf-8")


@pages.endpoint("GET", "/", answers={"type": "string"}, content_type="text/html")
def get_start() -> str | Response:
    """The same page, for whoever knows the address only."""
    return get_docs()


@pages.endpoint("GET", "/static/<path:filename>", answers={"type": "string"}, content_type="text/css", refuses=(404,))
def get_static(filename: str) -> Response:
    """The style sheet of the pages."""
    try:
        return send_from_directory(_FOLDER, filename, max_age=3600)
    except (NotFound, ValueError):
        raise not_found("file") from None


def prose(text: str) -> Markup:
    """A description as HTML: escaped, with what stands in backticks as code."""
    parts = (escape(part) for part in text.split("`"))
    return Markup("").join(
        part if index % 2 == 0 else Markup("<code>{}</code>").format(part) for index, part in enumerate(parts)
    )


def example(schema: dict[str, Any], schemas: dict[str, Any], depth: int = 0) -> Any:
    """A value that a schema describes: what is required, and what has an example."""
    if "$ref" in schema:
        return example(schemas[_name_of(schema)], schemas, depth)
    if schema.get("examples"):
        return schema["examples"][0]
    for known in ("const", "default"):
        if known in schema:
            return schema[known]
    if "enum" in schema:
        return schema["enum"][0]
    for union in ("anyOf", "allOf", "oneOf"):
        if union in schema:
            return example(schema[union][0], schemas, depth)
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "array":
        return [example(schema["items"], schemas, depth + 1)] if depth < _MAX_DEPTH else []
    if kind == "object":
        shown = schema.get("required", ())
        return {
            name: example(one, schemas, depth + 1)
            for name, one in schema.get("properties", {}).items()
            if name in shown or one.get("examples")
        }
    return _PLAIN[kind]


_PLAIN = {"string": "", "integer": 0, "number": 0.0, "boolean": False, "null": None}


def type_of(schema: dict[str, Any]) -> str:
    """The type of a schema in a few words."""
    if "$ref" in schema:
        return _name_of(schema)
    for union in ("anyOf", "allOf", "oneOf"):
        if union in schema:
            return " or ".join(type_of(one) for one in schema[union])
    kind = schema.get("type", "any value")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return f"list of {type_of(schema['items'])}"
    words = [str(schema.get("format", kind))]
    if "enum" in schema:
        words = [" | ".join(str(value) for value in schema["enum"] if value is not None)]
    if "minimum" in schema and "maximum" in schema and schema["maximum"] < 2**53:
        words.append(f"{schema['minimum']} to {schema['maximum']}")
    return ", ".join(words)


def _name_of(schema: dict[str, Any]) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _groups(described: dict[str, Any]) -> list[dict[str, Any]]:
    """The operations by tag, in the order of the tags."""
    groups = {tag["name"]: {**tag, "operations": []} for tag in described["tags"]}
    for path, operations in described["paths"].items():
        shared = operations.get("parameters", [])
        for method, operation in operations.items():
            if isinstance(operation, dict):
                parameters = [*shared, *operation.get("parameters", [])]
                found = {**operation, "method": method.upper(), "path": path, "parameters": parameters}
                groups[operation["tags"][0]]["operations"].append(found)
    return list(groups.values())


def _text(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
