"""Growth: what an order of a known customer costs the whole line, in stores of ever more people.

    python -m benchmarks.growth [--sizes 10000 100000] [--database sqlite postgresql] [--orders 2000]
    python -m benchmarks.growth --sizes 10000 1000000 --keep /tmp/growth

Each person has ten events, orders with their rows, two identifiers, memberships and contacts at two destinations, made
by SQL. Then one worker on one core works off orders of people picked at random from the whole store, so that nothing is
near anything else. The store's files are read once before, as if they had been in use: how long a disk looks for a page
is another question. CPU of the worker and of PostgreSQL, the worker's memory, and what the database did for an order:
thousands of SQLite's own steps, or what PostgreSQL looked at and wrote. The target is 1.5 times at most.
"""

import argparse
import os
import random
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import orjson
from sqlalchemy import Connection, text

from benchmarks.databases import PostgreSQL, postgresql
from benchmarks.rules import FIELDS, HEAD, SEGMENTS
from benchmarks.segment_data import make
from benchmarks.serving import cpu_seconds
from benchmarks.worker import Hired, Work, hired
from connector import clock
from connector.config import store as configuration_store
from connector.config.schema import configuration_from
from connector.config.settings import Settings
from connector.config.yaml_file import parse
from connector.domain import RawRequest
from connector.logs import configure
from connector.ports import New
from connector.segments import refill
from connector.services import Services
from connector.simulator import bodies
from connector.sources import SOURCES
from connector.storage import rows
from connector.storage.database import Database
from connector.storage.tables import event, identifier, membership, profile, shop_order, sync_state
from connector.worker import Worker

WORK = Path(__file__).parent / ".work"
EVENTS = 10  # of each person
_FILLED = (profile, event, identifier, shop_order, membership, sync_state)
_CONFIG = (
    HEAD
    + """
destinations:
  klaviyo: {kind: klaviyo, credentials: {api_key: pk_benchmark}}
  hubspot: {kind: hubspot, credentials: {access_token: pat-benchmark}}
"""
    + FIELDS
    + SEGMENTS
)
_ADDED = (
    """
    INSERT INTO identifier (kind, value, profile_id, source, seen_at, owned_at)
    SELECT 'customer_id', 'shop:' || id, id, 'shop', 0, 0 FROM profile ORDER BY 2
    """,
    """
    INSERT INTO identifier (kind, value, profile_id, source, seen_at)
    SELECT 'email', email, id, 'shop', 0 FROM profile ORDER BY 2
    """,
    """
    INSERT INTO shop_order (source, id, profile_id, updated_at, placed_at, total, counts, data)
    SELECT 'shop', id, profile_id, at, at, CAST(round(json_extract(properties, '$.total') * 100) AS INTEGER), 1, '{}'
    FROM event WHERE name = 'Order Completed'
    """,
    """
    INSERT INTO sync_state (destination, profile_id, desired, pushed, remote_id, pending, due_at, changed_at, pushed_at)
    SELECT d.value, p.id, s.value, s.value, 'r' || p.id, 0, 0, 0, 1
    FROM json_each('["hubspot", "klaviyo"]') AS d CROSS JOIN profile AS p CROSS JOIN
      (SELECT json_object('create', json('true'), 'email', 'p@example.com', 'fields', json_object('orders_count', 2,
        'total_spent', 100.5), 'first_name', 'Ada', 'last_name', 'Lovelace', 'tags',
        json_array('buyers-30d', 'named', 'subscribed')) AS value) AS s
    """,
)


class Cost(NamedTuple):
    """Of an order: CPU us of the worker and of the database's server, the database's own measures of its work; the
    worker's own memory and the most with mapped files, in MB."""

    worker: float
    server: float
    work: str
    own: float
    most: float


