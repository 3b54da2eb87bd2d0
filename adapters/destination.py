"""The port: what every destination answers. Can you log in, what must exist, apply these changes, what do you hold,
forget a person."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

FieldType = Literal["text", "number", "boolean", "date", "datetime", "list", "object"]
FieldValue = str | float | int | bool | None | list[Any] | dict[str, Any]
"""A value to show at the vendor. datetime is RFC 3339 UTC, date is YYYY-MM-DD, None clears the field. A list holds
texts, numbers or objects, an object anything that JSON can say; a vendor without lists gets a text with commas, and one
without objects refuses the field when it is provisioned."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to reach one account. `credentials` by vendor: HubSpot `access_token`, the others `api_key`.

    `base_url` replaces scheme, host and port of the vendor's address, paths unchanged. Plain http, and private or
    loopback addresses, need `allow_insecure`. `options` are the vendor's own (Klaviyo `revision`, HubSpot `version`).
    `jobs` outlives the process: the adapter notes there what it has under way at the vendor, before it waits for it,
    and strikes it out once that has ended. Keys and texts are the adapter's own. Forgotten, work is repeated, which is
    harmless, but may be undone by what an old job does late.
    What it has found out about the account and would not find out again may stand there as well.
    Where machines take turns at an account: `left` gives the seconds for which it is ours alone for certain, and no
    call begins in the last of them; `spent_until` is when another may last have used its limits, by the clock's
    monotonic.
    """

    credentials: Mapping[str, str] = field(repr=False)
    base_url: str | None = None
    allow_insecure: bool = False
    list_id: str | None = None
    connect_timeout: float = 3.0
    read_timeout: float = 30.0
    options: Mapping[str, str] = field(default_factory=dict)
    jobs: MutableMapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    left: Callable[[], float] = field(default=lambda: math.inf, repr=False, compare=False)
    spent_until: float | None = None


class Clock(Protocol):
    """Time as adapters use it: `time` is epoch seconds, `monotonic` seconds for durations, `sleep` seconds."""

    def time(self) -> float: ...
    def monotonic(self) -> float: ...
    def sleep(self, seconds: float) -> None: ...


@dataclass(frozen=True)
class SystemClock:
    """The machine's own clock. All of them are equal, so that two users of one account share its limiter."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """A field that must exist at the vendor. `name` is snake_case as the marketer wrote it."""

    name: str
    type: FieldType
    label: str


@dataclass(frozen=True, slots=True)
class Account:
    """Who we are logged in as: the vendor's account id and its name, for people to recognise. `notes`: what is asked
    for in the options and cannot be had with this key or plan, and what happens instead."""

    id: str
    name: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """One contact brought from what the vendor last accepted to what it should show.

    key: ours, given back in the Outcome. email: the address it should have; previous_email: the one it had, when it
    moves. remote_id: the vendor's record id when we know it. external_id: our own stable id of the person.
    tags: the full desired set, sorted; tags_added / tags_removed: the difference. fields: only those that changed.
    create: may a missing contact be created; subscribed: recorded e-mail consent (True, False, or None when unknown);
    neither ever changes the subscription of an existing contact.
    """

    key: str
    email: str
    external_id: str
    tags: tuple[str, ...] = ()
    tags_added: tuple[str, ...] = ()
    tags_removed: tuple[str, ...] = ()
    fields: Mapping[str, FieldValue] = field(default_factory=dict)
    first_name: str | None = None
    last_name: str | None = None
    previous_email: str | None = None
    remote_id: str | None = None
    create: bool = True
    subscribed: bool | None = None


@dataclass(frozen=True, slots=True)
class Cue:
    """One trigger event for a contact. `key` is its unique id: the vendor's dedupe key where it has one.

    `at` is epoch milliseconds UTC; `backfill` records it without starting flows.
    """

    key: str
    email: str
    external_id: str
    name: str
    at: int
    properties: Mapping[str, FieldValue] = field(default_factory=dict)
    remote_id: str | None = None
    backfill: bool = False


@dataclass(frozen=True, slots=True)
class Membership:
    """One contact to add to or remove from the vendor's list of a segment."""

    key: str
    email: str
    remote_id: str | None
    added: bool


Fate = Literal["exists", "created", "refused"]


@dataclass(frozen=True, slots=True)
class Fit:
    """What would become of one field or tag. kind: what holds it at the vendor; message: why it is refused;
    longest: bytes of text that are kept, None where no limit is known; beyond: what becomes of a longer text."""

    name: str
    fate: Fate
    kind: str
    message: str = ""
    longest: int | None = None
    beyond: Literal["cut", "left_out"] = "cut"


@dataclass(frozen=True, slots=True)
class Forecast:
    """What would become of fields and tags, in their order. slots: how many more fields are needed and how many the
    vendor has room for; None where fields are not counted."""

    fields: Sequence[Fit]
    tags: Sequence[Fit]
    slots: tuple[int, int] | None = None


