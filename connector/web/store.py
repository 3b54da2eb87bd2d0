"""The web server's own rows: API tokens, of which only digests are kept, and the writes that show it is ready."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, update

from connector.clock import HOUR, Millis
from connector.storage.phrases import upsert
from connector.storage.tables import api_token, meta

_PREFIX = "sc_"  # lets secret scanners, and our own log, recognise one


@dataclass(frozen=True, slots=True)
class Token:
    """An API token as stored: never the token itself."""

    id: int
    name: str
    created_at: Millis
    last_used_at: Millis | None
    revoked_at: Millis | None


def create_token(tx: Connection, name: str, now: Millis) -> str:
    """A new token of 256 random bits. It is shown this once: only its SHA-256 digest is kept."""
    token = _PREFIX + secrets.token_urlsafe(32)
    tx.execute(insert(api_token).values(name=name, digest=digest(token), created_at=now))
    return token


def list_tokens(connection: Connection) -> list[Token]:
    """All tokens, oldest first, the revoked ones included."""
    columns = (api_token.c.id, api_token.c.name, api_token.c.created_at, api_token.c.last_used_at)
    return [
        Token(*row) for row in connection.execute(select(*columns, api_token.c.revoked_at).order_by(api_token.c.id))
    ]


def revoke_token(tx: Connection, token_id: int, now: Millis) -> bool:
    """True when the token was valid until now."""
    unrevoked = update(api_token).where(api_token.c.id == token_id, api_token.c.revoked_at.is_(None))
    return tx.execute(unrevoked.values(revoked_at=now)).rowcount == 1


def find_token(connection: Connection, token: str) -> Token | None:
    """The valid token that this is. The index finds a digest; what time that takes says nothing about the token."""
    wanted = digest(token)
    row = connection.execute(
        select(api_token).where(api_token.c.digest == wanted, api_token.c.revoked_at.is_(None))
    ).one_or_none()
    if row is None or not hmac.compare_digest(row.digest, wanted):
        return None
    return Token(row.id, row.name, row.created_at, row.last_used_at, row.revoked_at)


def needs_touch(token: Token, now: Millis) -> bool:
    """Is it an hour since we noted that this token is used? Reads then stay reads, nearly always."""
    return token.last_used_at is None or now - token.last_used_at >= HOUR


def touch_token(tx: Connection, token_id: int, now: Millis) -> None:
    """Note that the token was used."""
    tx.execute(update(api_token).where(api_token.c.id == token_id).values(last_used_at=now))


def digest(token: str) -> str:
    """The SHA-256 of a token in hexadecimal. Fast is right here: 256 random bits cannot be guessed."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def note_ready(tx: Connection, now: Millis) -> None:
    """A real write to the state, because a full disk lets a transaction begin."""
    row = upsert(meta).values(name="ready_at", value=str(now))
    tx.execute(row.on_conflict_do_update(index_elements=["name"], set_={"value": row.excluded.value}))
