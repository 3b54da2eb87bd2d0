"""The nouns as frozen dataclasses: what travels between the folders. Past `normalise` a dict is only ever a value."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from connector.clock import Millis

Json = Any
"""A JSON value: None, bool, int, float, str, list or dict of these."""

IdentifierKind = Literal["customer_id", "email", "phone", "checkout_token", "cart_token", "anonymous_id"]
Channel = Literal["email", "sms", "whatsapp"]
ConsentState = Literal["subscribed", "pending", "unsubscribed", "not_subscribed", "invalid", "redacted"]
EntityKind = Literal["customer", "order", "refund", "checkout", "cart", "product", "collection", "shop"]


@dataclass(frozen=True, slots=True)
class RawRequest:
    """One HTTP request as received. Header names are lower case; `body` is the exact bytes, `query` what follows the ?,
    `received_at` the instant that the age of a signature is counted from, `origin` the address of ours that senders
    call, without a slash at its end: a proxy in front of us leaves of it only what stands in `path`."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    query: str = ""
    received_at: Millis = 0
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One stored delivery. `headers` holds only those the source needs; `id` is the sender's id, unique per source."""

    source: str
    id: str
    topic: str
    received_at: Millis
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Identifier:
    """One way to recognise a person. Values are normalised: customer ids carry their source (`shop:123`), e-mail is
    lower case, phone is E.164."""

    kind: IdentifierKind
    value: str


@dataclass(frozen=True, slots=True)
class Event:
    """One canonical, immutable fact. `id` is a natural key, so that a repeat of the fact is the same event.

    `properties` are JSON values; money is a number in major units of the shop's currency (12.5), ids are strings.
    """

    id: str
    name: str
    at: Millis
    properties: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Entity:
    """A thing in the shop as of `updated_at`: it replaces only an older version of itself.

    `data` by kind (every key optional unless said; money is a number in major units of the shop's currency):
    customer: first_name, last_name, email, phone, tags (list, only where the payload has them), locale, country, city,
        created_at (RFC 3339), state, verified_email, note, tax_exempt
    order: total (required), currency, placed_at (required, ms), cancelled_at (ms), test (bool), name, checkout_token,
        cart_token, products (list of product ids), financial_status, fulfillment_status
    refund: order_id (required), amount (required), at (required, ms)
    checkout: token, cart_token, url, total, currency, items, created_at, completed_at
    cart: token, items (list of {product_id, variant_id, title, quantity, price}), total
    product: title, handle, vendor, product_type, tags, image_url, price, url
    """

    kind: EntityKind
    id: str
    updated_at: Millis
    data: Mapping[str, Json] = field(default_factory=dict)
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Consent:
    """What a person allowed on one channel, and since when. Unknown is not subscribed."""

    channel: Channel
    state: ConsentState
    at: Millis
    opt_in_level: str | None = None


@dataclass(frozen=True, slots=True)
class TagChange:
    """Shop tags added to or removed from a customer at an instant, as a stream of its own."""

    tags: tuple[str, ...]
    added: bool
    at: Millis


PrivacyKind = Literal["export", "erase", "erase_source"]
"""What the law lets somebody ask for: a copy of what is known of a person, that they be erased, that all people of a
source be erased."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """A thing that a delivery only names, and that its source has to be asked for. Never an address: where to ask is
    configured. `shop`: which shop of the sender's it is in, as in AdminConfig, where the delivery says so."""

    kind: str
    id: str
    shop: str | None = None


@dataclass(frozen=True, slots=True)
class Normalised:
    """What one delivery means. All of it concerns the one person named by `identifiers`, or nobody (products).

    `authoritative`: the sender owns these identifiers, so an e-mail moves here from another customer's profile.
    `unverified`: it is a visitor's word, sent with a public key. It joins what an unknown visitor did to whom they say
    they are; it gives somebody known no further identifier, and never makes one person of two who are known.
    `known_only`: nobody is made of it; where the identifiers are unknown, it is about nobody.
    `order_ref`: the order whose profile is meant when no identifier is in the payload (refunds, edits).
    `merged_from`: identifiers of a second person who is now this one (customers/merge).
    `contact`: the record id of who is meant at the destination whose source this is, where no identifier is known.
    `privacy`: the law's request about the person named by `identifiers`, or about everybody of this source.
    `fetch`: what has to be asked for to know more; the answer is a delivery of its own.
    """

    identifiers: tuple[Identifier, ...] = ()
    events: tuple[Event, ...] = ()
    entities: tuple[Entity, ...] = ()
    consents: tuple[Consent, ...] = ()
    tag_changes: tuple[TagChange, ...] = ()
    authoritative: bool = False
    unverified: bool = False
    known_only: bool = False
    order_ref: str | None = None
    merged_from: tuple[Identifier, ...] = ()
    contact: str | None = None
    privacy: PrivacyKind | None = None
    fetch: tuple[Fetch, ...] = ()
    skipped: str | None = None
    """Why a delivery means nothing to us (`unknown_topic`, `stub`, ...): counted, kept raw."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A condition's answer. `recheck_at` is the first instant at which it can change with no new event, or None."""

    matched: bool
    because: str
    recheck_at: Millis | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """All that conditions may ask about one person.

    `events` by name, oldest first: the names and reach are those the compiled rules asked for. `segments` holds the
    verdicts already reached in this evaluation. `consent` maps channel to state.
    """

    traits: Mapping[str, Json]
    consent: Mapping[str, str]
    events: Mapping[str, "list[StoredEvent]"]
    segments: dict[str, Verdict] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as conditions see it. `day` counts days since 1970-01-01 in the store's time zone."""

    at: Millis
    day: int
    properties: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """The merchant's store: IANA time zone and ISO 4217 currency decide days and money."""

    name: str = "My store"
    timezone: str = "UTC"
    currency: str = "USD"


