"""Texts that are shown to people at a terminal or kept as a message: without anybody's e-mail address."""

import re

_ADDRESS = re.compile(r"[^\s(<]+@[^\s)>]+")


def without_addresses(text: str) -> str:
    """The text with `(address)` for whatever looks like an e-mail address."""
    return _ADDRESS.sub("(address)", text)
