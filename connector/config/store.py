"""The configuration in the database: its objects, its version, and the check of the secret key."""

import json
from collections.abc import Mapping

from sqlalchemy import Connection, Update, delete, insert, select, update

from connector.clock import Millis
from connector.config import secrets
from connector.config.entries import Entry, configuration_of, entries_of, same, text_of
from connector.config.plan import ConfigChange, diff
from connector.config.sealing import rotated, sealed
from connector.config.settings import Settings
from connector.domain import Configuration
from connector.errors import ConfigurationError
from connector.storage.database import Database
from connector.storage.tables import config_object, meta
from connector.sync.store import APPROVED

_VERSION = "config_version"
_KEY_CHECK = "key_check"


def version(connection: Connection) -> int:
    """The number of the configuration in force, 0 before the first; one indexed row, cheap enough for every claim."""
    return int(_meta(connection, _VERSION) or 0)


def load(connection: Connection) -> Configuration:
    """The configuration in force, in the file's order."""
    rows = connection.execute(
        select(config_object.c.kind, config_object.c.name, config_object.c.definition).order_by(config_object.c.ordinal)
    )
    entries = (Entry(kind, name, json.loads(definition)) for kind, name, definition in rows)
    return configuration_of(entries, version(connection))


def save(tx: Connection, configuration: Configuration, now: Millis) -> int:
    """The version in force afterwards: one more when anything differed, which is all that is written."""
    rows = {
        (row.kind, row.name): row
        for row in tx.execute(
            select(config_object.c.kind, config_object.c.name, config_object.c.definition, config_object.c.ordinal)
        )
    }
    changed = False
    for ordinal, (kind, name, definition) in enumerate(entries_of(configuration)):
        row = rows.pop((kind, name), None)
        if row is None:
            values = {"kind": kind, "name": name, "definition": text_of(definition)}
            tx.execute(insert(config_object).values(**values, ordinal=ordinal, updated_at=now))
        elif not same(json.loads(row.definition), definition):
            text = text_of(definition)
            tx.execute(_one(kind, name).values(definition=text, ordinal=ordinal, updated_at=now))
        elif row.ordinal != ordinal:
            tx.execute(_one(kind, name).values(ordinal=ordinal))
        else:
            continue
        changed = True
    for kind, name in rows:
        tx.execute(delete(config_object).where(config_object.c.kind == kind, config_object.c.name == name))
        changed = True
    number = version(tx)
    if changed:
        number += 1
        _set_meta(tx, _VERSION, str(number))
    return number


def plan(database: Database, vault: secrets.Vault, wanted: Configuration) -> list[ConfigChange]:
    """What `apply` would change."""
    with database.read() as connection:
        current = load(connection)
    return diff(current, sealed(wanted, current, vault))


def apply(
    database: Database, vault: secrets.Vault, wanted: Configuration, now: Millis, *, approved: bool = False
) -> list[ConfigChange]:
    """What was changed to make the validated `wanted` the configuration in force: all of it in one transaction. With
    `approved` destinations hold nothing of what it changes (see sync.guard)."""
    with database.tx() as tx:
        current = load(tx)
        wanted = sealed(wanted, current, vault)
        number = save(tx, wanted, now)
        if approved and number != current.version:
            _set_meta(tx, APPROVED, str(number))
    return diff(current, wanted)


# --- the secret key --------------------------------------------------------------------------------------------------


def key_token(connection: Connection) -> str | None:
    """What was kept at the first start to know the right key by (see secrets.check_key); None before that."""
    return _meta(connection, _KEY_CHECK)


def open_vault(database: Database, settings: Settings, *, environ: Mapping[str, str] | None = None) -> secrets.Vault:
    """The vault with this process's keys, which are those that the data was made with.

    At the first start the key file is made, unless keys are given, and a check is kept beside the data. Raises
    ConfigurationError for another key, a lost key and a key file that others may read.
    """
    with database.tx() as tx:
        token = key_token(tx)
        keys = secrets.read_keys(settings)
        if not keys and token is not None:
            raise ConfigurationError(
                f"the secret key is gone: there is no {settings.secret_key_file}, and STORECUE_SECRET_KEY is not set; "
                "put back the key that this data was made with",
                reason="missing_key",
            )
        vault = secrets.Vault(keys or secrets.create_key_file(settings), environ=environ)
        if token is None:
            _set_meta(tx, _KEY_CHECK, secrets.key_check(vault))
        else:
            secrets.check_key(vault, token)
    return vault


def rotate(database: Database, vault: secrets.Vault) -> int:
    """The number of secrets now under the vault's newest key; afterwards the older ones can be taken away.

    The version stays: nothing means anything else, and processes that still run with the old key keep what they have.
    """
    count = 0
    with database.tx() as tx:
        current = load(tx)
        for before, after in zip(entries_of(current), entries_of(rotated(current, vault)), strict=True):
            if before != after:
                tx.execute(_one(after.kind, after.name).values(definition=text_of(after.definition)))
                count += 1
        _set_meta(tx, _KEY_CHECK, secrets.key_check(vault))
    return count


def _meta(connection: Connection, name: str) -> str | None:
    return connection.execute(select(meta.c.value).where(meta.c.name == name)).scalar()


def _set_meta(tx: Connection, name: str, value: str) -> None:
    if not tx.execute(update(meta).where(meta.c.name == name).values(value=value)).rowcount:
        tx.execute(insert(meta).values(name=name, value=value))


def _one(kind: str, name: str) -> Update:
    return update(config_object).where(config_object.c.kind == kind, config_object.c.name == name)
