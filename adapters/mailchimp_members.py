"""A contact as a member of a Mailchimp audience: what is written of it, and what an answer means for it."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import md5, sha256
from typing import Any, Literal, NamedTuple

import orjson

from adapters.destination import Change, Cue, FieldValue, Outcome
from adapters.errors import DeliveryError, Transient
from adapters.http import Answer, Fault, judge
from adapters.mailchimp_fields import TEXT_BYTES, MergeField, MergeValue, cut_value, is_too_long, merge_value
from adapters.outcomes import not_there, outcome_of
from adapters.shape import dig, records, word
from adapters.values import instant, slug, text

LongTexts = Literal["refuse", "cut"]
QUERY = {"skip_merge_validation": "true"}

# 400s that are the vendor's (or the person's) decision rather than a fault of ours, by the problem's title.
_DECISIONS = {"Member In Compliance State": "compliance_state", "Forgotten Email Not Subscribed": "forgotten"}
_DECIDED = {
    "compliance_state": "they unsubscribed, or mail to them came back: only they themselves can subscribe again",
    "forgotten": "they were deleted for good: only they themselves can join again, by a form of yours",
}
_REFUSED_WITHOUT_WORDS = {status: Fault(Transient, "rate_limited", 2.0) for status in (403, 429)}


class Note(NamedTuple):
    """A value that was not written, or not as it is. reason: `left_out` or `cut`."""

    reason: Literal["left_out", "cut"]
    field: str
    message: str


@dataclass(frozen=True)
class Member:
    """A change with its merge fields as Mailchimp takes them. names: our fields by merge tag; digest: the same for the
    same write, so that what became of one in a batch is what became of the other."""

    key: str
    change: Change
    merge_fields: Mapping[str, MergeValue]
    names: Mapping[str, str]
    notes: Sequence[Note]
    digest: str

    @property
    def tagged(self) -> bool:
        return bool(self.change.tags_added or self.change.tags_removed)


def member_of(
    change: Change, holding: Mapping[str, MergeField], tags: Collection[str], long_texts: LongTexts
) -> Member:
    """A change as it is written. `holding`: the merge fields of our fields; `tags`: all merge tags of the audience,
    which may have none for names. Raises TypeError or UnicodeEncodeError for what JSON cannot express."""
    given = {"FNAME": ("first_name", change.first_name), "LNAME": ("last_name", change.last_name)}
    values: dict[str, tuple[str, MergeValue]]
    values = {tag: (name, value) for tag, (name, value) in given.items() if value is not None and tag in tags}
    notes: list[Note] = []
    for name, value in change.fields.items():
        merge_field = holding.get(name)
        if merge_field is None:
            notes.append(_gone(name))
        else:
            values[merge_field.tag] = (name, merge_value(merge_field.type, value))
    merge_fields: dict[str, MergeValue] = {}
    for tag, (name, value) in values.items():
        if not is_too_long(value):
            merge_fields[tag] = value
            continue
        size = f"{name} has {len(str(value).encode())} bytes, Mailchimp keeps {TEXT_BYTES}"
        if long_texts == "cut":
            merge_fields[tag] = cut_value(value)
            notes.append(Note("cut", name, f"{size}: cut to {len(str(merge_fields[tag]).encode())}"))
        else:
            notes.append(Note("left_out", name, f"{size}: left out (option long_texts: cut would shorten it)"))
    told = (change.email, merge_fields, change.tags_added, change.tags_removed, change.create, change.subscribed)
    digest = sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
    return Member(change.key, change, merge_fields, {tag: values[tag][0] for tag in merge_fields}, notes, digest)


def subscriber_hash(email: str) -> str:
    """The member's address in a path: MD5 of the e-mail in lower case."""
    return md5(email.lower().encode(), usedforsecurity=False).hexdigest()


def tag_body(active: Sequence[str], inactive: Sequence[str]) -> dict[str, Any]:
    states = [(tag, "active") for tag in active] + [(tag, "inactive") for tag in inactive]
    return {"tags": [{"name": tag, "status": status} for tag, status in states], "is_syncing": False}


def event_body(cue: Cue) -> dict[str, Any]:
    """The cue as a member event: a name of 2 to 30 letters and underscores, properties that are texts."""
    name = re.sub("[^a-z]+", "_", cue.name.lower()).strip("_")[:30].strip("_")
    return {
        "name": name if len(name) >= 2 else f"cue_{name}".strip("_"),
        "properties": {slug(property_) or "value": text(value) for property_, value in cue.properties.items()},
        "occurred_at": instant(cue.at),
        "is_syncing": cue.backfill,
    }


def written_value(merge_field: MergeField, value: FieldValue, long_texts: LongTexts) -> MergeValue | None:
    """What a push writes of a value, None when it leaves the value out."""
    whole = merge_value(merge_field.type, value)
    if not is_too_long(whole):
        return whole
    return cut_value(whole) if long_texts == "cut" else None


def outcome(member: Member, answer: Answer) -> Outcome:
    """What the answer to a member's write means."""
    if 200 <= answer.status < 300:
        return _applied(member, answer.data)
    if answer.status == 404 and not member.change.create:
        return not_there(member.key)
    return settled(member.key, judged(answer, 0.0))


def _applied(member: Member, data: Mapping[str, Any]) -> Outcome:
    if (
        word(data, "status") == "archived"
    ):  # taken off the audience by somebody: a write without status does not bring it back
        return Outcome(member.key, "skipped", "not_on_list", "the member was archived at Mailchimp")
    held = dig(data, "merge_fields")
    known = held if isinstance(held, dict) and held else member.merge_fields
    # Mailchimp drops a merge field that it does not know without a word: somebody deleted it since we looked.
    notes = [*member.notes, *(_gone(name) for tag, name in member.names.items() if tag not in known)]
    remote_id = word(data, "contact_id") or word(data, "id") or member.change.remote_id
    if not notes:
        return Outcome(member.key, "applied", remote_id=remote_id)
    reason = "left_out" if any(note.reason == "left_out" for note in notes) else "cut"
    message = "; ".join(note.message for note in notes)
    return Outcome(member.key, "applied", reason, message, field=notes[0].field, remote_id=remote_id)


def _gone(name: str) -> Note:
    message = f"{name} left out: the audience has no merge field for it. Provision the destination to have it made"
    return Note("left_out", name, message)


def settled(key: str, error: DeliveryError) -> Outcome:
    """The outcome of a member whose write failed: a decision that is not ours to change is no fault."""
    if error.reason in _DECIDED:
        return Outcome(key, "skipped", error.reason, f"{_DECIDED[error.reason]} ({error.message})")
    return outcome_of(key, error)


def judged(answer: Answer, now: float) -> DeliveryError:
    """The error that an answer which is no success means."""
    if not answer.content.strip():
        return judge(answer, now, "refused without a word: too many at once", faults=_REFUSED_WITHOUT_WORDS)
    data, causes = answer.data, records(answer.data, "errors")
    words = [
        word(data, "detail") or word(data, "title"),
        *(word(cause, "message") for cause in causes[:3]),
    ]
    culprit = word(causes, 0, "field") or None
    reason = _DECISIONS.get(word(data, "title"))
    said = " ".join(filter(None, words))
    if answer.status == 429 and "batch" in said.lower():  # 500 of them wait: that is no reason to stop calling
        return judge(answer, now, said, faults={429: Fault(Transient, "batches_pending", 60.0)})
    return judge(answer, now, said, reason=reason, culprit=culprit)
