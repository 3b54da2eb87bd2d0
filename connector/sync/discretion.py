"""What is shown to people at a terminal or kept as a message: without anybody's e-mail address."""

import re

from connector.domain import Json

# Begins only where a word does: else each letter of a long text without a space is tried as a beginning.
_ADDRESS = re.compile(r"(?<![^\s()<>])[^\s()<>]+@[^\s)>]+")


def without_addresses(text: str) -> str:
    """The text with `(address)` for whatever looks like an e-mail address."""
    return _ADDRESS.sub("(address)", text)


def hidden(value: Json) -> Json:
    """The value of a field, its texts without addresses."""
    if isinstance(value, str):
        return without_addresses(value)
    if isinstance(value, list):
        return [hidden(item) for item in value]
    if isinstance(value, dict):
        return {name: hidden(item) for name, item in value.items()}
    return value
