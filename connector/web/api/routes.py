"""How a route of the API is declared: its parameters, its body and its answer as schemas, so that it is described,
checked and tested from one place."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar

import flask_smorest
import marshmallow
import orjson
from flask import Request
from webargs.flaskparser import FlaskParser

from connector.web.problems import Refused

View = TypeVar("View", bound=Callable[..., Any])


class Parser(FlaskParser):
    """webargs with orjson, which refuses NaN, 1e400, lone surrogates and deep nesting, and with our problems."""

    DEFAULT_UNKNOWN_BY_LOCATION = {"query": marshmallow.RAISE, "json": None}  # noqa: RUF012 (webargs' own type)

    def _raw_load_json(self, req: Request) -> Any:
        if req.content_encoding:
            raise Refused(415, "the body is compressed; send it as it is")
        body = req.get_data(cache=True)
        if not body:
            return marshmallow.missing
        if not req.is_json:
            raise Refused(415, "send the body as application/json")
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise Refused(400, f"the body is not JSON: {error}") from None

    def handle_error(
        self,
        error: marshmallow.ValidationError,
        req: Request,
        schema: marshmallow.Schema,
        *,
        error_status_code: int | None,
        error_headers: Mapping[str, str] | None,
    ) -> NoReturn:
        errors = [
            {"pointer": pointer, "detail": detail}
            for location, messages in _by_location(error).items()
            for pointer, detail in _faults(messages, "" if location == "json" else location)
        ]
        raise Refused(422, errors[0]["detail"] if len(errors) == 1 else f"{len(errors)} faults", errors=errors)


class Noun(flask_smorest.Blueprint):  # type: ignore[misc]  # flask-smorest has no types
    """The routes of one noun. Its name is the tag in openapi.yaml."""

    ARGUMENTS_PARSER = Parser()

    def __init__(self, name: str, module: str, description: str, *, prefix: str = "/api/v1") -> None:
        super().__init__(name, module, url_prefix=prefix or None, description=description)
        self._protected = prefix.startswith("/api/")

    def endpoint(
        self,
        method: str,
        rule: str,
        *,
        answers: type[marshmallow.Schema] | Mapping[str, Any],
        query: type[marshmallow.Schema] | None = None,
        body: type[marshmallow.Schema] | None = None,
        status: int = 200,
        content_type: str | None = None,
        takes: str | None = None,
        also: Mapping[int, type[marshmallow.Schema]] = MappingProxyType({}),
        refuses: tuple[int, ...] = (),
    ) -> Callable[[View], View]:
        """A decorator for the view of `method` and `rule`, called with the loaded query, then the loaded body, then the
        path's parts by name.

        `takes` is the type of a body that the view reads itself; `also` are further answers by status; `refuses` are
        the problems that callers should expect (401 is added where a token is needed).
        """

        def declare(view: View) -> View:
            wrapped = self.response(status, answers, content_type=content_type)(view)
            for code, schema in also.items():
                wrapped = self.alt_response(code, schema=schema)(wrapped)
            for code in {*refuses, *((401,) if self._protected else ())}:
                wrapped = self.alt_response(code, response=HTTPStatus(code).name)(wrapped)
            if body is not None:
                wrapped = self.arguments(body)(wrapped)
            if query is not None:
                wrapped = self.arguments(query, location="query")(wrapped)
            if takes is not None:
                wrapped = self.doc(requestBody={"required": True, "content": {takes: {"schema": {}}}})(wrapped)
            wrapped = self.doc(operationId=view.__name__)(wrapped)
            # Without Flask's own OPTIONS: the first route of a rule would answer what another one is there for.
            # flask-smorest 0.47 swallows the argument of that name, so Flask is told by the view itself.
            if not self._protected:
                wrapped.provide_automatic_options = False
            self.add_url_rule(rule, view.__name__, wrapped, methods=[method])
            return view

        return declare


def _by_location(error: marshmallow.ValidationError) -> dict[str, Any]:
    messages: dict[str, Any] = error.normalized_messages()  # type: ignore[no-untyped-call]
    return messages


def _faults(messages: Any, pointer: str) -> list[tuple[str, str]]:
    """Each message of marshmallow's nested errors with the JSON pointer of its place."""
    if isinstance(messages, dict):
        return [
            fault
            for name, inner in messages.items()
            for fault in _faults(inner, pointer if name == "_schema" else f"{pointer}/{_escaped(name)}")
        ]
    if isinstance(messages, list):
        return [fault for inner in messages for fault in _faults(inner, pointer)]
    return [(pointer, str(messages))]


def _escaped(name: object) -> str:
    return str(name).replace("~", "~0").replace("/", "~1")
