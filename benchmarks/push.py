"""Push: how near a sender comes to what a vendor allows, and what that costs us.

    python -m benchmarks.push [--vendor hubspot] [--seconds 30] [--singles]

The simulated vendors in a process of their own, 50 ms before each answer; a sender as the worker runs it, with its
database, in this one. More contacts wait than can be told. Calls are counted at the vendor and stand beside what it
allows in that time; CPU is this process's, as a part of one core. With --singles, twice in a second one person has news
of their own, and the last columns say how long their contact takes while all the others are being told.
"""

import argparse
import itertools
import multiprocessing
import resource
import tempfile
import threading
import time
from collections.abc import Callable
from cProfile import Profile
from multiprocessing.connection import Connection
from pathlib import Path

from adapters import DESTINATIONS
from adapters.destination import Destination, Settings, SystemClock
from benchmarks.planning import contact
from connector import clock
from connector.config import settings as environment
from connector.config import store as configuration_store
from connector.config.schema import configuration_from
from connector.config.yaml_file import parse
from connector.domain import DestinationConfig
from connector.logs import configure
from connector.services import Services
from connector.simulator.vendors import FakeHubSpot, FakeKlaviyo, FakeMailchimp, FakeVendor
from connector.storage.turns import Turn
from connector.sync import store
from connector.worker import Worker

_LATENCY = 0.05
_FIRST_SINGLE = 1_000_000
_KEY = "0123456789abcdef0123456789abcdef-us1"
_CREDENTIALS = {
    "klaviyo": {"api_key": "pk_benchmark"},
    "hubspot": {"access_token": "pat-benchmark"},
    "mailchimp": {"api_key": _KEY},
}
_OPTIONS: dict[str, dict[str, str]] = {"klaviyo": {}, "hubspot": {"requests_per_10_seconds": "190"}, "mailchimp": {}}
_PEOPLE = {"klaviyo": 60_000, "hubspot": 60_000, "mailchimp": 30_000}
# What counts, and how many of it the vendor takes in so many seconds: a burst at once, then a rate.
_CEILINGS: dict[str, tuple[str, Callable[[float], float]]] = {
    "klaviyo": ("/api/profile-bulk-import-jobs", lambda seconds: min(10 * seconds, 150 * max(1.0, seconds / 60))),
    "hubspot": ("", lambda seconds: 190 * seconds / 10),
    # Members, not calls: one a call over ten connections that are never idle, as its API would take without batches.
    "mailchimp": ("members", lambda seconds: 10 * seconds / _LATENCY),
}


