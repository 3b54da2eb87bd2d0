"""What people ask of a source's own API: to fetch what was there before, and to say what is missing."""

from collections.abc import Sequence

from connector.backfill import store
from connector.backfill.verify import Report, verify
from connector.clock import Millis
from connector.config.yaml_file import nearest
from connector.domain import SourceConfig
from connector.errors import ConnectorError
from connector.services import Services


def ask(services: Services, name: str, kinds: Sequence[str] | None, since: Millis | None, now: Millis) -> list[str]:
    """The kinds that the worker will fetch; those that it fetches already are not among them. Raises ConnectorError for
    a source or kind that is not there."""
    history = services.history(_source(services, name))
    try:
        for kind in kinds or ():
            if kind not in history.kinds:
                raise ConnectorError(f'"{kind}" cannot be fetched; {nearest(kind, list(history.kinds))}')
        with services.database.tx() as tx:
            return store.ask(tx, name, kinds or history.kinds, since, now)
    finally:
        history.close()


def report(services: Services, name: str, now: Millis) -> Report:
    """What is missing of a source, and why. Raises ConnectorError for one that is not there or has no API."""
    config = _source(services, name)
    history = services.history(config)
    try:
        return verify(
            services.database,
            config,
            history,
            public=services.settings.public_url,
            secrets=services.sources()[name][1],
            timezone=services.configuration().store.timezone,
            now=now,
        )
    finally:
        history.close()


def _source(services: Services, name: str) -> SourceConfig:
    sources = services.configuration().sources
    if name not in sources:
        raise ConnectorError(f"there is no source {name!r} (configured: {', '.join(sorted(sources)) or 'none'})")
    return sources[name]
