"""What is wrong with the options of sources, at the place where it is written: each kind says so itself."""

from collections.abc import Iterator, Mapping

from connector.domain import SourceConfig
from connector.errors import DefinitionError
from connector.sources import SOURCES, configured


def option_problems(sources: Mapping[str, SourceConfig]) -> Iterator[tuple[str, str]]:
    """Problems as (JSON pointer, message): the first of each source."""
    for name, config in sources.items():
        try:
            configured(SOURCES[config.kind], config.options)
        except DefinitionError as error:
            yield f"/sources/{name}/options{error.pointer}", error.message