def main() -> None:
    """Prints a line by database and size, and the ratio of each to the smallest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--database", nargs="+", choices=("sqlite", "postgresql"), default=["sqlite", "postgresql"])
    parser.add_argument("--orders", type=int, default=2_000)
    parser.add_argument("--keep", type=Path, help="folder in which the filled SQLite stores stay for further runs")
    given = parser.parse_args()
    configure("critical", "console")
    head = "| database | profiles | CPU us, worker | PostgreSQL | to the smallest | looked at for an order |"
    print(f"{head} worker's own MB | with mapped files, at most |")
    print("|---|---|---|---|---|---|---|---|")
    for kind in given.database:
        smallest = 0.0
        for size in given.sizes:
            with folder() as place, _server(kind) as server:
                environ = {"STORECUE_DATA": str(place)} | ({"DATABASE_URL": server.database()} if server else {})
                services = store(place, size, environ, given.keep)
                cost = measure(services, environ, size, given.orders, server)
            smallest = smallest or cost.worker + cost.server
            ratio = (cost.worker + cost.server) / smallest
            print(
                f"| {kind} | {size:,} | {cost.worker:.0f} | {cost.server:.0f} | {ratio:.2f} | {cost.work} |"
                f" {cost.own:.0f} | {cost.most:.0f} |",
                flush=True,
            )


@contextmanager
def folder() -> Iterator[Path]:
    """An empty folder on the disk of the checkout; a store of a million people takes 6 GB."""
    WORK.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="growth-", dir=WORK) as name:
        yield Path(name)


@contextmanager
def _server(kind: str) -> Iterator[PostgreSQL | None]:
    if kind == "sqlite":
        yield None
        return
    with postgresql() as server:
        yield server


def measure(services: Services, environ: dict[str, str], size: int, count: int, server: PostgreSQL | None) -> Cost:
    """What `count` orders cost. What SQLite does for one is counted over some more, because counting slows it down."""
    dice = random.Random(size)
    try:
        with hired(environ, 0) as worker:
            worker.ready()
            append(services, dice, size, count // 10)  # what everybody pays once is paid by these
            worker.work()
            append(services, dice, size, count)
            read_once(server.folder if server else Path(environ["STORECUE_DATA"]))
            if server:
                work, spent, looked = _observed(server, worker)
            else:
                work, spent = worker.work(), 0.0
        if not server:
            append(services, dice, size, count // 4)
            with hired({**environ, "COUNT_STEPS": "1"}) as counting:
                counting.ready()
                counted = counting.work()
            looked = f"{counted.steps / counted.done:.1f} thousand steps"
    finally:
        services.close()
    return Cost(work.cpu / work.done * 1e6, spent / work.done * 1e6, looked, work.own, work.most)


def _observed(server: PostgreSQL, worker: Hired) -> tuple[Work, float, str]:
    """The work, CPU seconds of PostgreSQL, and what it looked at and wrote for each, right after a checkpoint: from
    then on it logs each page whole once, and in a large store nearly every change is the first of its page."""
    server.checkpoint()
    time.sleep(1.5)  # its statistics come a second late
    before = (*server.touched(), server.images(), server.wal())
    cpu = cpu_seconds((server.process,))
    work = worker.work()
    spent = cpu_seconds((server.process,)) - cpu
    time.sleep(1.5)
    after = (*server.touched(), server.images(), server.wal())
    rows, pages, images, written = ((now - then) / work.done for now, then in zip(after, before, strict=True))
    return (
        work,
        spent,
        f"{rows:,.0f} rows, {pages:,.0f} pages; {images:.1f} pages changed, {written / 1e3:.1f} kB of WAL",
    )


def append(services: Services, dice: random.Random, size: int, count: int) -> None:
    """Orders of today, each of a customer picked at random."""
    now = clock.now()
    source = SOURCES["shopify"]
    for first in range(0, count, 500):
        items = []
        for _ in range(min(500, count - first)):
            order = bodies.invented_order(dice, now - dice.randrange(clock.DAY))
            order.person.id = person(dice.randrange(size))
            order.person.email = f"{order.person.id}@example.com"
            body = orjson.dumps(bodies.order(order))
            headers = {"x-shopify-topic": "orders/create", "x-shopify-webhook-id": f"w{dice.getrandbits(64)}"}
            [claim] = source.claim(RawRequest("POST", "/", headers, body))
            kept = orjson.dumps(claim.headers).decode()
            items.append(New(f"shop/{claim.key}", "shop", claim.delivery_id, claim.topic, now, kept, body))
        services.log.append(items)


def person(number: int) -> int:
    """The id of one who is left when every fourth is gone."""
    return number // 3 * 4 + number % 3 + 1


# --- a store of many people ------------------------------------------------------------------------------------------


def store(place: Path, size: int, environ: Mapping[str, str], keep: Path | None) -> Services:
    """A filled StoreCue in `place`, or in the database that `environ` names. What `keep` has from an earlier run is
    taken from there."""
    made = (keep or place) / f"made-{size}"
    if not made.exists():
        making = made.with_suffix(".part")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        filled(making, size)
        making.rename(made)
    if "DATABASE_URL" in environ:
        services = _empty(environ)
        copy(made / "storecue.db", environ["DATABASE_URL"])
    else:
        shutil.copytree(made, place, dirs_exist_ok=True)
        services = Services(Settings.from_environment(environ))
    if keep is None:
        shutil.rmtree(made)
    return services


def read_once(folder: Path) -> None:
    """Brings the files of a database into the system's memory page by page, as its own reads would have. After one read
    from end to end Linux holds them in pieces of up to 2 MB, and to change 4 kB in one takes several times longer (6.18
    with ext4, 2026-11)."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
                while file.read(1 << 20):
                    pass


