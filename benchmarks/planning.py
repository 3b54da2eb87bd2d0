"""Planning: what it costs to find out what 100,000 changed contacts need.

    python -m benchmarks.planning [--people 100000]

Contacts whose desired state differs from the pushed one (two fields and a tag of twelve fields and six tags), each
decided five times, so that there is something to coalesce. Then the sender's own way without a vendor: read what is due
in the batches that an adapter takes, parse, diff, and write the outcomes down. CPU seconds of this process by step, and
the memory that it takes at most.
"""

import argparse
import tempfile
import time
import tracemalloc
from pathlib import Path

import orjson

from connector.clock import Millis
from connector.config import settings as environment
from connector.logs import configure
from connector.services import Services
from connector.sync import store
from connector.sync.plan import change, is_noop

_NOW: Millis = 1_795_000_000_000
_DECIDED = 5
_BATCH = 1_000
_TARGET = 5.0


def main() -> None:
    """Prints CPU seconds for deciding, planning and recording, and memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=100_000)
    people = parser.parse_args().people
    configure("error", "console")
    with tempfile.TemporaryDirectory(prefix="storecue-benchmark-") as folder:
        services = Services(environment.Settings.from_environment(environ={}, data_dir=Path(folder)))
        fill(services, people)
        planning, recording, planned, largest, grown = plan(services, people)
        services.close()
    floor = parsing(people)
    per_contact = 1e6 / people
    print(f"{people} changed contacts, decided {_DECIDED} times each; batches of {_BATCH}")
    print(f"{'':<34}{'CPU s':>8}{'us each':>10}")
    print(f"{'plan: read, diff, batch':<34}{planning:8.2f}{planning * per_contact:10.1f}   target {_TARGET:g} s")
    print(f"{'write outcomes down':<34}{recording:8.2f}{recording * per_contact:10.1f}")
    print(f"{'floor: parse both states once':<34}{floor:8.2f}{floor * per_contact:10.1f}")
    print(f"\n{planned} changes; a batch holds {largest / 1e6:.1f} MB, our own memory grew by {grown / 1e6:.0f} MB")


def contact(number: int, round_: int) -> str:
    """The desired state of a contact after some rounds of changes, as canonical JSON text."""
    fields: dict[str, object] = {f"field_{n}": f"value {n} of person {number}" for n in range(10)}
    fields |= {"total_spent": 10.0 * round_ + number, "orders_count": round_}
    tags = ["bf", "lapsed", "new", "vip", "winter"] + (["zz-changed"] if round_ % 2 else [])
    state: dict[str, object] = {"email": f"p{number}@example.com", "first_name": "Ada", "last_name": f"Person {number}"}
    state |= {"tags": tags, "fields": fields, "create": True, "subscribed": True}
    return orjson.dumps(state, option=orjson.OPT_SORT_KEYS).decode()


def fill(services: Services, people: int) -> None:
    """Everybody pushed once, then decided anew several times before anything is pushed."""
    for first in range(0, people, 5_000):
        numbers = range(first, min(first + 5_000, people))
        for round_ in range(_DECIDED + 1):
            rows = [
                {
                    "destination": "klaviyo",
                    "profile_id": number,
                    "desired": contact(number, round_),
                    "pending": int(round_ > 0),
                    "due_at": _NOW + round_,
                    "changed_at": _NOW + round_,
                }
                for number in numbers
            ]
            with services.database.tx() as tx:
                store.want(tx, rows)
                if round_ == 0:
                    store.record_pushed(
                        tx,
                        "klaviyo",
                        [
                            {"person": r["profile_id"], "sent": r["desired"], "remote": f"r{r['profile_id']}"}
                            | {"at": _NOW, "again_at": _NOW}
                            for r in rows
                        ],
                    )


def plan(services: Services, people: int) -> tuple[float, float, int, int, int]:
    """CPU seconds of planning and of recording, the changes planned, and the bytes that a batch takes at most, and by
    which this process's own memory (files mapped into it left out) grew at most."""
    planning = recording = 0.0
    planned = largest = grown = 0
    before = _own_memory()
    while True:
        began = time.process_time()
        with services.database.read() as connection:
            due = store.pending(connection, "klaviyo", _NOW + 1_000, _BATCH)
        changes = [(pending, change(pending)) for pending in due]
        real = [one for pending, one in changes if not is_noop(one, pending)]
        middle = time.process_time()
        planning += middle - began
        if not due:
            return planning, recording, planned, largest, grown
        planned += len(real)
        assert all(one.fields.keys() == {"total_spent", "orders_count"} for one in real)
        assert all(one.tags_added == ("zz-changed",) for one in real)
        told = {"remote": None, "at": _NOW, "again_at": _NOW}
        rows = [{"person": pending.profile_id, "sent": pending.desired, **told} for pending in due]
        middle = time.process_time()
        with services.database.tx() as tx:
            store.record_pushed(tx, "klaviyo", rows)
        recording += time.process_time() - middle
        grown = max(grown, _own_memory() - before)
        if planned <= _BATCH:
            tracemalloc.start()
            [change(pending) for pending in due]
            largest = tracemalloc.get_traced_memory()[1] + sum(len(p.desired) + len(p.pushed or "") for p in due)
            tracemalloc.stop()


def _own_memory() -> int:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0]) * 1024


def parsing(people: int) -> float:
    """CPU seconds to parse as many pairs of states, which nobody who compares them can go below."""
    texts = [contact(number, round_) for number in range(1_000) for round_ in (0, _DECIDED)]
    began = time.process_time()
    for text in texts:
        orjson.loads(text)
    return (time.process_time() - began) * people / 1_000


if __name__ == "__main__":
    main()
