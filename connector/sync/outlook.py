"""What the next pushes to a destination will do: in numbers, and contact by contact. Nothing is sent or changed."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal, get_args

from sqlalchemy import Connection

from connector.domain import Json
from connector.sync import store
from connector.sync.discretion import hidden
from connector.sync.guard import Review
from connector.sync.plan import Pending, change, is_noop

Kind = Literal["new", "only_there", "changed", "same"]
_KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Coming:
    """One contact that waits. kind: `new` at the vendor; `only_there`, likewise, but it may not be made and is skipped
    unless the vendor has it; `changed`; `same`, when nothing will be sent. held: it waits for an approval. fields: the
    values to be set, addresses left out. moved: it goes to another address."""

    profile_id: int
    kind: Kind
    held: bool
    tags_added: Sequence[str]
    tags_removed: Sequence[str]
    fields: Mapping[str, Json]
    moved: bool


@dataclass(slots=True)
class Outlook:
    """The numbers: contacts by kind, moved and held ones; by tag and field how many contacts; cues that wait."""

    kinds: Counter[Kind] = field(default_factory=Counter)
    moved: int = 0
    held: int = 0
    tags_added: Counter[str] = field(default_factory=Counter)
    tags_removed: Counter[str] = field(default_factory=Counter)
    fields: Counter[str] = field(default_factory=Counter)
    cues: int = 0

    @property
    def contacts(self) -> int:
        """To how many something will be sent."""
        return self.kinds.total() - self.kinds["same"]


def outlook(connection: Connection, name: str) -> Outlook:
    """The numbers of everything that waits at a destination."""
    found = _sum(coming(connection, name))
    found.cues = store.waiting_cues(connection, name)
    return found


def coming(connection: Connection, name: str) -> Iterator[Coming]:
    """Every contact that waits at a destination, by profile id, in pieces: no more than one is held in memory."""
    return (_coming(one, held=held) for one, held in store.all_pending(connection, name))


def listed(connection: Connection, name: str) -> Iterator[Coming]:
    """Those of them to whom something will be sent."""
    return (one for one in coming(connection, name) if one.kind != "same")


def _sum(contacts: Iterable[Coming]) -> Outlook:
    found = Outlook()
    for one in contacts:
        found.kinds[one.kind] += 1
        if one.kind == "same":
            continue
        found.moved += one.moved
        found.held += one.held
        found.tags_added.update(one.tags_added)
        found.tags_removed.update(one.tags_removed)
        found.fields.update(one.fields.keys())
    return found


def _coming(pending: Pending, *, held: bool) -> Coming:
    planned = change(pending)
    kind: Kind = "changed"
    if pending.pushed is None:
        kind = "new" if planned.create else "only_there"
    elif is_noop(planned, pending):
        kind = "same"
    names = {"first_name": planned.first_name, "last_name": planned.last_name}
    told = {**planned.fields, **{name: value for name, value in names.items() if value is not None}}
    return Coming(
        pending.profile_id,
        kind,
        held,
        planned.tags_added,
        planned.tags_removed,
        {name: hidden(value) for name, value in told.items()},
        planned.previous_email is not None,
    )


def as_json(found: Outlook, review: Review) -> dict[str, Json]:
    """The numbers and what is held, as the command line and the API show them."""
    hold, counting = review.hold, review.counting
    return {
        "contacts": found.contacts,
        **{kind: found.kinds[kind] for kind in _KINDS},
        "moved": found.moved,
        "tags": {
            tag: {"added": found.tags_added[tag], "removed": found.tags_removed[tag]}
            for tag in sorted(found.tags_added.keys() | found.tags_removed.keys())
        },
        "fields": dict(sorted(found.fields.items())),
        "cues": found.cues,
        "waiting": found.held,
        "counting": None if counting is None else {"done": counting[0], "of": counting[1]},
        "held": None if hold is None else {**asdict(hold), "changes": hold.changes},
    }
