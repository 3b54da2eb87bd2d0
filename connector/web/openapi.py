"""openapi.yaml, from the routes themselves. `python -m connector.web.openapi` writes it."""

import functools
from copy import deepcopy
from http import HTTPStatus
from pathlib import Path
from typing import Any

import flask_smorest
import yaml
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask

from connector.web import pages, snippet, tracking, webhooks
from connector.web.api import NOUNS
from connector.web.api.shapes import Instant
from connector.web.health import health
from connector.web.problems import CONTENT_TYPE, Problem

VERSION = "1"
"""Of the API, as in /api/v1: a change that breaks callers is a new one."""

_ABOUT = """\
StoreCue turns what happens in a shop into cues for the e-mail platform. This is its REST API.

Every route under /api/v1 needs `Authorization: Bearer <token>`: STORECUE_API_TOKEN, or a token made by
`storecue token create`. Instants are RFC 3339 in UTC. Lists come in pages: send `next` as `cursor` to read on.
Errors are application/problem+json with a `reason` for programs; /docs lists the reasons.
"""
_SECURITY = "token"
_REFUSALS = (400, 401, 404, 405, 409, 413, 415, 422, 502, 503)
_ORDER = ("openapi", "info", "security", "tags", "paths", "components")
_PART_ORDER = ("operationId", "tags", "summary", "description", "security", "parameters", "requestBody", "responses")
_ALL = (*NOUNS, webhooks.blueprint, tracking.blueprint, snippet.snippet, health, pages.pages)


class _Api(flask_smorest.Api):  # type: ignore[misc]  # flask-smorest has no types
    """flask-smorest with our problems for errors."""

    ERROR_SCHEMA = Problem

    def _register_responses(self) -> None:
        content = {CONTENT_TYPE: {"schema": Problem}}
        for status in map(HTTPStatus, _REFUSALS):
            response = {"description": status.phrase, "content": content}
            self.spec.components.response(status.name, deepcopy(response), lazy=True)
        default = {"description": "A problem", "content": content}
        self.spec.components.response(self.DEFAULT_ERROR_RESPONSE_NAME, default, lazy=True)

    def _register_pagination_header(self) -> None:
        """None: our pages carry their cursor in the body."""

    def _register_error_handlers(self) -> None:
        """None: web.problems answers every error."""


def register(app: Flask) -> None:
    """Give `app` its routes. Describing them costs 4 MB and 60 ms: that waits until somebody asks."""
    for noun in _ALL:
        app.register_blueprint(noun)


@functools.cache
def document() -> dict[str, Any]:
    """The OpenAPI document: plain JSON values, sorted as they are written."""
    app = Flask(__name__, static_folder=None)
    app.config |= {"API_TITLE": "StoreCue", "API_VERSION": VERSION, "OPENAPI_VERSION": "3.1.0"}
    api = _Api(spec_kwargs={"marshmallow_plugin": MarshmallowPlugin(schema_name_resolver=_schema_name)})
    api.register_field(Instant, "string", "date-time")
    api.init_app(app)
    for noun in _ALL:
        api.register_blueprint(noun)
    found: dict[str, Any] = api.spec.to_dict()
    found["info"]["description"] = _ABOUT
    found["info"]["license"] = {"name": "Apache-2.0", "identifier": "Apache-2.0"}
    found["security"] = [{_SECURITY: []}]
    found["components"]["securitySchemes"] = {_SECURITY: {"type": "http", "scheme": "bearer"}}
    found["paths"] = {
        path: {name: _ordered(path, part) for name, part in operations.items()}
        for path, operations in sorted(found["paths"].items())
    }
    found["components"] = {kind: dict(sorted(named.items())) for kind, named in sorted(found["components"].items())}
    return {name: found[name] for name in _ORDER}


def _ordered(path: str, part: Any) -> Any:
    """An operation with its parts in the order in which people read; only the API asks for a token."""
    if not isinstance(part, dict):
        return part
    responses = {str(status): answer for status, answer in part["responses"].items()}
    part = {**part, "responses": dict(sorted(responses.items()))}
    if not path.startswith("/api/"):
        part["security"] = []
    return {name: part[name] for name in _PART_ORDER if name in part}


def text() -> str:
    """The document as YAML."""
    written: str = yaml.dump(
        document(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110, default_flow_style=False
    )
    return written


class _Dumper(yaml.SafeDumper):
    """Writes no aliases, and long texts as blocks."""

    def ignore_aliases(self, data: object) -> bool:
        return True


_Dumper.add_representer(
    str,
    lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:str", value, "|" if "\n" in value else None),
)


def _schema_name(schema: Any) -> str:
    name: str = (schema if isinstance(schema, type) else type(schema)).__name__
    return name.removesuffix("Answer")


def main() -> None:
    """Write openapi.yaml at the top of the repository."""
    Path("openapi.yaml").write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
