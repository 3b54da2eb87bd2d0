"""The difference between what a destination should show and what it last accepted, as changes for its adapter."""

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from adapters.destination import Change
from connector.domain import Json


@dataclass(frozen=True, slots=True)
class Pending:
    """A contact whose desired state differs from the pushed one. Both are canonical JSON texts (see sync.desired)."""

    profile_id: int
    desired: str
    pushed: str | None
    remote_id: str | None
    attempts: int


def change(pending: Pending) -> Change:
    """The one Change that brings the contact up to date, however many changes led here."""
    want: Mapping[str, Json] = orjson.loads(pending.desired)
    have: Mapping[str, Json] = orjson.loads(pending.pushed) if pending.pushed else {}
    tags, had, unsure = set(want["tags"]), set(have.get("tags", ())), have.get("unsure", {})
    shown = have.get("fields", {})
    moved = have.get("email") not in (None, want["email"])
    return Change(
        key=str(pending.profile_id),
        email=want["email"],
        external_id=external_id(pending.profile_id),
        tags=tuple(want["tags"]),
        tags_added=tuple(sorted(tags - had)),
        tags_removed=tuple(sorted((had | set(unsure.get("tags", ()))) - tags)),
        fields={
            name: value
            for name, value in want["fields"].items()
            if shown.get(name) != value or name in unsure.get("fields", ()) or (not have and value is not None)
        },
        first_name=_news(want, have, "first_name"),
        last_name=_news(want, have, "last_name"),
        previous_email=have.get("email") if moved else None,
        remote_id=pending.remote_id,
        create=want["create"],
        subscribed=want["subscribed"],
    )


def unsure(pending: Pending) -> str:
    """The pushed state after an answer was lost: the vendor may have applied the change or not. What it tried stands
    under `unsure` and is told again, even when the person has meanwhile become again as they were before."""
    want: Mapping[str, Json] = orjson.loads(pending.desired)
    have: Mapping[str, Json] = orjson.loads(pending.pushed) if pending.pushed else {}
    before = have.get("unsure", {})
    tags = set(want["tags"]) ^ set(have.get("tags", ())) | set(before.get("tags", ()))
    shown = have.get("fields", {})
    fields = {n for n, value in want["fields"].items() if shown.get(n) != value} | set(before.get("fields", ()))
    names = {n: have.get(n) if have.get(n) == want.get(n) else None for n in ("first_name", "last_name")}
    state = {
        **have,
        **names,
        "email": have.get("email") or want["email"],
        "tags": sorted(set(have.get("tags", ())) - tags),
        "fields": {n: value for n, value in shown.items() if n not in fields},
        "unsure": {"tags": sorted(tags), "fields": sorted(fields)},
    }
    return orjson.dumps(state, option=orjson.OPT_SORT_KEYS).decode()


def told_anew(pushed: str, desired: str, other: str | None) -> str:
    """The pushed state of a contact into which the vendor has merged another one (`other`: its pushed state): what
    stands there now nobody can say, so all of it is told once more."""
    have, want, gone = (orjson.loads(text) if text else {} for text in (pushed, desired, other))
    tags = {tag for state in (have, want, gone) for tag in state.get("tags", ())}
    fields = {name for state in (have, want) for name in state.get("fields", ())}
    unsure = {"tags": sorted(tags), "fields": sorted(fields)}
    state = {**have, "first_name": None, "last_name": None, "tags": [], "fields": {}, "unsure": unsure}
    return orjson.dumps(state, option=orjson.OPT_SORT_KEYS).decode()


def is_noop(change: Change, pending: Pending) -> bool:
    """True when the states differ only in what steers creation (consent, policy) and the contact exists already."""
    return (
        pending.pushed is not None
        and not change.tags_added
        and not change.tags_removed
        and not change.fields
        and change.previous_email is None
        and change.first_name is None
        and change.last_name is None
        and "unsure" not in orjson.loads(pending.pushed)  # last: it costs more than the others together
    )


def external_id(profile_id: int) -> str:
    """Our stable id of a person at the vendors."""
    return f"storecue:{profile_id}"


def _news(want: Mapping[str, Json], have: Mapping[str, Json], key: str) -> str | None:
    value = want.get(key)
    return value if isinstance(value, str) and value != have.get(key) else None
