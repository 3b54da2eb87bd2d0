"""The application factory: web server's parts put together, for any WSGI server."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog
from flask import Flask, request
from werkzeug.exceptions import RequestEntityTooLarge

from connector import clock, logs
from connector.config.settings import Settings
from connector.web import auth, current, headers, openapi, problems
from connector.web.metrics import Metrics
from connector.web.tracking import Tracker
from connector.web.webhooks import Receiver

if TYPE_CHECKING:
    from connector.services import Services


def create_app(
    settings: Settings | None = None,
    services: "Services | None" = None,
    *,
    now: Callable[[], clock.Millis] = clock.now,
) -> Flask:
    """The Flask application. Without arguments the environment says where its data is, as for the command line.

    Call it in the process that serves, after any fork: it opens the database.
    """
    if services is None:
        from connector.services import Services

        settings = settings or Settings.from_environment()
        if not structlog.is_configured():  # an application server of one's own, instead of `storecue web`
            logs.configure(settings.log_level, settings.log_format, secrets=(settings.api_token or "",))
        services = Services(settings)
    app = Flask(__name__, static_folder=None, template_folder="web/templates")
    app.config["MAX_CONTENT_LENGTH"] = services.settings.max_body
    app.json.sort_keys = False  # type: ignore[attr-defined]  # of the default provider
    metrics = Metrics(services, now)
    current.attach(
        app, current.Current(services, now, metrics, Receiver(services, metrics, now), Tracker(services, metrics, now))
    )
    app.before_request(_refuse_announced)
    auth.install(app)
    app.before_request(_refuse_unannounced)
    headers.install(app, services.settings.public_url)
    problems.install(app)
    openapi.register(app)
    return app


def _refuse_announced() -> None:
    """413 from the announced length, before a byte is read."""
    limit = request.max_content_length
    if limit is not None and (request.content_length or 0) > limit:
        raise RequestEntityTooLarge(f"the body is larger than {limit} bytes")


def _refuse_unannounced() -> None:
    """413 once more than the limit has come: Werkzeug 3.1 would hand on the first part of it as if it were all."""
    limit = request.max_content_length
    if limit is not None and request.content_length is None:
        request.max_content_length = limit + 1
        if len(request.get_data()) > limit:
            raise RequestEntityTooLarge(f"the body is larger than {limit} bytes")
