"""What is wrong with the options of sources, at the place where it is written: each kind says so itself."""

from collections.abc import Collection, Iterator, Mapping

from connector.config.yaml_file import nearest
from connector.domain import SourceConfig
from connector.errors import DefinitionError
from connector.sources import SOURCES, configured


def option_problems(sources: Mapping[str, SourceConfig], destinations: Collection[str]) -> Iterator[tuple[str, str]]:
    """Problems as (JSON pointer, message): the first of each source. `destinations` are the names that there are."""
    for name, config in sources.items():
        try:
            configured(SOURCES[config.kind], config.options)
        except DefinitionError as error:
            yield f"/sources/{name}/options{error.pointer}", error.message
            continue
        named = config.options.get("destination")
        if named is not None and named not in destinations:
            known = nearest(str(named), list(destinations))
            yield f"/sources/{name}/options/destination", f'there is no destination "{named}"; {known}'
