"""What a request works with: the services, the clock and the measurements of the application that answers it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flask import Flask, current_app

from connector.clock import Millis

if TYPE_CHECKING:
    from connector.services import Services
    from connector.web.metrics import Metrics
    from connector.web.tracking import Tracker
    from connector.web.webhooks import Receiver

_NAME = "storecue"


@dataclass(frozen=True, slots=True)
class Current:
    """The parts of one application. `now` is the only clock that a view may ask."""

    services: "Services"
    now: Callable[[], Millis]
    metrics: "Metrics"
    receiver: "Receiver"
    tracker: "Tracker"


def attach(app: Flask, current: Current) -> None:
    """Give `app` its parts."""
    app.extensions[_NAME] = current


def of(app: Flask) -> Current:
    """The parts of `app`."""
    current: Current = app.extensions[_NAME]
    return current


def services() -> "Services":
    """The services of the application that answers this request."""
    return of(current_app).services


def now() -> Millis:
    """The instant of this request."""
    return of(current_app).now()


def metrics() -> "Metrics":
    """The measurements of this process."""
    return of(current_app).metrics


def tracker() -> "Tracker":
    """What takes in events."""
    return of(current_app).tracker


def receiver() -> "Receiver":
    """What takes in deliveries."""
    return of(current_app).receiver