Status = Literal["applied", "retry", "rejected", "skipped"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one Change, Cue or Membership. `retry_after` in seconds; `skipped` is a decision, not a fault
    (not on the list and may not be created, plan lacks the feature). `applied` has a reason when not all of it arrived:
    `left_out` or `cut`, and the message says of which fields."""

    key: str
    status: Status
    reason: str = ""
    message: str = ""
    field: str | None = None
    retry_after: float = 0.0
    remote_id: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """One contact to read back; `fields` as they were last pushed. `key` is given back in the Held."""

    key: str
    email: str
    remote_id: str | None = None
    fields: Mapping[str, FieldValue] = field(default_factory=dict)


ActivityKind = Literal[
    "delivered", "opened", "clicked", "bounced", "bounced_for_good", "complained", "unsubscribed", "subscribed"
]


@dataclass(frozen=True, slots=True)
class Activity:
    """Something that somebody did with a mail, or said about mails, as the vendor tells it when it is asked.

    key: the natural key of the fact, the same whenever and however it is told. at: epoch milliseconds UTC. email: lower
    case, empty where only `remote_id` is told. properties: what is known of the mail, by the names of Segment's e-mail
    events (campaign_id, campaign_name, email_subject, link_url).
    """

    kind: ActivityKind
    key: str
    at: int
    email: str
    remote_id: str = ""
    properties: Mapping[str, Any] = field(default_factory=dict)


class ActivityPage(NamedTuple):
    """Some activities; `until`: everything up to then has been told once they are kept (epoch milliseconds UTC)."""

    activities: Sequence[Activity]
    until: int | None


Presence = Literal["found", "missing", "merged"]
Consent = Literal["subscribed", "unsubscribed", "suppressed"]


@dataclass(frozen=True, slots=True)
class Held:
    """What the vendor holds of one contact.

    status: `merged` when the record id we knew is gone and the contact lies under `remote_id` now; `missing` contacts
    have nothing else. email: lower case. tags: sorted; a vendor with tags of its own (Mailchimp) gives those of others
    as well. fields: by the names that were wanted; a value that is the wanted one, however the vendor writes it, comes
    back as the wanted one itself, so that `==` finds the drift; None is an empty field. consent: to e-mail, where the
    vendor tells; `suppressed` means that it will not mail them, whatever they said (bounces, complaints). first_name,
    last_name: empty when there is none, None where the vendor does not tell.
    """

    key: str
    status: Presence
    remote_id: str | None = None
    email: str = ""
    tags: tuple[str, ...] = ()
    fields: Mapping[str, FieldValue] = field(default_factory=dict)
    consent: Consent | None = None
    first_name: str | None = None
    last_name: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes the vendor sets. `batch`: contacts per apply worth handing over at once; `concurrency`: calls in flight;
    `singly`: so many at a time wait for no job at the vendor, 0 where there are none."""

    batch: int
    concurrency: int
    singly: int = 0


class Option(NamedTuple):
    """One of a vendor's own options: what its text must look like, and an example for who gets it wrong."""

    pattern: str
    example: str


@dataclass(frozen=True, slots=True)
class Takes:
    """What the settings of an account must hold: the names of its credentials (all required), whether `list_id` is
    needed, its options. `consent_first`: who may be created is better left to recorded consent than to everybody.
    `engagement`: whether it can be asked what people do with its mails (TellsActivity)."""

    credentials: tuple[str, ...] = ()
    list_id: bool = False
    options: Mapping[str, Option] = field(default_factory=dict)
    consent_first: bool = False
    engagement: bool = False


class Destination(Protocol):
    """An account of a vendor. Methods raise Transient or Unauthorized when nothing of the call is known to have been
    done (its answer may have been lost); otherwise they give one Outcome per item, in any order. Safe to repeat. Used
    by one thread at a time."""

    vendor: str
    limits: Limits

    def check_login(self) -> Account: ...

    def provision(self, fields: Sequence[FieldSpec], tags: Sequence[str]) -> list[str]:
        """Make fields and tags exist; returns one line per thing created. Repeating it creates nothing."""

    def foresee(self, fields: Sequence[FieldSpec], tags: Sequence[str]) -> Forecast:
        """What `provision` would do. Changes nothing; raises Transient or Unauthorized when that cannot be told."""

    def apply(self, changes: Sequence[Change]) -> list[Outcome]: ...

    def send(self, cues: Sequence[Cue]) -> list[Outcome]: ...

    def ensure_list(self, name: str, known_id: str | None) -> str:
        """The id of the list with this name, created when it is missing."""

    def update_list(self, list_id: str, memberships: Sequence[Membership]) -> list[Outcome]: ...

    def read(self, wanted: Sequence[Wanted]) -> list[Held]:
        """What the vendor holds of these contacts, one Held each, in any order. Changes nothing; raises Transient or
        Unauthorized when not all of them could be read."""

    def unite(self, kept: str, gone: str) -> bool:
        """Make one contact of two, by record id: `kept` keeps its address and its values, `gone` becomes part of it,
        for good. False when the vendor has no merge. True says that it is done or under way; `read` shows when it is
        done, and under which record id. Nothing to do, because one of them is gone, is True as well. Raises
        DeliveryError: a refusal is Rejected here."""

    def forget(self, email: str, remote_id: str | None = None) -> None:
        """Erase the person for good (the vendor's privacy deletion). Repeating it is harmless."""

    def close(self) -> None: ...


@runtime_checkable
class TellsActivity(Protocol):
    """A Destination that can be asked what people do with its mails."""

    def activity(self, since: int) -> Iterator[ActivityPage]:
        """What happened since (epoch milliseconds UTC), and perhaps a little before. Changes nothing; raises Transient
        or Unauthorized, after which the pages so far count."""


@runtime_checkable
class Following(Protocol):
    """A Destination whose `apply` waits for jobs at the vendor. Meanwhile it calls `meanwhile` again and again, unless
    that is None, in the thread that called it; from there `apply` and `send` may be called for a few others, who must
    not be among those that are being applied."""

    meanwhile: Callable[[], None] | None


class Vendor(Protocol):
    """How to open an account of a vendor: its class. Raises Misconfigured."""

    takes: Takes

    def __call__(self, settings: Settings, clock: Clock) -> Destination: ...
