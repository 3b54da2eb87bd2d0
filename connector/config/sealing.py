"""The secrets of a configuration, all of them at once: found, and encrypted for keeping."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from connector.config.secrets import Vault, is_encrypted, is_reference
from connector.domain import ADMIN_SECRETS, Configuration, SourceConfig
from connector.errors import ConfigurationError


def secrets_of(configuration: Configuration) -> Iterator[tuple[str, str]]:
    """Every secret with its place, a JSON pointer such as `/destinations/klaviyo/credentials/api_key`."""
    for source in configuration.sources.values():
        for index, secret in enumerate(source.secrets):
            yield f"/sources/{source.name}/secrets/{index}", secret
        for key, secret in _admin_secrets(source):
            yield f"/sources/{source.name}/admin/{key}", secret
    for destination in configuration.destinations.values():
        for name, secret in destination.credentials.items():
            yield f"/destinations/{destination.name}/credentials/{name}", secret
    for stream in configuration.streams.values():
        for name, secret in stream.credentials.items():
            yield f"/streams/{stream.name}/credentials/{name}", secret


def with_secrets(configuration: Configuration, change: Callable[[str, str], str]) -> Configuration:
    """The configuration with each secret replaced by `change(place, secret)`."""
    changed = {place: change(place, secret) for place, secret in secrets_of(configuration)}
    return replace(
        configuration,
        sources={
            name: replace(
                source,
                secrets=tuple(changed[f"/sources/{name}/secrets/{index}"] for index in range(len(source.secrets))),
                admin=source.admin and replace(source.admin, **_under(f"/sources/{name}/admin/", changed)),
            )
            for name, source in configuration.sources.items()
        },
        destinations={
            name: replace(
                destination,
                credentials={
                    key: changed[f"/destinations/{name}/credentials/{key}"] for key in destination.credentials
                },
            )
            for name, destination in configuration.destinations.items()
        },
        streams={
            name: replace(
                stream,
                credentials={key: changed[f"/streams/{name}/credentials/{key}"] for key in stream.credentials},
            )
            for name, stream in configuration.streams.items()
        },
    )


def sealed(wanted: Configuration, current: Configuration, vault: Vault) -> Configuration:
    """`wanted` with its literal secrets encrypted, ready to be kept.

    A secret that `current` already keeps in the same place stays the same token, so that nothing seems to change.
    ConfigurationError when an `enc:` value is not ours.
    """
    kept: dict[str, dict[str, str]] = {}
    for place, secret in secrets_of(current):
        if is_encrypted(secret):
            kept.setdefault(_holder(place), {})[_opened(vault, place, secret)] = secret

    def seal(place: str, secret: str) -> str:
        if is_reference(secret):
            return secret
        plain = _opened(vault, place, secret) if is_encrypted(secret) else secret
        token = kept.get(_holder(place), {}).get(plain)
        return token or (secret if is_encrypted(secret) else vault.encrypt(plain))

    return with_secrets(wanted, seal)


def rotated(configuration: Configuration, vault: Vault) -> Configuration:
    """The configuration with each encrypted secret under the vault's newest key."""
    return with_secrets(configuration, lambda _, secret: vault.rotate(secret) if is_encrypted(secret) else secret)


def _admin_secrets(source: SourceConfig) -> list[tuple[str, str]]:
    found = ((key, getattr(source.admin, key)) for key in ADMIN_SECRETS) if source.admin else ()
    return [(key, secret) for key, secret in found if secret is not None]


def _under(place: str, changed: Mapping[str, str]) -> dict[str, Any]:
    return {found.removeprefix(place): secret for found, secret in changed.items() if found.startswith(place)}


def _holder(place: str) -> str:
    """What a secret belongs to: a source's secrets may move within their list, a credential stays what it is."""
    return place.rpartition("/")[0] if place.startswith("/sources/") else place


def _opened(vault: Vault, place: str, token: str) -> str:
    try:
        return vault.decrypt(token)
    except ConfigurationError as error:
        raise ConfigurationError(f"{place}: {error.message}", reason=error.reason) from None
