"""What two profiles have in common when they may be one person; pure."""

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from connector.domain import Json

Key = tuple[str, str]
"""(kind, value): profiles with an equal key are looked at. Kinds: phone, place, device, and several of mail."""

WEIGHTS: Mapping[str, float] = {"phone": 0.6, "place": 0.7, "device": 0.3, "mail": 0.4}
"""How likely two profiles are one person by one likeness alone; our own estimate (2026-11), to sort pairs by."""

WORDS: Mapping[str, str] = {
    "phone": "the same phone",
    "place": "the same name and town",
    "device": "the same device",
    "mail": "e-mail addresses one letter apart",
}

_SHORTEST = 6  # letters before the @ from which half of them say something


@dataclass(frozen=True, slots=True)
class Likeness:
    """What of a profile is compared."""

    id: int
    email: str | None
    traits: Mapping[str, Json]


def keys(one: Likeness) -> set[Key]:
    """The keys of a profile, but for its devices, which are noted when they are shared."""
    found: set[Key] = set()
    traits = one.traits
    if isinstance(phone := traits.get("phone"), str) and phone:
        found.add(("phone", phone))
    name = _plain(f"{traits.get('first_name') or ''} {traits.get('last_name') or ''}")
    town = _plain(str(traits.get("city") or ""))
    if " " in name and town:
        found.add(("place", f"{name}|{town}|{_plain(str(traits.get('country') or ''))}"))
    if one.email:
        found |= _mail_keys(one.email)
    return found


def _mail_keys(email: str) -> set[Key]:
    """Two addresses one edit apart share the first or the second half of what is before the @, or all of it.

    Of n letters the half is taken of n and of n - 1, because an edit may have been one letter more.
    """
    local, _, domain = email.partition("@")
    found = {("mail=", local)} if len(local) >= _SHORTEST else set()
    for half in {len(local) // 2, (len(local) - 1) // 2}:
        if half >= _SHORTEST // 2:
            found |= {("mail<", f"{local[:half]}|{domain}"), ("mail>", f"{local[-half:]}|{domain}")}
    return found


def one_edit_apart(left: str, right: str) -> bool:
    """True when one letter changed, added, left out, or two neighbours swapped make one text of the other."""
    if left == right or abs(len(left) - len(right)) > 1:
        return False
    start = 0
    while start < min(len(left), len(right)) and left[start] == right[start]:
        start += 1
    mine, theirs = left[start:], right[start:]
    if mine[1:] == theirs[1:] or mine[1:] == theirs or mine == theirs[1:]:
        return True
    return len(mine) > 1 and len(theirs) > 1 and mine[:2] == theirs[1::-1] and mine[2:] == theirs[2:]


def score(likenesses: Iterable[str]) -> float:
    """How likely two profiles are one person, 0 to 1: the chance that not every likeness is a coincidence."""
    doubt = 1.0
    for kind in likenesses:
        doubt *= 1 - WEIGHTS[kind]
    return round(1 - doubt, 2)


def _plain(text: str) -> str:
    """Lower case without accents, one space between words."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    return " ".join("".join(letter for letter in letters if not unicodedata.combining(letter)).split())