def _empty(environ: Mapping[str, str]) -> Services:
    """A StoreCue whose rules were applied before anybody came."""
    services = Services(Settings.from_environment(environ))
    wanted = configuration_from(parse(_CONFIG))
    configuration_store.apply(services.database, services.vault, wanted, clock.now())
    worker = Worker(services, clock.now, push=False)
    worker.refresh()
    while worker.jobs.step(worker.pipeline, clock.now()):  # or the first worker would decide everybody anew
        pass
    worker.close()
    return services


def filled(place: Path, size: int) -> None:
    """One on SQLite, and then everybody came."""
    services = _empty({"STORECUE_DATA": str(place)})
    with services.database.tx() as tx:
        fill(tx, size * 4 // 3)
    _remember(services, size * 4 // 3)
    with services.database.tx() as tx:
        thin_out(tx)
    with services.database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    services.close()


def fill(tx: Connection, size: int) -> None:
    """People, their events, identifiers, orders and contacts."""
    make(tx, size, size * EVENTS, clock.now())
    for statement in _ADDED:
        tx.execute(text(statement))


def thin_out(tx: Connection) -> None:
    """Every fourth person gone. What SQL has filled in order leaves no room in its pages: each insert would split
    one, while in a store that has grown a page is about three quarters full."""
    for table in _FILLED:
        tx.execute(text(f"DELETE FROM {table.name} WHERE {'id' if table is profile else 'profile_id'} % 4 = 0"))


def _remember(services: Services, size: int) -> None:
    """Their memberships, by the rules."""
    ruleset = services.ruleset()
    now = clock.now()
    for segment in ruleset.conditions:
        with services.database.tx() as tx:
            refill.start(tx, segment, size, now)
        done = False
        while not done:
            with services.database.tx() as tx:
                done = refill.step(tx, ruleset, segment, now, 100_000).done


def copy(path: Path, url: str) -> None:
    """The filled tables of a SQLite file, in a PostgreSQL that has them empty. Indexes are made afterwards."""
    source = sqlite3.connect(path)
    database = Database(url)
    with database.tx() as tx:
        for table in _FILLED:
            table.drop(tx)
            rows.make(tx, [table])
            found = source.execute(f"SELECT {rows.columns(table)} FROM {table.name}")
            rows.write(tx, table, iter(lambda found=found: found.fetchmany(10_000), []))
            rows.index(tx, [table])
        tx.execute(text("SELECT setval(pg_get_serial_sequence('profile', 'id'), (SELECT max(id) FROM profile))"))
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    database.close()
    source.close()


if __name__ == "__main__":
    main()
