"""The whole schema. Instants are epoch milliseconds UTC; JSON is stored as text; money in entities' typed columns is
in minor units of the shop's currency."""

from sqlalchemy import DDL, BigInteger, Column, Float, Index, Integer, LargeBinary, MetaData, Table, Text, text
from sqlalchemy.event import listen

metadata = MetaData()
"""The state: profiles, memberships, desired and pushed, configuration."""

inbox_metadata = MetaData()
"""The log of deliveries. On SQLite it is a file of its own, so that ingest never waits for the worker's writes."""

BigId = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER PRIMARY KEY is SQLite's own rowid

# --- the log ---------------------------------------------------------------------------------------------------------

log_head = Table(
    "log_head",
    inbox_metadata,
    Column("part", Integer, primary_key=True),
    Column("head", BigInteger, nullable=False),  # the next position to be written
)

delivery = Table(
    "delivery",
    inbox_metadata,
    Column("id", BigId, primary_key=True),  # arrival order; keeps inserts at the end of the file
    Column("part", Integer, nullable=False),
    Column("pos", BigInteger, nullable=False),
    Column("key", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("delivery_id", Text, nullable=False),
    Column("topic", Text, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("headers", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("delivery_part_pos", "part", "pos", unique=True),
)
# PostgreSQL would try to compress what is packed, and put away in a table beside it what makes a row of more than 2 KB,
# as many a delivery does: a third of what writing it costs the server (2026-11). Up to half a page stays in its row.
_IN_ITS_ROW = "ALTER TABLE delivery SET (toast_tuple_target = 4096), ALTER COLUMN body SET STORAGE EXTERNAL"
_in_its_row = DDL(_IN_ITS_ROW).execute_if(dialect="postgresql")  # type: ignore[no-untyped-call]  # SQLAlchemy's own
listen(delivery, "after_create", _in_its_row)

# --- the runner ------------------------------------------------------------------------------------------------------

log_position = Table(
    "log_position",
    metadata,
    Column("part", Integer, primary_key=True),
    Column("pos", BigInteger, nullable=False),  # the next position to work on, compare-and-swapped with the effects
    # A worker died over what lies below `risky_to`: so many records of it at once; 0: the next one is not to be tried.
    Column("risky_to", BigInteger, nullable=False, server_default=text("0")),
    Column("at_once", Integer, nullable=False, server_default=text("0")),
)

log_topic = Table(
    "log_topic",
    metadata,
    # Topics that are or were the log, and where the numbers of their partitions begin: each has numbers of its own.
    Column("id", Text, primary_key=True),  # cluster/name/id of the topic
    Column("first", Integer, nullable=False, unique=True),
)

claim = Table(
    "claim",
    metadata,
    # Bodies too large for a record of the log, from before they are appended until they are worked off.
    Column("id", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),  # zstd
    Index("claim_at", "at"),
)

parked_key = Table(
    "parked_key",
    metadata,
    # A customer key whose deliveries wait behind one that broke us (see inbox.parking).
    Column("key", Text, primary_key=True),
    Column("waiting", Integer, nullable=False),  # deliveries, the broken one among them
    Column("attempts", Integer, nullable=False),  # that failed since the last one that went through
    Column("due_at", BigInteger, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("message", Text, nullable=False),  # of the last attempt
    Column("deaths", Integer, nullable=False, server_default=text("0")),  # of workers, over the first delivery alone
    Index("parked_key_due", "due_at"),
    sqlite_with_rowid=False,
)

parked = Table(
    "parked",
    metadata,
    Column("id", BigId, primary_key=True),  # a customer's are tried in this order; positions of another log are others
    Column("key", Text, nullable=False),
    Column("pos", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("delivery_id", Text, nullable=False),
    Column("topic", Text, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("headers", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("parked_key_id", "key", "id"),
    Index("parked_delivery", "source", "delivery_id"),
)

seen = Table(
    "seen",
    metadata,
    Column("source", Text, primary_key=True),
    Column("delivery_id", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Index("seen_at", "at"),
    sqlite_with_rowid=False,
)

dead_letter = Table(
    "dead_letter",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("kind", Text, nullable=False),  # delivery | push | cue
    Column("origin", Text, nullable=False),  # source or destination name
    Column("reference", Text, nullable=False),  # delivery id, or profile id
    Column("topic", Text, nullable=False, server_default=""),
    Column("reason", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("received_at", BigInteger),  # of a delivery: it may have been parked before it came here
    Column("headers", Text, nullable=False, server_default="{}"),
    Column("body", LargeBinary, nullable=False),
    Column("state", Text, nullable=False, server_default="open"),  # open | replayed | discarded
    Index("dead_letter_state", "state", "at"),
)

counter = Table(
    "counter",
    metadata,
    Column("name", Text, primary_key=True),  # such as deliveries
    Column("label", Text, primary_key=True),  # such as shop/orders/create
    Column("count", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# --- processes -------------------------------------------------------------------------------------------------------

process = Table(
    "process",
    metadata,
    # Processes that hold leases or follow the log, on the database's clock (see storage.leases).
    Column("id", Text, primary_key=True),  # host/pid/chance
    Column("kind", Text, nullable=False),  # worker | push | command
    Column("since", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),  # then others may take what it holds
)

lease = Table(
    "lease",
    metadata,
    # Which process does what only one may do at a time. Not on SQLite, where a lock on a file says so.
    Column("work", Text, primary_key=True),  # push | fetch | stream
    Column("name", Text, primary_key=True),  # of the destination, the source or the stream
    Column("owner", Text),  # process.id; None: nobody
    Column("last_owner", Text),
    Column("token", BigInteger, nullable=False),  # grows each time it is taken
    Column("taken_at", BigInteger, nullable=False),
    Column("given_back_at", BigInteger),
)

# --- profiles --------------------------------------------------------------------------------------------------------

profile = Table(
    "profile",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("traits", Text, nullable=False),  # JSON object: declared and computed
    Column("consent", Text, nullable=False),  # JSON object: channel -> {state, at, source, opt_in_level}
    Column("email", Text),  # the address to write to, verified before unverified
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("merged_into", BigInteger),
    Index(
        "profile_merged",
        "merged_into",
        sqlite_where=text("merged_into IS NOT NULL"),
        postgresql_where=text("merged_into IS NOT NULL"),
    ),
)

identifier = Table(
    "identifier",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("profile_id", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("shared", Integer, nullable=False, server_default=text("0")),  # 1: a device of several known people
    # As of when its owner, the shop, said whose it is; 0: nobody with that authority has.
    Column("owned_at", BigInteger, nullable=False, server_default=text("0")),
    Index("identifier_profile", "profile_id"),
    sqlite_with_rowid=False,
)

event = Table(
    "event",
    metadata,
    # Clustered by person and time: 2.5 times faster to recompute a million people than a rowid table with an index.
    Column("profile_id", BigInteger, primary_key=True),
    Column("at", BigInteger, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("day", Integer, nullable=False),  # days since 1970-01-01 in the store's time zone
    Column("properties", Text, nullable=False),
    Column("source", Text, nullable=False),
    Index("event_id", "id", unique=True),
    sqlite_with_rowid=False,
)

pruned_event = Table(
    "pruned_event",
    metadata,
    # Up to when events of a name were thrown away for their age, and how many (see connector.old_events).
    Column("name", Text, primary_key=True),
    Column("before", BigInteger, nullable=False),  # those at or after it are all here
    Column("count", BigInteger, nullable=False),
)

change = Table(
    "change",
    metadata,
    # What became different about a person: the rest of the timeline, beside the events.
    Column("profile_id", BigInteger, primary_key=True),
    Column("at", BigInteger, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("kind", Text, nullable=False),  # created | traits | consent | segment | identifier | merged
    Column("data", Text, nullable=False),
    sqlite_with_rowid=False,
)

entity = Table(
    "entity",
    metadata,
    Column("source", Text, primary_key=True),
    Column("kind", Text, primary_key=True),  # customer | checkout | cart | product | collection | shop
    Column("id", Text, primary_key=True),
    Column("profile_id", BigInteger),
    Column("updated_at", BigInteger, nullable=False),
    Column("deleted", Integer, nullable=False, server_default=text("0")),
    Column("data", Text, nullable=False),
    Index("entity_profile", "profile_id"),
    sqlite_with_rowid=False,
)

shop_order = Table(
    "shop_order",
    metadata,
    Column("source", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("profile_id", BigInteger),
    Column("updated_at", BigInteger, nullable=False),
    Column("placed_at", BigInteger, nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("refunded", BigInteger, nullable=False, server_default=text("0")),  # always the sum of its refund rows
    Column("counts", Integer, nullable=False),  # 0: cancelled, deleted or a test order
    Column("data", Text, nullable=False),
    Index("shop_order_profile", "profile_id"),
    sqlite_with_rowid=False,
)

refund = Table(
    "refund",
    metadata,
    Column("source", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("order_id", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
    Index("refund_order", "source", "order_id", "amount"),  # without the amount SQLite 3.40 prefers the primary key
    sqlite_with_rowid=False,
)

# --- segments --------------------------------------------------------------------------------------------------------

membership = Table(
    "membership",
    metadata,
    # No row: out, never was in, and no window can change that.
    Column("segment", Text, primary_key=True),
    Column("profile_id", BigInteger, primary_key=True),
    Column("matched", Integer, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("because", Text, nullable=False),
    Column("recheck_at", BigInteger),
    Index("membership_profile", "profile_id"),
    Index(
        "membership_recheck",
        "recheck_at",
        sqlite_where=text("recheck_at IS NOT NULL"),
        postgresql_where=text("recheck_at IS NOT NULL"),
    ),
    sqlite_with_rowid=False,
)

refill = Table(
    "refill",
    metadata,
    Column("segment", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),  # profiles up to this id are done
    Column("last", BigInteger, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
)

# --- sync ------------------------------------------------------------------------------------------------------------

sync_state = Table(
    "sync_state",
    metadata,
    Column("destination", Text, primary_key=True),
    Column("profile_id", BigInteger, primary_key=True),
    Column("desired", Text, nullable=False),  # JSON, see sync.desired
    Column("pushed", Text),  # what the vendor last accepted, None: nothing yet
    Column("remote_id", Text),
    Column("pending", Integer, nullable=False),  # 1: desired differs from pushed and nobody has given up
    Column("due_at", BigInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    Column("pushed_at", BigInteger, nullable=False, server_default=text("0")),  # of the last accepted write, 0: none
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("bulk", Integer, nullable=False, server_default=text("0")),  # 1: pending by a decision about many
    Column("held", BigInteger, nullable=False, server_default=text("0")),  # its number (account.decisions), 0: may go
    # Of somebody who is part of another: their contact is to be merged there (unite), or has been (united).
    Column("duplicate", Text, nullable=False, server_default=""),
    Index(
        "sync_state_pending",
        "destination",
        "held",
        "bulk",
        "due_at",
        sqlite_where=text("pending = 1"),
        postgresql_where=text("pending = 1"),
    ),
    Index("sync_state_profile", "profile_id"),
    Index(
        "sync_state_remote",
        "destination",
        "remote_id",
        sqlite_where=text("remote_id IS NOT NULL"),
        postgresql_where=text("remote_id IS NOT NULL"),
    ),
    Index(
        "sync_state_duplicate",
        "destination",
        "duplicate",
        "pending",
        "due_at",
        sqlite_where=text("duplicate != ''"),
        postgresql_where=text("duplicate != ''"),
    ),
    sqlite_with_rowid=False,
)

cue = Table(
    "cue",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("key", Text, nullable=False),
    Column("destination", Text, nullable=False),
    Column("profile_id", BigInteger, nullable=False),
    Column("name", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("properties", Text, nullable=False),
    Column("backfill", Integer, nullable=False, server_default=text("0")),
    Column("state", Text, nullable=False, server_default="pending"),  # pending | sent | skipped | dead
    Column("due_at", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Index("cue_key", "destination", "key", unique=True),
    Index(
        "cue_pending",
        "destination",
        "due_at",
        sqlite_where=text("state = 'pending'"),
        postgresql_where=text("state = 'pending'"),
    ),
    Index("cue_profile", "profile_id"),
    Index("cue_at", "at"),
)

push = Table(
    "push",
    metadata,
    # What was sent to a vendor and what it said: one row per item, pruned by age.
    Column("id", BigId, primary_key=True),
    Column("destination", Text, nullable=False),
    Column("profile_id", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),  # change | cue | list | merge
    Column("at", BigInteger, nullable=False),
    Column("status", Text, nullable=False),  # applied | retry | rejected | skipped
    Column("reason", Text, nullable=False, server_default=""),
    Column("message", Text, nullable=False, server_default=""),
    Column("data", Text, nullable=False),
    Index("push_destination", "destination", "at"),
    Index("push_profile", "profile_id"),
    Index("push_at", "at"),
)

vendor_list = Table(
    "vendor_list",
    metadata,
    Column("destination", Text, primary_key=True),
    Column("segment", Text, primary_key=True),
    Column("list_id", Text, nullable=False),
)

vendor_job = Table(
    "vendor_job",
    metadata,
    # An adapter's own notes: what it has under way at the vendor, struck out when that has ended, and what it has to
    # know again.
    Column("destination", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("note", Text, nullable=False),
)

account = Table(
    "account",
    metadata,
    # The state of a destination's account, shared by all processes.
    Column("destination", Text, primary_key=True),
    Column("state", Text, nullable=False),  # active | paused | unauthorized
    Column("message", Text, nullable=False, server_default=""),
    Column("retry_at", BigInteger, nullable=False, server_default=text("0")),
    Column("provisioned", Text, nullable=False, server_default=""),  # fingerprint of what was provisioned
    Column("updated_at", BigInteger, nullable=False),
    # Whose account it is, and which credentials said so: salted digests (see sync.login).
    Column("account_id", Text, nullable=False, server_default=""),
    Column("account_name", Text, nullable=False, server_default=""),
    Column("known_key", Text, nullable=False, server_default=""),
    Column("refused_key", Text, nullable=False, server_default=""),
    # Decisions about many (see sync.guard), by number: the latest, the last judged, let go, and with its rows freed.
    Column("decisions", BigInteger, nullable=False, server_default=text("0")),
    Column("judged", BigInteger, nullable=False, server_default=text("0")),
    Column("released", BigInteger, nullable=False, server_default=text("0")),
    Column("freed", BigInteger, nullable=False, server_default=text("0")),
    Column("settles_at", BigInteger, nullable=False, server_default=text("0")),  # how many it is about is known then
    Column("hold", Text, nullable=False, server_default=""),  # JSON, see sync.guard.Hold; empty: nothing is held
    Column("lately", Text, nullable=False, server_default=""),  # JSON, see sync.guard.Lately: what was let go unasked
)

poll = Table(
    "poll",
    metadata,
    # Up to when a destination's account has told what people did with its mails (see sync.poll).
    Column("destination", Text, primary_key=True),
    Column("watermark", BigInteger, nullable=False),  # everything before it is in the log
    Column("due_at", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),  # when it was last asked
    Column("error", Text, nullable=False, server_default=""),
)

verification = Table(
    "verification",
    metadata,
    # What reading a destination back came to: once a night, and when somebody asks for it.
    Column("id", BigId, primary_key=True),
    Column("destination", Text, nullable=False),
    Column("night", BigInteger),  # when the store's night began for this destination; None: somebody asked
    Column("state", Text, nullable=False),  # wanted | done | failed
    Column("at", BigInteger, nullable=False),  # of its last change
    Column("sample", Integer, nullable=False),
    Column("repair", Integer, nullable=False),
    Column("contacts", BigInteger, nullable=False, server_default=text("0")),
    Column("checked", BigInteger, nullable=False, server_default=text("0")),
    Column("drifted", BigInteger, nullable=False, server_default=text("0")),
    Column("repaired", BigInteger, nullable=False, server_default=text("0")),
    Column("differences", Text, nullable=False, server_default="{}"),  # JSON: difference -> {count, profiles}
    Column("error", Text, nullable=False, server_default=""),
    Index("verification_night", "destination", "night", unique=True),
    Index("verification_at", "at"),
)

# --- identity --------------------------------------------------------------------------------------------------------

merge = Table(
    "merge",
    metadata,
    # The journal of people found to be one: what, why, when, and what was moved, so that it can be undone.
    Column("id", BigId, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("winner", BigInteger, nullable=False),
    Column("loser", BigInteger, nullable=False),
    Column("because", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("delivery_id", Text, nullable=False),  # the delivery that showed it
    Column("winner_before", Text, nullable=False),  # JSON {traits, consent, email}
    Column("loser_before", Text, nullable=False),
    Column("moved", LargeBinary, nullable=False),  # zstd of JSON {identifiers, events, entities, orders}: their keys
    Column("state", Text, nullable=False, server_default="merged"),  # merged | undone
    Column("undone_at", BigInteger),
    Index("merge_winner", "winner"),
    Index("merge_loser", "loser"),
)

apart = Table(
    "apart",
    metadata,
    # Two profiles that a person has said are two people, lower id first.
    Column("low", BigInteger, primary_key=True),
    Column("high", BigInteger, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Index("apart_high", "high"),
    sqlite_with_rowid=False,
)

likeness = Table(
    "likeness",
    metadata,
    # What profiles are compared by, see profiles.duplicates.
    Column("kind", Text, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("profile_id", BigInteger, primary_key=True),
    Index("likeness_profile", "profile_id"),
    sqlite_with_rowid=False,
)

suspect = Table(
    "suspect",
    metadata,
    # Two profiles that may be one person.
    Column("low", BigInteger, primary_key=True),
    Column("high", BigInteger, primary_key=True),
    Column("score", Float, nullable=False),
    Column("because", Text, nullable=False),  # JSON array of kinds of likeness
    Column("at", BigInteger, nullable=False),
    Column("state", Text, nullable=False),  # open | dismissed
    Index("suspect_high", "high"),
    Index(
        "suspect_open",
        "score",
        sqlite_where=text("state = 'open'"),
        postgresql_where=text("state = 'open'"),
    ),
    sqlite_with_rowid=False,
)

# --- quality ---------------------------------------------------------------------------------------------------------

shape = Table(
    "shape",
    metadata,
    # What stands where in the deliveries of a topic, as far as it was looked at.
    Column("source", Text, primary_key=True),
    Column("topic", Text, primary_key=True),
    Column("path", Text, primary_key=True),
    Column("type", Text, primary_key=True),
    Column("state", Text, nullable=False),  # known | notice (new, and nobody has read of it)
    Column("delivery_id", Text, nullable=False),  # the first one that had it
    Column("first_at", BigInteger, nullable=False),
    Index(
        "shape_notice",
        "source",
        sqlite_where=text("state = 'notice'"),
        postgresql_where=text("state = 'notice'"),
    ),
    sqlite_with_rowid=False,
)

# --- the past --------------------------------------------------------------------------------------------------------

backfill = Table(
    "backfill",
    metadata,
    # The fetching of one kind of thing from a source's past, as far as it has come (see connector.backfill.work).
    Column("source", Text, primary_key=True),
    Column("kind", Text, primary_key=True),  # customers | orders | ...
    Column("since", BigInteger),  # what changed since then; None: everything
    Column("state", Text, nullable=False),  # wanted | bulk | sort | append | pages | done | failed | cancelled
    Column("operation", Text),  # the source's id of a bulk operation
    Column("partial", Integer, nullable=False, server_default=text("0")),  # 1: it failed; pages must do the rest
    Column("as_of", BigInteger),  # the instant that its result describes
    Column("size", BigInteger),  # bytes of the result
    Column("loaded", BigInteger, nullable=False, server_default=text("0")),  # bytes of it that are safely on our disk
    Column("position", BigInteger, nullable=False, server_default=text("0")),  # bytes of it that are in the log
    Column("cursor", Text),  # of the next page
    Column("expected", BigInteger),  # things; None: not known
    Column("fetched", BigInteger, nullable=False, server_default=text("0")),  # things put in line
    Column("attempts", Integer, nullable=False, server_default=text("0")),  # that failed, since something went on
    Column("due_at", BigInteger, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("message", Text, nullable=False, server_default=""),
    sqlite_with_rowid=False,
)

reconciliation = Table(
    "reconciliation",
    metadata,
    # How far what changed at a source has been compared with what came, by kind; `` stands for the subscriptions.
    Column("source", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("until", BigInteger, nullable=False),  # changes up to then are here
    Column("cursor", Text),  # of a run that was interrupted, which began at `began_at`
    Column("began_at", BigInteger),
    Column("at", BigInteger, nullable=False),  # when it was last tried
    Column("missed", BigInteger, nullable=False, server_default=text("0")),  # things that no delivery had told of
    Column("message", Text, nullable=False, server_default=""),
    sqlite_with_rowid=False,
)

# --- what is fetched -------------------------------------------------------------------------------------------------

fetch = Table(
    "fetch",
    metadata,
    # Things that a delivery has only named, to be asked for (see connector.fetch.work).
    Column("source", Text, primary_key=True),
    Column("kind", Text, primary_key=True),  # the source's own word
    Column("id", Text, primary_key=True),
    Column("asked", Integer, nullable=False),  # deliveries that told of it: grows while the fetch is under way
    Column("asked_at", BigInteger, nullable=False),  # when the latest of them was received
    Column("quiet", Integer, nullable=False, server_default=text("0")),  # 1: what is found fires nothing
    Column("due_at", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),  # that failed
    Column("message", Text, nullable=False, server_default=""),
    Index("fetch_due", "source", "due_at"),
    sqlite_with_rowid=False,
)

source_poll = Table(
    "source_poll",
    metadata,
    # How far a source that tells nothing by itself has been asked, by kind of thing.
    Column("source", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("watermark", BigInteger),  # changes up to then are in the log; None: none yet
    Column("begun_at", BigInteger, nullable=False),  # what changed before is history, and fires nothing
    Column("due_at", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),  # when it was last asked
    Column("attempts", Integer, nullable=False, server_default=text("0")),  # that failed, in a row
    Column("message", Text, nullable=False, server_default=""),
    sqlite_with_rowid=False,
)

source_access = Table(
    "source_access",
    metadata,
    # Sources that let us in no more; a row goes once they do again.
    Column("source", Text, primary_key=True),
    Column("message", Text, nullable=False),
    Column("version", BigInteger, nullable=False),  # of the configuration: a newer one is tried at once
    Column("until", BigInteger, nullable=False),
    Column("since", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# --- privacy ---------------------------------------------------------------------------------------------------------

privacy_request = Table(
    "privacy_request",
    metadata,
    # What the law lets people ask for, and its receipt. No address is kept once a request is closed.
    Column("id", BigId, primary_key=True),
    Column("kind", Text, nullable=False),  # export | erase | erase_source
    Column("source", Text, nullable=False),  # who asked: a source, or api
    Column("reference", Text, nullable=False),  # the sender's delivery id
    Column("profile_id", BigInteger),
    Column("received_at", BigInteger, nullable=False),
    Column("run_at", BigInteger, nullable=False),  # erasing a whole source waits, so that it can be cancelled
    Column("state", Text, nullable=False),  # open | done | cancelled
    Column("people", BigInteger, nullable=False, server_default=text("0")),  # erased
    Column("deliveries", BigInteger, nullable=False, server_default=text("0")),  # raw ones erased
    Column("closed_at", BigInteger),
    Column("message", Text, nullable=False, server_default=""),
    Index("privacy_request_reference", "source", "reference", unique=True),
    Index("privacy_request_state", "state", "run_at"),
    Index("privacy_request_profile", "profile_id"),
)

erasure = Table(
    "erasure",
    metadata,
    # A contact that a destination has to erase. The address is emptied when it has.
    Column("id", BigId, primary_key=True),
    Column("request_id", BigInteger, nullable=False),
    Column("destination", Text, nullable=False),
    Column("profile_id", BigInteger, nullable=False),
    Column("email", Text, nullable=False),
    Column("remote_id", Text),
    Column("state", Text, nullable=False, server_default="pending"),  # pending | done | dead
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("due_at", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),  # of its last change
    Column("message", Text, nullable=False, server_default=""),
    Index("erasure_request", "request_id"),
    Index(
        "erasure_pending",
        "destination",
        "due_at",
        sqlite_where=text("state = 'pending'"),
        postgresql_where=text("state = 'pending'"),
    ),
)

trace = Table(
    "trace",
    metadata,
    # What raw deliveries and dead letters of an erased person are found by; gone when they are.
    Column("request_id", BigInteger, primary_key=True),
    Column("needles", Text, nullable=False),  # JSON array of texts
    Column("until", BigInteger, nullable=False),  # deliveries received later are of a new acquaintance
    Column("position", BigInteger, nullable=False, server_default=text("0")),  # the last raw delivery looked at
)

forgotten = Table(
    "forgotten",
    metadata,
    # Who was erased, as keyed digests of their identifiers: what was received before does not make them anew.
    Column("digest", LargeBinary, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Index("forgotten_at", "at"),
    sqlite_with_rowid=False,
)

# --- streams ---------------------------------------------------------------------------------------------------------

outbox = Table(
    "outbox",
    metadata,
    # What is still to be published, in the order in which it became true: written with what it tells of, deleted once
    # the broker has it. Empty while no stream publishes.
    Column("id", BigId, primary_key=True),
    Column("stream", Text, nullable=False),
    Column("profile_id", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("body", Text, nullable=False),  # a CloudEvent, see streams.outbox
    Index("outbox_stream", "stream", "id"),
    Index("outbox_profile", "profile_id"),
)

stream_position = Table(
    "stream_position",
    metadata,
    # Up to where a shard has been read, for streams whose broker does not keep it.
    Column("stream", Text, primary_key=True),
    Column("shard", Text, primary_key=True),  # topic/shard
    Column("sequence", Text, nullable=False),  # of the last record kept; at:<ms> or empty: none yet
    Column("finished", Integer, nullable=False, server_default=text("0")),  # 1: split or merged, and read to its end
    sqlite_with_rowid=False,
)

stream_standing = Table(
    "stream_standing",
    metadata,
    # How a stream stands, as its holder last told.
    Column("stream", Text, primary_key=True),
    Column("state", Text, nullable=False),  # active | waiting | failing
    Column("message", Text, nullable=False),
    Column("lag", BigInteger),  # records that wait at the broker, as far as it can tell
    Column("lag_ms", BigInteger),  # how far behind, where the broker tells that instead
    Column("at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# --- configuration ---------------------------------------------------------------------------------------------------

config_object = Table(
    "config_object",
    metadata,
    Column("kind", Text, primary_key=True),  # store | source | destination | field | segment
    Column("name", Text, primary_key=True),
    Column("definition", Text, nullable=False),
    Column("ordinal", Integer, nullable=False),  # the file's order, kept for export
    Column("updated_at", BigInteger, nullable=False),
)

meta = Table(
    "meta",
    metadata,
    Column("name", Text, primary_key=True),  # such as config_version, key_check, demo
    Column("value", Text, nullable=False),
)

SPENT = "last_spent_profile"
"""The name in `meta` of the highest profile id that no profile may get any more, where no sequence gives them."""

api_token = Table(
    "api_token",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("name", Text, nullable=False),
    Column("digest", Text, nullable=False, unique=True),  # SHA-256 of a 256-bit random token
    Column("created_at", BigInteger, nullable=False),
    Column("last_used_at", BigInteger),
    Column("revoked_at", BigInteger),
)
