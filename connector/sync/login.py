"""Which account a destination's credentials open: noticed when they change, so that a key of another account does not
go on where the first one stopped."""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Any

import orjson

from adapters.destination import Account, Destination
from adapters.errors import Misconfigured, Unauthorized
from connector.sync.discretion import without_addresses


def mark(credentials: Mapping[str, str]) -> str:
    """`salt:digest` of credentials, to know them again by; another salt each time, and nothing leads back to them."""
    salt = secrets.token_hex(16)
    return f"{salt}:{_digest(salt, credentials)}"


def is_of(marked: str, credentials: Mapping[str, str]) -> bool:
    """True when `marked` was made of these credentials."""
    salt, _, digest = marked.partition(":")
    return hmac.compare_digest(digest, _digest(salt, credentials))


def ask(adapter: Destination) -> Account:
    """Whose account it is; without id and name for a key that may not read that, and may push all the same. Raises
    DeliveryError."""
    try:
        return adapter.check_login()
    except Unauthorized as error:
        if error.reason != "missing_scope":
            raise
        return Account("", "")


def check(name: str, known: Mapping[Any, Any] | None, found: Account) -> None:
    """Returns when `found` may be the account that was pushed to (`known`, an account's row). Raises Misconfigured for
    another one. A vendor that does not tell an id to every key is believed."""
    if known is None or not known["account_id"] or not found.id or known["account_id"] == found.id:
        return
    before, now = (without_addresses(f"{who} ({id_})") for who, id_ in (_pair(known), (found.name, found.id)))
    raise Misconfigured(
        f"the credentials open the account {now}, but what was pushed went to {before}. Put a key of that account "
        f"into the configuration, or run `storecue destination new-account {name}`: then the new account is told "
        "everything, and the old one is left as it is",
        reason="another_account",
    )


def _pair(known: Mapping[Any, Any]) -> tuple[str, str]:
    return known["account_name"], known["account_id"]


def _digest(salt: str, credentials: Mapping[str, str]) -> str:
    text = orjson.dumps(dict(credentials), option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(text, key=salt.encode(), digest_size=16).hexdigest()