def main() -> None:
    """Prints calls, contacts, the share of the ceiling and CPU, by vendor."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vendor", choices=sorted(_CREDENTIALS), action="append")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--singles", action="store_true")
    arguments = parser.parse_args()
    configure("error", "console")
    print(
        f"{'':<12}{'contacts/s':>12}{'calls/s':>10}{'allowed/s':>11}{'share':>8}{'CPU':>8}   CPU ms per 1,000"
        f"{'single p50':>12}{'p99':>8}"
    )
    for kind in arguments.vendor or sorted(_CREDENTIALS):
        contacts, calls, seconds, cpu, waits = measure(kind, arguments.seconds, arguments.profile, arguments.singles)
        ceiling = _CEILINGS[kind][1](seconds)
        counted = contacts if _CEILINGS[kind][0] == "members" else calls
        figures = f"{contacts / seconds:12.0f}{calls / seconds:10.1f}{ceiling / seconds:11.1f}{counted / ceiling:8.1%}"
        singles = f"{waits[len(waits) // 2]:11.2f}s{waits[len(waits) * 99 // 100]:7.2f}s" if waits else ""
        print(f"{kind:<12}{figures}{cpu / seconds:8.1%}   {cpu / max(1, contacts) * 1e6:16.0f}{singles}", flush=True)


def serve(kind: str, pipe: Connection) -> None:
    """One simulated account, in a process of its own: tells its address, then what was counted whenever it is asked."""
    made: dict[str, FakeVendor] = {
        "klaviyo": FakeKlaviyo(api_key="pk_benchmark", job_seconds=0.3),
        "hubspot": FakeHubSpot(access_token="pat-benchmark", plan="professional"),
        "mailchimp": FakeMailchimp(api_key=_KEY, batch_seconds=0.3),
    }
    with made[kind] as vendor:
        vendor.faults.latency = _LATENCY
        pipe.send(vendor.url)
        while since := pipe.recv():
            part = _CEILINGS[kind][0]
            path = part if part.startswith("/") else ""
            rows = [row for row in vendor.requests if row.at >= since and row.path.startswith(path)]
            pipe.send((sum(path == "" or row.method == "POST" for row in rows), dict(vendor.counts())))


def measure(kind: str, seconds: float, profile: bool, singles: bool) -> tuple[int, int, float, float, list[float]]:
    """Contacts told, calls counted, the seconds that it took, CPU seconds of this process, and the seconds, shortest
    first, that single contacts took meanwhile."""
    spawn = multiprocessing.get_context("spawn")
    pipe, other = spawn.Pipe()
    process = spawn.Process(target=serve, args=(kind, other), daemon=True)
    process.start()
    url = pipe.recv()
    with tempfile.TemporaryDirectory(prefix="storecue-benchmark-") as folder:
        services = Services(environment.Settings.from_environment(environ={}, data_dir=Path(folder)))

        def connect(config: DestinationConfig, turn: Turn | None = None) -> Destination:
            settings = Settings(_CREDENTIALS[kind], url, True, "a1b2c3d4e5", options=_OPTIONS[kind])
            return DESTINATIONS[kind](settings, SystemClock())

        services.connect = connect  # type: ignore[method-assign]
        credential = ", ".join(f"{name}: {value}" for name, value in _CREDENTIALS[kind].items())
        listed = ", list_id: a1b2c3d4e5" if kind == "mailchimp" else ""
        fields = "".join(f"  field_{n}: {{from: traits.f{n}}}\n" for n in range(10))
        fields += "  total_spent: {from: traits.total_spent, type: number}\n"
        fields += "  orders_count: {from: traits.orders_count, type: number}\n"
        place = f"base_url: '{url}', allow_insecure: true, create_contacts: always{listed}"
        names = ("bf", "lapsed", "new", "vip", "winter", "zz-changed")
        rules = "".join(f"  {name}: {{name: {name}, when: {{trait: orders_count, '>=': 1}}}}\n" for name in names)
        config = "version: 1\nstore: {name: Aurora, timezone: Europe/Paris, currency: EUR}\n"
        config += f"fields:\n{fields}segments:\n{rules}"
        config += f"destinations:\n  {kind}: {{kind: {kind}, credentials: {{{credential}}}, {place}}}\n"
        wanted = configuration_from(parse(config))
        configuration_store.apply(services.database, services.vault, wanted, clock.now())
        worker = Worker(services, clock.now, push=False)
        while worker.step():
            pass
        _fill(services, kind, _PEOPLE[kind])
        worker.push_once()  # log in, make fields and tags
        time.sleep(11)  # with windows that are empty again
        told = _done(services)
        pusher = next(iter(worker._pushers.values()))[0]
        pusher.clock = clock.now
        before, begun = resource.getrusage(resource.RUSAGE_SELF), time.time()
        waits: list[float] = []
        ending = threading.Event()
        newcomer = threading.Thread(target=_have_news, args=(services, kind, waits, ending))
        if singles:
            newcomer.start()
        profiler = Profile() if profile else None
        if profiler is not None:
            profiler.enable()
        while time.time() < begun + seconds:
            if not pusher.step(clock.now()):
                time.sleep(0.02)
        took, after = time.time() - begun, resource.getrusage(resource.RUSAGE_SELF)
        ending.set()
        if singles:
            newcomer.join()
        if profiler is not None:
            profiler.disable()
            profiler.print_stats("tottime")
        pipe.send(begun)
        calls, statuses = pipe.recv()
        assert not set(statuses) & {400, 401, 403, 429, 500}, statuses
        contacts = _done(services) - told
        worker.close()
        services.close()
    pipe.send(0)
    process.join(10)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return contacts, calls, took, cpu, sorted(waits)


def _fill(services: Services, kind: str, people: int) -> None:
    now = clock.now()
    for first in range(0, people, 5_000):
        rows = [
            {
                "destination": kind,
                "profile_id": n,
                "desired": contact(n, 1),
                "pending": 1,
                "due_at": now,
                "changed_at": now,
            }
            for n in range(first, min(first + 5_000, people))
        ]
        with services.database.tx() as tx:
            store.want(tx, rows)
            tx.exec_driver_sql("UPDATE sync_state SET bulk = 1")  # as a fill is that was let go


def _have_news(services: Services, kind: str, waits: list[float], ending: threading.Event) -> None:
    """One new person after the other, each followed until they are told."""
    query = f"SELECT count(*) FROM sync_state WHERE profile_id >= {_FIRST_SINGLE} AND pending = 1"
    for number in itertools.count(_FIRST_SINGLE):
        now = clock.now()
        row = {"destination": kind, "profile_id": number, "desired": contact(number, 1), "pending": 1}
        with services.database.tx() as tx:
            store.want(tx, [{**row, "due_at": now, "changed_at": now}])
        while not ending.wait(0.02):
            with services.database.read() as connection:
                if not connection.exec_driver_sql(query).scalar():
                    break
        waits.append((clock.now() - now) / 1_000)  # of the last, which nobody waits for, as long as it took until then
        if ending.wait(0.5):
            return


def _done(services: Services) -> int:
    with services.database.read() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM sync_state WHERE pending = 0").scalar() or 0)


if __name__ == "__main__":
    main()
