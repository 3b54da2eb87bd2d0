"""Calls: what a push costs at the vendors, counted by the simulated ones on a clock of their own.

    python -m benchmarks.calls [--people 1000] [--job 5]

1,000 contacts made, then all of them changed (two fields, one tag in and one out), by each adapter in the batches it
asks for; jobs and batches at the vendor take `--job` seconds. The same with more tags that change, half in and half
out. Then a customer with 50 orders in a minute, through the whole line, and how often each vendor's contact is written.
"""

import argparse
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from adapters import DESTINATIONS
from adapters.destination import Change, Destination, FieldSpec, Settings
from adapters.outcomes import chunked
from benchmarks.processing import deliveries
from benchmarks.rules import FIELDS, HEAD, SEGMENTS
from connector import clock
from connector.config import settings as environment
from connector.config import store as configuration_store
from connector.config.schema import configuration_from
from connector.config.yaml_file import parse
from connector.logs import configure
from connector.services import Services
from connector.simulator.vendors import FakeHubSpot, FakeKlaviyo, FakeMailchimp, FakeVendor
from connector.worker import Worker

_MAILCHIMP_KEY = "0123456789abcdef0123456789abcdef-us1"
_CREDENTIALS = {
    "klaviyo": {"api_key": "pk_benchmark"},
    "hubspot": {"access_token": "pat-benchmark"},
    "mailchimp": {"api_key": _MAILCHIMP_KEY},
}
_CHANGED_TAGS = (1, 3, 10, 30)
_TARGETS = {"klaviyo": (5, 5), "hubspot": (20, 10), "mailchimp": (12, 12)}
_SPECS = [FieldSpec("total_spent", "number", "Total spent"), FieldSpec("last_order_at", "datetime", "Last order at")]
_WRITES = re.compile(
    r"POST /api/profile-(import|bulk-import-jobs)|POST /3.0/batches"
    r"|(POST|PATCH) /crm/objects/[^/]+/contacts(/(?!batch/read)|$)|(PUT|PATCH) /3.0/lists/[^/]+/members/"
)


