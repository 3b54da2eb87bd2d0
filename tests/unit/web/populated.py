"""A small shop's state, written row by row, so that each test knows every number it reads."""

import json

from sqlalchemy import insert

from connector.clock import DAY, HOUR, MINUTE, SECOND
from connector.config import store as configuration_store
from connector.config.schema import configuration_from
from connector.config.settings import Settings
from connector.config.yaml_file import parse
from connector.ports import New
from connector.services import Services
from connector.storage import counters
from connector.storage.tables import (
    account,
    change,
    cue,
    dead_letter,
    event,
    identifier,
    log_position,
    membership,
    profile,
    push,
    refill,
    sync_state,
)

NOW = 1_795_000_000_000
TOKEN = "a-token-of-the-environment"
AUTHORISED = {"Authorization": f"Bearer {TOKEN}"}

FILE = """
version: 1
store: {name: Quay Lane, timezone: Europe/Lisbon, currency: EUR}
sources:
  shop: {kind: shopify, secrets: ["env:SHOP_SECRET"]}
destinations:
  klaviyo: {kind: klaviyo, credentials: {api_key: "env:KLAVIYO_KEY"}}
  mailchimp: {kind: mailchimp, credentials: {api_key: "env:MAILCHIMP_KEY"}, list_id: abc123, dry_run: true}
fields:
  total_spent: {from: traits.total_spent}
segments:
  vip:
    name: VIP
    when: {trait: total_spent, ">=": 1000}
  recent-buyers:
    name: Bought in the last 7 days
    when: {event: Order Completed, within: 7d}
"""

ADA, BEA, GONE = 1, 2, 3
"""Ada buys and is a VIP; Bea only looked; Gone was merged into Ada."""


def settings(folder):
    return Settings.from_environment(
        {
            "STORECUE_DATA": str(folder),
            "STORECUE_API_TOKEN": TOKEN,
            "STORECUE_PUBLIC_URL": "https://cues.quay.example",
            "STORECUE_PARTITIONS": "4",
        }
    )


def services(folder):
    """Services over a fresh SQLite folder, configured with FILE and populated."""
    made = Services(settings(folder))
    configuration_store.apply(made.database, made.vault, configuration_from(parse(FILE)), NOW - 30 * DAY)
    _deliver(made)
    with made.database.tx() as tx:
        _people(tx)
        _decisions(tx)
        _sending(tx)
        _letters(tx)
    return made


def _deliver(made):
    """Four deliveries of one customer, of which the first two are worked off."""
    made.log.append(
        [
            New(
                key="shop/207119551",
                source="shop",
                delivery_id=f"d-{number}",
                topic=topic,
                received_at=NOW - (5 - number) * MINUTE,
                headers=json.dumps({"x-shopify-topic": topic}),
                body=body,
            )
            for number, (topic, body) in enumerate(
                [
                    ("orders/create", b'{"id": 450789469}'),
                    ("customers/update", b'{"id": 207119551}'),
                    ("orders/create", b'{"id": 450789470}'),
                    ("carts/update", b"\xff\xfe"),
                ],
                1,
            )
        ]
    )
    with made.inbox.read() as inbox, made.database.tx() as tx:
        part = inbox.exec_driver_sql("select part from delivery limit 1").scalar_one()
        tx.execute(insert(log_position).values(part=part, pos=2))
        counters.add(tx, {("deliveries", "shop/orders/create"): 1, ("deliveries", "shop/customers/update"): 1}, NOW)
        counters.add(tx, {("skipped", "shop/unknown_topic"): 3, ("pushes", "klaviyo/applied"): 2}, NOW)


