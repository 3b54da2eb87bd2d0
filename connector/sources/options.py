"""The options that sources of more than one kind have."""

from collections.abc import Collection, Mapping

from connector.domain import Json
from connector.errors import DefinitionError


def destination_option(kind: str, options: Mapping[str, Json], known: Collection[str] = ()) -> None:
    """Returns when `options` has nothing but `destination`, the name of the destination whose account sends this, and
    what else is `known`. DefinitionError with a JSON pointer otherwise."""
    for name, value in options.items():
        if name == "destination":
            if not isinstance(value, str) or not value:
                raise DefinitionError("must be the name of a destination", pointer="/destination")
        elif name not in known:
            names = ", ".join(("destination", *known))
            raise DefinitionError(f"is not known to {kind}; it knows {names}", pointer=f"/{name}")