class VirtualClock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.at = 1_795_000_000.0

    def time(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds


def main() -> None:
    """Prints calls per 1,000 contacts by vendor and operation, then writes for fifty changes of one contact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=1_000)
    parser.add_argument("--job", type=float, default=5.0)
    arguments = parser.parse_args()
    configure("error", "console")
    print(f"{arguments.people} contacts; a job at the vendor takes {arguments.job:g} s")
    print(f"{'':<12}{'first':>8}{'target':>8}{'again':>8}{'target':>8}   again, by operation")
    for kind in _CREDENTIALS:
        first, again = count_calls(kind, arguments.people, arguments.job)
        figures = (sum(calls.values()) * 1_000 / arguments.people for calls in (first, again))
        columns = "".join(f"{figure:8.1f}{target:8d}" for figure, target in zip(figures, _TARGETS[kind], strict=True))
        print(f"{kind:<12}{columns}   {', '.join(f'{times} {what}' for what, times in again.most_common())}")
    print(f"\n{'changed tags':<12}" + "".join(f"{number:8d}" for number in _CHANGED_TAGS) + "   calls per 1,000 again")
    for kind in _CREDENTIALS:
        calls = [count_calls(kind, arguments.people, arguments.job, number)[1] for number in _CHANGED_TAGS]
        print(f"{kind:<12}" + "".join(f"{sum(one.values()) * 1_000 / arguments.people:8.1f}" for one in calls))
    print("\n50 orders of one customer before the next push, writes of the contact: ", end="")
    print(", ".join(f"{kind} {writes}" for kind, writes in count_writes().items()))


def vendors(virtual: VirtualClock | None, job: float) -> dict[str, FakeVendor]:
    """One simulated account of each vendor, started."""
    made: tuple[FakeVendor, ...] = (
        FakeKlaviyo(api_key="pk_benchmark", clock=virtual, job_seconds=job),
        FakeHubSpot(access_token="pat-benchmark", clock=virtual),
        FakeMailchimp(api_key=_MAILCHIMP_KEY, clock=virtual, batch_seconds=job),
    )
    return {vendor.vendor: vendor.start() for vendor in made}


def count_calls(kind: str, people: int, job: float, tags: int = 2) -> tuple[Counter[str], Counter[str]]:
    """Calls by operation: for contacts that are new, and for the same ones with so many tags changed."""
    virtual = VirtualClock()
    accounts = vendors(virtual, job)
    vendor = accounts[kind]
    settings = Settings(_CREDENTIALS[kind], base_url=vendor.url, allow_insecure=True, list_id="a1b2c3d4e5")
    destination = DESTINATIONS[kind](settings, virtual)
    segments = [f"segment-{number:02}" for number in range(tags)]
    leaving, coming = tuple(segments[: tags // 2]), tuple(segments[tags // 2 :])
    destination.provision(_SPECS, [*segments, "vip"])
    counted, ids = [], dict[str, str | None]()
    for shown, before, spent in (((*leaving, "vip"), (), 12.5), ((*coming, "vip"), (*leaving, "vip"), 99.0)):
        changes = [
            Change(
                f"c{number}",
                f"p{number}@example.com",
                f"shop:{number}",
                tags=shown,
                tags_added=tuple(sorted({*shown} - {*before})),
                tags_removed=tuple(sorted({*before} - {*shown})),
                fields={"total_spent": spent, "last_order_at": "2026-11-21T10:00:00.000Z"},
                remote_id=ids.get(f"c{number}"),
            )
            for number in range(people)
        ]
        start = len(vendor.requests)
        ids = push(destination, changes)
        virtual.sleep(60)
        operations = (f"{request.method} {request.path}" for request in vendor.requests[start:])
        counted.append(Counter(re.sub(r"/[^/]*\d{3,}[^/]*|/\d+$", "/{id}", what) for what in operations))
    contacts = vendor.contacts()
    assert len(contacts) == people and all(contact["tags"] == [*coming, "vip"] for contact in contacts.values())
    destination.close()
    for account in accounts.values():
        account.close()
    return counted[0], counted[1]


def push(destination: Destination, changes: Sequence[Change]) -> dict[str, str | None]:
    """The record ids told, by key, once every change is applied."""
    outcomes = [o for piece in chunked(changes, destination.limits.batch) for o in destination.apply(piece)]
    assert {outcome.status for outcome in outcomes} == {"applied"}
    return {outcome.key: outcome.remote_id for outcome in outcomes}


def count_writes() -> dict[str, int]:
    """How often each vendor's contact is written for fifty orders that come before the next push."""
    accounts = vendors(None, 0.3)
    lines = ["destinations:"]
    for kind, account in accounts.items():
        credential = "".join(f"{name}: {value}" for name, value in _CREDENTIALS[kind].items())
        place = f"base_url: '{account.url}', allow_insecure: true, create_contacts: always"
        audience = ", list_id: a1b2c3d4e5" if kind == "mailchimp" else ""
        lines.append(f"  {kind}: {{kind: {kind}, credentials: {{{credential}}}, {place}{audience}}}")
    with tempfile.TemporaryDirectory(prefix="storecue-benchmark-") as folder:
        services = Services(environment.Settings.from_environment(environ={}, data_dir=Path(folder)))
        wanted = configuration_from(parse(HEAD + "\n".join(lines) + FIELDS + SEGMENTS))
        configuration_store.apply(services.database, services.vault, wanted, clock.now())
        worker = Worker(services, clock.now, push=False)
        made, start = deliveries(51, 1), dict[str, int]()
        for orders in (made[:1], made[1:]):
            start = {kind: len(account.requests) for kind, account in accounts.items()}
            services.log.append(orders)
            while worker.step():
                pass
            while worker.push_once():
                pass
        worker.close()
        services.close()
    written = {
        kind: sum(bool(_WRITES.match(f"{r.method} {r.path}")) for r in account.requests[start[kind] :])
        for kind, account in accounts.items()
    }
    for account in accounts.values():
        account.close()
    return written


if __name__ == "__main__":
    main()
