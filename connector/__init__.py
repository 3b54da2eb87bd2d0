"""StoreCue decides: webhooks in, one profile per customer, segments, desired state, and the push to the vendors."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from connector.app import create_app

__all__ = ["create_app"]


def __getattr__(name: str) -> Any:
    """`connector.create_app`, imported when somebody asks: the worker and the command line need no web server."""
    if name == "create_app":
        from connector.app import create_app

        return create_app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