# --- configuration: what storecue.yaml says, validated ----------------------------------------------------------------

CreatePolicy = Literal["always", "consented", "never"]
Duplicates = Literal["leave", "merge"]


@dataclass(frozen=True, slots=True)
class BrowserConfig:
    """What a source takes from browsers: its public write keys, the origins of the pages, events per second and key."""

    keys: tuple[str, ...]
    origins: tuple[str, ...]
    events_per_second: int = 500


@dataclass(frozen=True, slots=True)
class AdminConfig:
    """How a source's own API is reached, to read what was before and what was missed. `client_id` and `client_secret`,
    or `access_token`, are references or encrypted values as in SourceConfig; `base_url` as in DestinationConfig."""

    shop: str
    client_id: str | None = None
    client_secret: str | None = None
    access_token: str | None = None
    version: str = "2026-10"
    base_url: str | None = None
    allow_insecure: bool = False


ADMIN_SECRETS = ("client_id", "client_secret", "access_token")
"""What of an AdminConfig is kept as a secret."""


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """A configured source. `secrets` are references (`env:NAME`, `file:PATH`) or encrypted values (`enc:...`). `shop`:
    the source whose user and order ids this one sends, and which is the truth about its orders. `silent_after`: how
    long, such as 6h, no good delivery may come until somebody is told. `options`: its kind's own, such as a mapping.
    `admin`: its own API, when we may ask it."""

    name: str
    kind: str
    secrets: tuple[str, ...]
    browser: BrowserConfig | None = None
    shop: str | None = None
    silent_after: str | None = None
    options: Mapping[str, Json] = field(default_factory=dict)
    admin: AdminConfig | None = None


Published = Literal["events", "memberships"]


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """A configured stream: the topic of a broker. It is read `into` a source, or what is in `publish` is written to it.
    `credentials` hold references as in SourceConfig; `options` are its kind's own."""

    name: str
    kind: str
    topic: str
    into: str | None = None
    publish: tuple[Published, ...] = ()
    credentials: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VerifyConfig:
    """How a destination is read back at night: how many contacts, and whether what differs is put right."""

    sample: int = 200
    repair: bool = True


@dataclass(frozen=True, slots=True)
class DestinationConfig:
    """A configured destination. `credentials` hold references as in SourceConfig; `segments` None means all; `verify`
    None means never at night; `engagement`: how often, such as 15m, the account is asked what people do with mails."""

    name: str
    kind: str
    credentials: Mapping[str, str]
    list_id: str | None = None
    base_url: str | None = None
    allow_insecure: bool = False
    dry_run: bool = False
    segments: tuple[str, ...] | None = None
    lists: bool = False
    events: bool = False
    backfill: bool = False
    create_contacts: CreatePolicy = "always"
    duplicates: Duplicates = "leave"
    at_most_every: str = "1m"
    wait_for_more: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    verify: VerifyConfig | None = VerifyConfig()
    engagement: str | None = None


@dataclass(frozen=True, slots=True)
class FieldConfig:
    """A field pushed to `destinations` (None means all): `source` is a path such as `traits.total_spent`; type as in
    adapters."""

    name: str
    source: str
    type: Literal["text", "number", "boolean", "date", "datetime", "list", "object"]
    label: str
    destinations: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class SegmentConfig:
    """A segment: `id` is its slug and the tag at the vendors, `when` the rule as written."""

    id: str
    name: str
    when: Mapping[str, Json]


_NOBODYS: Mapping[str, tuple[str, ...]] = {
    "email": ("test@test.com", "noreply@*", "no-reply@*", "none@none.com", "na@na.com", "*.invalid"),
    "phone": ("+10000000000", "+11111111111", "+12345678900"),
    "anonymous_id": ("0", "null", "undefined", "none", "00000000-0000-0000-0000-000000000000"),
}
_MOST: Mapping[str, int] = {"email": 20, "phone": 20, "anonymous_id": 500, "checkout_token": 5_000, "cart_token": 5_000}


@dataclass(frozen=True, slots=True)
class IdentityConfig:
    """What identifiers are worth. `blocked` by kind: values (with * for any text) that are nobody's; `limits` by kind:
    how many of them one profile may have."""

    blocked: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {kind: tuple(sorted(values)) for kind, values in sorted(_NOBODYS.items())}
    )
    limits: Mapping[str, int] = field(default_factory=lambda: dict(_MOST))


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything configured, in the file's order. `version` grows with each applied change."""

    version: int = 0
    store: StoreInfo = StoreInfo()
    identity: IdentityConfig = field(default_factory=IdentityConfig)
    sources: Mapping[str, SourceConfig] = field(default_factory=dict)
    destinations: Mapping[str, DestinationConfig] = field(default_factory=dict)
    streams: Mapping[str, StreamConfig] = field(default_factory=dict)
    fields: Mapping[str, FieldConfig] = field(default_factory=dict)
    segments: Mapping[str, SegmentConfig] = field(default_factory=dict)

    def fields_of(self, destination: str) -> list[FieldConfig]:
        """The fields that a destination shows."""
        return [one for one in self.fields.values() if one.destinations is None or destination in one.destinations]
