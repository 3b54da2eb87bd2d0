"""What became of all that a shop sent: nothing lost, no effect twice, none out of order; on any log, any database."""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from tests.chaos.esp import Esp
from tests.e2e.running import Book, Running, Sale, email, until


@dataclass(frozen=True)
class Verdict:
    acknowledged: int
    lost: int
    doubled: int
    disordered: int

    def __str__(self) -> str:
        return (
            f"{self.acknowledged:,} acknowledged, {self.lost} lost, {self.doubled} doubled, "
            f"{self.disordered} out of order"
        )


def settle(running: Running, seconds: float = 90) -> None:
    """Wait until all that was accepted had its effect. On a busy machine the worker takes its time over the rest."""
    until(running.worked_off, seconds, "the log is worked off")
    until(running.pushed, seconds, "everything is pushed")


def judged(running: Running, book: Book, esp: Esp) -> Verdict:
    """The figures, once everything that has to be equal was found equal."""
    assert book.kept, "nothing was accepted at all"
    on_sqlite = "DATABASE_URL" not in running.environ
    for database in ("storecue", "inbox") if on_sqlite else ():
        assert running.rows("PRAGMA integrity_check", database) == [("ok",)]
    if "KAFKA_BOOTSTRAP" not in running.environ:
        _no_gap_in_the_log(running, book)
    sales = _effects(running)
    promised = {book.sales[id_] for id_ in book.kept}
    lost = promised - sales.keys()
    assert sales.keys() <= set(book.sales.values()), "nothing that nobody sent"
    assert running.rows("SELECT reference, reason, message FROM dead_letter") == []
    doubled = sum(count - 1 for count in sales.values())
    assert _known(running) == _sums(sales), "each person has the orders of the shop"
    entered = _vendors_show_what_is_desired(running, esp)
    doubled += sum(count - 1 for count in entered.values())
    return Verdict(sum(book.kept.values()), len(lost), doubled, esp.backwards)


def _no_gap_in_the_log(running: Running, book: Book) -> None:
    """One row for each 200, and no gap and no fork in any partition. More rows than answers: the answer was lost, and a
    writer that lost its server in the middle of a commit writes once more."""
    logged = Counter(dict(running.rows("SELECT delivery_id, count(*) FROM delivery GROUP BY 1", "inbox")))
    assert {id_: n for id_, n in book.kept.items() if logged[id_] < n} == {}
    if "DATABASE_URL" not in running.environ:
        assert {id_: n for id_, n in logged.items() if n > book.attempts[id_]} == {}
    parts = "SELECT part, count(*), count(DISTINCT pos), min(pos), max(pos) + 1 FROM delivery GROUP BY part"
    heads = dict(running.rows("SELECT part, head FROM log_head", "inbox"))
    for part, count, distinct, first, end in running.rows(parts, "inbox"):
        assert (count, distinct, first, end) == (heads[part], heads[part], 0, heads[part])


def _effects(running: Running) -> Counter[Sale]:
    """How often each sale had its effect."""
    told = running.rows("SELECT name, properties FROM event")
    assert {name for name, _ in told} == {"Order Completed"}
    counts = Counter(int(json.loads(properties)["order_id"]) for _, properties in told)
    customers = {int(number): int(customer) for number, customer in running.rows(_ORDERS)}
    totals = {int(number): int(total) for number, total in running.rows("SELECT id, total FROM shop_order")}
    assert counts.keys() == totals.keys()
    return Counter({Sale(number, customers[number], totals[number]): count for number, count in counts.items()})


_ORDERS = (
    "SELECT shop_order.id, replace(replace(profile.email, 'customer', ''), '@example.com', '') "
    "FROM shop_order JOIN profile ON profile.id = shop_order.profile_id"
)


def _known(running: Running) -> dict[str, tuple[int, int]]:
    found = {}
    for address, text in running.rows("SELECT email, traits FROM profile"):
        traits = json.loads(text)
        found[address] = (traits["orders_count"], round(traits["total_spent"] * 100))
    return found


def _sums(sales: Counter[Sale]) -> dict[str, tuple[int, int]]:
    counts, totals = Counter[str](), Counter[str]()
    for sale in sales:
        counts[email(sale.customer)] += 1
        totals[email(sale.customer)] += sale.total
    return {address: (count, totals[address]) for address, count in counts.items()}


def _vendors_show_what_is_desired(running: Running, esp: Esp) -> Counter[Any]:
    """How often each entry into a segment was told; the contacts are found to be as they should."""
    desired = running.rows("SELECT destination, desired, pushed FROM sync_state")
    assert all(want == have for _, want, have in desired)
    for name, vendor in esp.vendors.items():
        wanted = {
            want["email"]: want
            for destination, text, _ in desired
            if destination == name and (want := json.loads(text))
        }
        shown = vendor.contacts()
        assert shown.keys() == wanted.keys()
        assert {address: one["tags"] for address, one in shown.items()} == {a: w["tags"] for a, w in wanted.items()}
        for address, one in shown.items():
            assert _numbers(one["fields"]) == _numbers(wanted[address]["fields"]), (name, one)
    told = [event for event in esp.vendors["klaviyo"].events() if event["name"] == "Segment Entered"]
    members = (
        "SELECT email, segment FROM membership JOIN profile ON profile.id = membership.profile_id WHERE matched = 1"
    )
    entered = Counter((event["email"], event["properties"]["segment"]) for event in told)
    assert entered.keys() == set(running.rows(members))
    return entered


def _numbers(fields: dict[str, Any]) -> dict[str, float]:
    """The values of the two fields: HubSpot keeps texts, Mailchimp shortens the names."""
    return {
        name: float(value)
        for name in ("total_spent", "orders_count")
        for shown, value in fields.items()
        if shown.lower()[:5] == name[:5]
    }
