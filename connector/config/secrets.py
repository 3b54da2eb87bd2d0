"""Secrets: references (`env:NAME`, `file:PATH`), values encrypted at rest (`enc:TOKEN`), and the keys they need."""

import os
import re
import secrets
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from connector.config.settings import Settings, split_keys
from connector.errors import ConfigurationError

ENV = "env:"
FILE = "file:"
ENCRYPTED = "enc:"

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHELL_VARIABLE = re.compile(r"\$\{?[A-Z_][A-Z0-9_]*\}?")
_KEY_CHECK = "storecue"


def is_reference(secret: str) -> bool:
    """True for `env:NAME` and `file:PATH`: texts that say where a secret is and are none themselves."""
    return secret.startswith((ENV, FILE))


def is_encrypted(secret: str) -> bool:
    """True for `enc:TOKEN`, a value that only the vault opens."""
    return secret.startswith(ENCRYPTED)


def fault_of(secret: str) -> str | None:
    """What is wrong with the form of a secret in a configuration, or None. Never repeats the secret."""
    if secret.startswith(ENV) and not _VARIABLE.fullmatch(secret.removeprefix(ENV)):
        return "env: must be followed by the name of an environment variable, such as env:SHOPIFY_SECRET"
    if secret.startswith(FILE) and not secret.removeprefix(FILE).strip():
        return "file: must be followed by a path, such as file:/run/secrets/shopify"
    if _SHELL_VARIABLE.fullmatch(secret):
        return "is written as in a shell, and would be taken as it stands; write env: and the variable's name"
    if not secret.strip():
        return "is empty; write env:NAME or file:PATH, which say where the secret is"
    return None


class Vault:
    """Opens and closes secrets with Fernet keys, newest first: the first encrypts, each may decrypt."""

    def __init__(self, keys: Sequence[str], *, environ: Mapping[str, str] | None = None) -> None:
        if not keys:
            raise ConfigurationError("there is no secret key: set STORECUE_SECRET_KEY or STORECUE_SECRET_KEY_FILE")
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        except ValueError:
            raise ConfigurationError(
                "a secret key is not a Fernet key (44 characters of URL-safe base64): "
                "make one with `storecue key new` and set STORECUE_SECRET_KEY to it"
            ) from None
        self._environ = os.environ if environ is None else environ

    def __repr__(self) -> str:
        return "Vault(...)"

    def encrypt(self, secret: str) -> str:
        """`enc:TOKEN` of a plain text; another token each time."""
        return ENCRYPTED + self._fernet.encrypt(secret.encode()).decode()

    def decrypt(self, token: str) -> str:
        """The plain text of `enc:TOKEN`; ConfigurationError when no key of ours made it."""
        try:
            return self._fernet.decrypt(token.removeprefix(ENCRYPTED).encode()).decode()
        except (InvalidToken, UnicodeError):
            raise ConfigurationError(
                "an encrypted secret (enc:...) was not made with this StoreCue's key: "
                "put that key behind the present one in STORECUE_SECRET_KEY, or enter the secret anew",
                reason="wrong_key",
            ) from None

    def rotate(self, token: str) -> str:
        """The same secret as `enc:TOKEN` under the newest key. Raises as `decrypt` does."""
        return self.encrypt(self.decrypt(token))

    def resolve(self, secret: str) -> str:
        """The secret itself, for use now: of a reference, an encrypted value or a plain text.

        ConfigurationError names the reference and what its owner must do; it never repeats a secret.
        """
        if secret.startswith(ENV):
            return self._variable(secret.removeprefix(ENV))
        if secret.startswith(FILE):
            return _content(Path(secret.removeprefix(FILE)))
        return self.decrypt(secret) if is_encrypted(secret) else secret

    def _variable(self, name: str) -> str:
        value = self._environ.get(name, "").strip()
        if not value:
            raise ConfigurationError(
                f"env:{name}: the environment variable {name} is not set; "
                f"whoever starts StoreCue must set it for this process",
                reason="missing_secret",
            )
        return value


def _content(path: Path) -> str:
    try:
        value = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        fault = f"there is no such file; whoever runs this machine must put the secret into {path}"
    except PermissionError:
        fault = f"this process may not read it; give the user that runs StoreCue the right to read {path}"
    except (OSError, UnicodeError, ValueError):
        fault = "it cannot be read as a text file; put the secret, and nothing else, into it"
    else:
        if value:
            return value
        fault = "the file is empty; put the secret, and nothing else, into it"
    raise ConfigurationError(f"file:{path}: {fault}", reason="missing_secret")


# --- the keys themselves ---------------------------------------------------------------------------------------------


def new_key() -> str:
    """A new Fernet key."""
    return Fernet.generate_key().decode()


def read_keys(settings: Settings) -> tuple[str, ...]:
    """The keys, newest first, from the environment or else the key file; empty when that file is not there yet.

    Raises ConfigurationError for a key file that others may read.
    """
    if settings.secret_keys:
        return settings.secret_keys
    path = settings.secret_key_file
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"the secret key file {path} cannot be read: {error}") from None
    if os.name == "posix" and mode & 0o077:
        raise ConfigurationError(
            f"the secret key file {path} is open to other users (mode {mode:04o}): run `chmod 600 {path}`",
            reason="key_permissions",
        )
    keys = split_keys(text)
    if not keys:
        raise ConfigurationError(f"the secret key file {path} is empty: put the key back into it")
    return keys


def create_key_file(settings: Settings) -> tuple[str, ...]:
    """The keys of the key file, which is made (mode 0600) when it is not there: whole, or not at all.

    The caller holds the database's write lock, so that of two processes that start together one makes the key.
    """
    path = settings.secret_key_file
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(new_key() + "\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    return read_keys(settings)


def key_check(vault: Vault) -> str:
    """A token to keep beside the secrets, by which a later start knows whether it holds the right key."""
    return vault.encrypt(_KEY_CHECK)


def check_key(vault: Vault, token: str) -> None:
    """Returns when `vault` opens the token that `key_check` made; ConfigurationError otherwise."""
    try:
        right = vault.decrypt(token) == _KEY_CHECK
    except ConfigurationError:
        right = False
    if not right:
        raise ConfigurationError(
            "the secret key is not the one this data was made with, so StoreCue does not start: put the former key "
            "back into STORECUE_SECRET_KEY or the secret key file (to change keys, put the new one first, keep the "
            "former behind it, and run `storecue key rotate`)",
            reason="wrong_key",
        )