def _people(tx):
    rows = [
        (ADA, "ada@quay.example", {"first_name": "Ada", "total_spent": 1240.5, "orders_count": 2}, None),
        (BEA, "bea@quay.example", {"first_name": "Bea", "total_spent": 10}, None),
        (GONE, None, {}, ADA),
    ]
    for id_, email, traits, merged_into in rows:
        consent = {"email": {"state": "subscribed", "at": NOW - DAY, "source": "shop", "opt_in_level": "single_opt_in"}}
        tx.execute(
            insert(profile).values(
                id=id_,
                email=email,
                traits=json.dumps(traits),
                consent=json.dumps(consent if id_ == ADA else {}),
                created_at=NOW - 10 * DAY + id_,
                updated_at=NOW - HOUR,
                merged_into=merged_into,
            )
        )
    identifiers = [
        ("customer_id", "shop:207119551", ADA),
        ("email", "ada@quay.example", ADA),
        ("phone", "+351912345678", ADA),
        ("checkout_token", "c-77", ADA),
        ("anonymous_id", "visitor-9", ADA),
        ("email", "bea@quay.example", BEA),
    ]
    for kind, value, person in identifiers:
        tx.execute(
            insert(identifier).values(kind=kind, value=value, profile_id=person, source="shop", seen_at=NOW - HOUR)
        )
    for number, age in enumerate((9 * DAY, 2 * DAY), 1):
        tx.execute(
            insert(event).values(
                profile_id=ADA,
                at=NOW - age,
                id=f"order-{number}",
                name="Order Completed",
                day=(NOW - age) // DAY,
                properties=json.dumps({"total": 600.25}),
                source="shop",
            )
        )
    for seq, (kind, data) in enumerate([("created", {}), ("segment", {"segment": "vip", "in": True})]):
        tx.execute(insert(change).values(profile_id=ADA, at=NOW - 2 * DAY, seq=seq, kind=kind, data=json.dumps(data)))


def _decisions(tx):
    tx.execute(
        insert(membership),
        [
            {
                "segment": "vip",
                "profile_id": ADA,
                "matched": 1,
                "since": NOW - 2 * DAY,
                "because": "total_spent is 1240.5, at least 1000",
                "recheck_at": None,
            },
            {
                "segment": "recent-buyers",
                "profile_id": ADA,
                "matched": 1,
                "since": NOW - 2 * DAY,
                "because": "Order Completed 2 days ago",
                "recheck_at": NOW + 5 * DAY,
            },
        ],
    )
    tx.execute(insert(refill).values(segment="vip", position=250, last=1000, started_at=NOW - 10 * SECOND))


def _sending(tx):
    shown = json.dumps({"email": "ada@quay.example", "tags": ["vip"], "fields": {"total_spent": 1240.5}})
    for destination, pushed, pending in (("klaviyo", shown, 0), ("mailchimp", None, 1)):
        tx.execute(
            insert(sync_state).values(
                destination=destination,
                profile_id=ADA,
                desired=shown,
                pushed=pushed,
                pending=pending,
                remote_id="01ABC" if pushed else None,
                due_at=NOW - MINUTE,
                changed_at=NOW - 3 * MINUTE,
            )
        )
    tx.execute(
        insert(cue).values(
            key="vip:entered:1:1",
            destination="mailchimp",
            profile_id=ADA,
            name="Segment Entered",
            at=NOW - DAY,
            properties="{}",
            due_at=NOW,
        )
    )
    for at, status, reason in (
        (NOW - 2 * DAY, "applied", ""),
        (NOW - 30 * MINUTE, "retry", "rate_limited"),
        (NOW - 2 * MINUTE, "applied", ""),
    ):
        tx.execute(
            insert(push).values(
                destination="klaviyo",
                profile_id=ADA,
                kind="change",
                at=at,
                status=status,
                reason=reason,
                message="",
                data=json.dumps({"tags_added": ["vip"], "tags_removed": [], "fields": {}}),
            )
        )
    tx.execute(
        insert(account).values(destination="mailchimp", state="unauthorized", message="the key is void", updated_at=NOW)
    )


def _letters(tx):
    for reference, kind, origin, reason, body in (
        ("d-2", "delivery", "shop", "no_total", b'{"id": 1}'),
        ("1", "push", "klaviyo", "invalid_email", b"{}"),
    ):
        tx.execute(
            insert(dead_letter).values(
                kind=kind,
                origin=origin,
                reference=reference,
                topic="orders/create" if kind == "delivery" else "",
                reason=reason,
                message="told in words",
                at=NOW - HOUR,
                body=body,
            )
        )
