"""Records that break us: found in few transactions, parked with their customers, tried again, buried in the end."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy.exc import OperationalError

from connector.app import create_app
from connector.clock import MINUTE, SECOND
from connector.inbox import parking, runner
from connector.inbox.hushing import hush
from connector.inbox.notes import Note, Notes
from connector.pipeline import line, meaning, things
from connector.segments import store as segment_store
from connector.storage.backup import Files
from connector.worker import Worker
from tests.conftest import CONFIG, NOON, Shop, order

GIVEN_UP = 11 * MINUTE + 11 * SECOND
"""After it the first record has had its fifth attempt."""

Broken = Callable[..., None]


WHERE = ("source", "record", "person", "line")
"""Where it breaks: in the source; over what is in a record; over the person whom it is about, after most was written;
and in the line itself, which says over nobody."""


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Broken:
    """Lets the line raise over deliveries whose ids begin so."""
    stored, normalised, added = line.event_rows, meaning._normalised, things._add
    identified, loaded = line.identify, segment_store.load_facts

    def break_(*beginnings: str, where: str = "line", error: type[Exception] = RuntimeError) -> None:
        people: set[int] = set()

        def bad(id_: str) -> bool:
            return bool(beginnings) and id_.startswith(beginnings)

        def check(place: str, *ids: str) -> None:
            if place == where and any(map(bad, ids)):
                raise error("boom")

        def event_rows(meant: Any, *rest: Any) -> Any:
            check("line", *(one.delivery.id for one in meant))
            return stored(meant, *rest)

        def understand(delivery: Any, *rest: Any) -> Any:
            check("source", delivery.id)
            return normalised(delivery, *rest)

        def add(made: Any, one: Any, *rest: Any) -> None:
            check("record", one.delivery.id)
            added(made, one, *rest)

        def identify(tx: Any, meant: Any, *rest: Any) -> Any:
            found = identified(tx, meant, *rest)
            people.clear()
            people.update(one.person for one in meant if where == "person" and bad(one.delivery.id))
            return found

        def facts(*given: Any) -> Any:
            return loaded(*given) | {person: Raises(error("boom")) for person in people}

        monkeypatch.setattr(line, "event_rows", event_rows)
        monkeypatch.setattr(meaning, "_normalised", understand)
        monkeypatch.setattr(things, "_add", add)
        monkeypatch.setattr(line, "identify", identify)
        monkeypatch.setattr(segment_store, "load_facts", facts)

    return break_


class Raises:
    """What is known of somebody, over which every rule stumbles."""

    def __init__(self, error: Exception) -> None:
        self.__dict__["_error"] = error

    def __getattr__(self, _name: str) -> Any:
        raise self._error


def sell(shop: Shop, number: int, id_: str | None = None, *, customer: int | None = None, total: int = 10) -> None:
    who = number if customer is None else customer
    one = order(1000 + number, customer=500 + who, email=f"p{who}@example.com", total=f"{total}.00", at=shop.time)
    shop.deliver("orders/create", one, id=id_ or f"good{number}")


def parked(shop: Shop) -> list[str]:
    return [id_ for (id_,) in shop.rows("SELECT delivery_id FROM parked ORDER BY key, id")]


def letters(shop: Shop) -> list[tuple[Any, ...]]:
    return shop.rows("SELECT reference, reason, message FROM dead_letter ORDER BY id")


def sold(shop: Shop) -> set[str]:
    return {id_ for (id_,) in shop.rows("SELECT id FROM shop_order")}


@pytest.mark.parametrize("where", WHERE)
def test_only_the_customer_of_a_record_that_breaks_us_is_held_up(shop: Shop, broken: Broken, where: str) -> None:
    broken("bad", where=where)
    for number in range(40):
        sell(shop, number, f"bad{number}" if number % 20 == 7 else None)
    sell(shop, 50, "after", customer=7)
    sell(shop, 51, "also", customer=8)
    shop.work()
    assert sorted(parked(shop)) == ["after", "bad27", "bad7"]
    assert len(sold(shop)) == 39
    assert letters(shop) == []
    assert shop.rows("SELECT count(*) FROM seen") == [(39,)]


@pytest.mark.parametrize("where", WHERE)
def test_a_customer_waits_for_eleven_minutes_and_goes_on_in_order(
    shop: Shop, broken: Broken, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    broken("bad", where=where)
    tried: Counter[str] = Counter()
    order_: list[str] = []
    handle = line.Pipeline.handle

    def note(self: Any, tx: Any, records: Any, now: int) -> Any:
        tried.update(record.delivery_id for record in records)
        left = handle(self, tx, records, now)
        order_.extend(record.delivery_id for record in records if record not in left)
        return left

    monkeypatch.setattr(line.Pipeline, "handle", note)
    sell(shop, 1, "bad", customer=1)
    shop.work()
    for number in range(2, 6):
        sell(shop, number, customer=1)
    for seconds in (0, 1, 11, 71):
        shop.at(NOON + seconds * SECOND)
        assert parked(shop) == ["bad", "good2", "good3", "good4", "good5"]
    tries = tried["bad"]
    shop.at(NOON + GIVEN_UP - 1)
    assert tried["bad"] == tries, "not before it is due"
    shop.at(NOON + GIVEN_UP)
    assert letters(shop) == [("bad", "failed", "RuntimeError: boom")]
    assert order_ == ["good2", "good3", "good4", "good5"]
    assert shop.rows("SELECT count(*) FROM parked_key") == [(0,)]
    assert shop.rows("SELECT label, count FROM counter WHERE name = 'dead_letters'") == [("failed", 1)]
    sell(shop, 6, customer=1)
    shop.work()
    assert order_[-1] == "good6"


def test_what_breaks_us_for_a_moment_only_is_no_dead_letter(shop: Shop, broken: Broken) -> None:
    broken("bad")
    sell(shop, 1, "bad", customer=1, total=10)
    shop.work()
    sell(shop, 2, customer=1)
    shop.work()
    broken()
    shop.at(NOON + SECOND)
    assert sold(shop) == {"1001", "1002"}
    assert shop.rows("SELECT (SELECT count(*) FROM parked), (SELECT count(*) FROM dead_letter)") == [(0, 0)]


def test_a_customer_over_whom_everything_stumbles_is_not_held_up_once_more_for_each_record(
    shop: Shop, broken: Broken
) -> None:
    broken("bad")
    for number in range(4):
        sell(shop, number, f"bad{number}", customer=1)
    sell(shop, 4, "good", customer=1)
    sell(shop, 5, "bad5", customer=1)
    for seconds in (0, 1, 11, 71):
        shop.at(NOON + seconds * SECOND)
    shop.at(NOON + GIVEN_UP)
    assert [id_ for id_, _, _ in letters(shop)] == ["bad0", "bad1", "bad2", "bad3"]
    assert sold(shop) == {"1004"}
    assert parked(shop) == ["bad5"], "what follows one that went through has all its attempts"


STANDING = (
    "SELECT id, total FROM shop_order ORDER BY id",
    "SELECT kind, value FROM identifier ORDER BY kind, value",
    "SELECT id, name, at FROM event ORDER BY id",
    "SELECT kind, id, data FROM entity ORDER BY kind, id",
    "SELECT delivery_id FROM seen ORDER BY delivery_id",
    "SELECT name, label, count FROM counter ORDER BY name, label",
    "SELECT email, traits, consent FROM profile ORDER BY email",
    "SELECT segment, matched, because FROM membership ORDER BY segment, because",
    "SELECT desired FROM sync_state ORDER BY desired",
    "SELECT kind, data FROM change ORDER BY kind, data",
    "SELECT name, properties FROM cue ORDER BY name, properties",
    "SELECT path, type FROM shape ORDER BY path, type",
)


@pytest.mark.parametrize("where", ["record", "person"])
def test_what_breaks_us_is_found_at_once_and_leaves_nothing_behind(
    make_shop: Callable[[str], Shop], tmp_path: Path, broken: Broken, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    config = CONFIG + "destinations:\n  k: {kind: klaviyo, credentials: {api_key: pk_test}, events: true}\n"
    shop = make_shop(config)
    with closing(Shop(tmp_path / "other", config)) as other:
        bad = {number for number in range(60) if number % 9 == 4}
        for one in (shop, other):
            one_partition(one, 0)
            sell(one, 99)
            one.work()
        for number in range(60):
            sell(shop, number, f"bad{number}" if number in bad else None, total=number * 40)
            if number not in bad:
                sell(other, number, total=number * 40)
        broken("bad", where=where)
        begun = transactions(shop, monkeypatch)
        shop.work()
        assert begun["log"] == 1
        other.work()
        for query in STANDING:
            assert shop.rows(query) == other.rows(query), query
    assert len(parked(shop)) == len(bad)


@pytest.mark.parametrize("where", ["source", "record", "line"])
def test_what_came_before_of_the_same_customer_is_done(shop: Shop, broken: Broken, where: str) -> None:
    broken("bad", where=where)
    for number in range(4):
        sell(shop, number, "bad" if number == 2 else None, customer=1)
    shop.work()
    assert sold(shop) == {"1000", "1001"}
    assert parked(shop) == ["bad", "good3"]


def test_of_several_deliveries_about_a_person_the_bad_one_is_found_within_a_second(shop: Shop, broken: Broken) -> None:
    broken("bad", where="person")
    for number in range(4):
        sell(shop, number, "bad" if number == 2 else None, customer=1)
    shop.work()
    assert parked(shop) == ["good0", "good1", "bad", "good3"], "it may be any of them"
    for second in range(1, 4):
        shop.at(NOON + second * SECOND)
    assert sold(shop) == {"1000", "1001"}
    assert parked(shop) == ["bad", "good3"]
    broken()
    shop.at(NOON + GIVEN_UP)
    assert sold(shop) == {"1000", "1001", "1002", "1003"}
    assert letters(shop) == []


def test_customers_who_are_held_up_are_tried_together(
    shop: Shop, broken: Broken, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken("bad", where="record")
    for number in range(20):
        sell(shop, number, f"bad{number}")
    shop.work()
    sizes: list[int] = []
    handle = line.Pipeline.handle

    def count(self: Any, tx: Any, records: Any, now: int) -> Any:
        sizes.append(len(records))
        return handle(self, tx, records, now)

    monkeypatch.setattr(line.Pipeline, "handle", count)
    broken("bad1", where="record")
    shop.at(NOON + SECOND)
    assert sizes == [20]
    assert len(parked(shop)) == 11
    assert len(sold(shop)) == 9


def test_a_delivery_that_nobody_understands_is_a_dead_letter_at_once(shop: Shop) -> None:
    shop.deliver("orders/create", b'{"id": "bad", "email": "p1@example.com"}', id="bad")
    shop.work()
    assert [id_ for id_, _, _ in letters(shop)] == ["bad"]
    assert parked(shop) == []


def test_a_bad_record_of_500_costs_log_n_transactions(
    shop: Shop, broken: Broken, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_partition(shop, 500, "bad333")
    broken("bad")
    begun = transactions(shop, monkeypatch)
    shop.work()
    assert parked(shop) == ["bad333"]
    assert len(sold(shop)) == 499
    # The batch, log2(500) halves, the parking, and the rest in pieces that grow again.
    assert begun["log"] <= 1 + math.ceil(math.log2(500)) + 1 + 3


def test_where_every_record_is_bad_none_costs_more_than_its_own(
    shop: Shop, broken: Broken, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_partition(shop, 100, *(f"bad{number}" for number in range(100)))
    broken("bad")
    begun = transactions(shop, monkeypatch)
    shop.work()
    assert len(parked(shop)) == 100
    assert begun["log"] <= 2 * 100 + 20


def one_partition(shop: Shop, count: int, *bad: str) -> None:
    """Orders of as many customers, all of them in one batch."""
    shop.services.log._part = lambda _key: 3  # type: ignore[method-assign]
    for number in range(count):
        sell(shop, number, f"bad{number}" if f"bad{number}" in bad else None)


def transactions(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts those in which the log's position is read, from now on."""
    begun: Counter[str] = Counter()
    real = runner._position

    def position(*arguments: Any) -> Any:
        begun["log"] += 1
        return real(*arguments)

    monkeypatch.setattr(runner, "_position", position)
    return begun


@pytest.fixture
def one_waits(shop: Shop, broken: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    """A customer's first delivery is parked, and more than five of one customer are too many."""
    monkeypatch.setattr(parking, "_MOST", 5)
    broken("bad")
    sell(shop, 1, "bad1", customer=1)
    shop.work()


@pytest.mark.usefixtures("one_waits")
def test_a_customer_of_whom_too_much_waits_is_released(shop: Shop, broken: Broken) -> None:
    for number in range(2, 6):
        sell(shop, number, "bad3" if number == 3 else None, customer=1)
    shop.work()
    assert len(parked(shop)) == 5
    sell(shop, 6, customer=1)
    shop.work()
    assert [id_ for id_, _, _ in letters(shop)] == ["bad1"]
    assert parked(shop) == ["bad3", "good4", "good5", "good6"], "good2 went through, so bad3 has its own attempts"
    broken()
    shop.at(NOON + SECOND)
    assert sold(shop) == {"1002", "1003", "1004", "1005", "1006"}


@pytest.mark.usefixtures("one_waits")
def test_a_fault_that_has_passed_buries_nobody_of_whom_too_much_waits(shop: Shop, broken: Broken) -> None:
    """After an outage hundreds of one customer's come within a second."""
    broken()
    for number in range(2, 9):
        sell(shop, number, customer=1)
    shop.work()
    assert (parked(shop), letters(shop)) == ([], [])
    assert len(sold(shop)) == 8


def test_a_fault_of_the_disk_parks_nothing(shop: Shop, broken: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise OperationalError("INSERT", {}, Exception("database or disk is full"))

    real = line.event_rows
    monkeypatch.setattr(line, "event_rows", full)
    sell(shop, 1)
    for _ in range(3):
        with pytest.raises(OperationalError):
            shop.worker.step()
    monkeypatch.setattr(line, "event_rows", real)
    shop.work()
    assert (parked(shop), letters(shop), sold(shop)) == ([], [], {"1001"})
    broken("bad")
    sell(shop, 2, "bad")
    shop.work()
    shop.time += SECOND
    monkeypatch.setattr(line, "event_rows", full)
    with pytest.raises(OperationalError):
        shop.worker.step()
    assert shop.rows("SELECT attempts FROM parked_key") == [(1,)]
    monkeypatch.setattr(line, "event_rows", real)
    shop.work()
    assert sold(shop) == {"1001", "1002"}


def dying(shop: Shop, monkeypatch: pytest.MonkeyPatch, killers: Sequence[str]) -> Counter[int]:
    """Lets a worker die whenever it is at one of these deliveries: as a process does, it leaves its note behind.
    Returned is how many records it had, for each death."""
    handle, deaths = line.Pipeline.handle, Counter[int]()

    class Dead(BaseException):
        pass

    def die(self: Any, tx: Any, records: Any, now: int) -> Any:
        if any(record.delivery_id in killers for record in records):
            deaths[len(records)] += 1
            raise Dead
        return handle(self, tx, records, now)

    @contextmanager
    def at(self: Notes, note: Any) -> Iterator[None]:
        try:
            with real(self, note):
                yield
        except Dead:
            # What the dead leave: a note that nobody holds.
            Path(self._folder / f"dead-{sum(deaths.values())}.note").write_bytes(orjson.dumps(list(note)))
            raise

    real = Notes.at
    monkeypatch.setattr(line.Pipeline, "handle", die)
    monkeypatch.setattr(Notes, "at", at)

    def work() -> None:
        while True:
            try:
                if not shop.worker.step():
                    return
            except Dead:
                shop.worker.close()
                shop.worker = Worker(shop.services, lambda: shop.time, push=False)

    shop.work = work  # type: ignore[method-assign,assignment]
    return deaths


def test_a_record_that_kills_the_worker_is_found_in_six_deaths(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    one_partition(shop, 500)
    sell(shop, 600, customer=250)
    deaths = dying(shop, monkeypatch, ["good250"])
    shop.work()
    assert deaths == {500: 1, 31: 1, 1: 1}
    assert parked(shop) == ["good250", "good600"]
    assert len(sold(shop)) == 499, "nobody waits for it but its customer"
    buried = ("good250", "killed_the_worker", "4 workers came to grief over it alone")
    for after, alone in ((1, 2), (10, 2), (11, 3), (70, 3), (71, 4)):
        shop.at(NOON + after * SECOND)
        assert deaths == {500: 1, 31: 1, 1: alone}
        assert letters(shop) == [buried] * (alone > 3)
    assert len(sold(shop)) == 500
    assert shop.rows("SELECT (SELECT count(*) FROM parked), (SELECT count(*) FROM parked_key)") == [(0, 0)]
    assert not list(shop.services.settings.data_dir.glob("dead-*"))


def test_a_parked_record_that_kills_the_worker_is_found_among_others(
    shop: Shop, broken: Broken, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken("bad", where="record")
    for number in range(3):
        sell(shop, number, f"bad{number}")
    sell(shop, 3, customer=1)
    sell(shop, 4, customer=1)
    shop.work()
    broken()
    deaths = dying(shop, monkeypatch, ["good3"])
    for after in (1, 2, 12, 72):
        shop.at(NOON + after * SECOND)
    assert deaths == {2: 1, 1: 4}, "with what is behind it, and alone"
    assert letters(shop) == [("good3", "killed_the_worker", "4 workers came to grief over it alone")]
    assert sold(shop) == {"1000", "1001", "1002", "1004"}
    assert shop.rows("SELECT (SELECT count(*) FROM parked), (SELECT count(*) FROM parked_key)") == [(0, 0)]


def test_workers_that_are_killed_from_outside_over_one_record_cost_it_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    sell(shop, 1)
    killers = ["good1"]
    deaths = dying(shop, monkeypatch, killers)
    shop.work()
    shop.at(NOON + SECOND)
    shop.at(NOON + 11 * SECOND)
    assert deaths == {1: 3}
    killers.clear()
    shop.at(NOON + 71 * SECOND)
    assert (parked(shop), letters(shop), sold(shop)) == ([], [], {"1001"})


def test_a_worker_that_was_killed_from_outside_costs_no_record(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    one_partition(shop, 100)
    note = Note(3, 0, 100, 100, "shop", "good0")
    (shop.services.settings.data_dir / "dead.note").write_bytes(orjson.dumps(list(note)))
    begun = transactions(shop, monkeypatch)
    shop.work()
    assert begun["log"] == math.ceil(100 / (100 // 16))
    assert len(sold(shop)) == 100
    assert (parked(shop), letters(shop)) == ([], [])


def test_a_note_of_what_was_worked_off_since_means_nothing(shop: Shop) -> None:
    one_partition(shop, 3)
    shop.work()
    note = Note(3, 0, 1, 1, "shop", "good0")
    (shop.services.settings.data_dir / "dead.note").write_bytes(orjson.dumps(list(note)))
    sell(shop, 10)
    shop.work()
    assert len(sold(shop)) == 4
    assert parked(shop) == []


def test_the_note_of_a_living_worker_is_left_alone(shop: Shop, tmp_path: Path) -> None:
    ours, other = Notes(tmp_path), Notes(tmp_path)
    told: list[Note] = []
    note = Note(3, 10, 42, 32, "shop", "w10")
    with other.at(note):
        ours.settle(told.append)
        assert told == []
        [path] = tmp_path.glob("*.note")
        left = path.read_bytes()
    ours.settle(told.append)
    other.close()
    assert list(tmp_path.glob("*.note")) == [], "who stops in order leaves none"
    (tmp_path / "worker-1-0.note").write_bytes(left)
    ours.settle(told.append)
    ours.settle(told.append)
    assert told == [note]


def test_two_workers_try_a_parked_customer_once(shop: Shop, broken: Broken) -> None:
    broken("bad")
    sell(shop, 1, "bad", customer=1)
    shop.work()
    sell(shop, 2, customer=1)
    other = Worker(shop.services, lambda: shop.time, push=False)
    other.step()
    shop.time = NOON + SECOND
    shop.worker.step()
    other.step()
    assert shop.rows("SELECT attempts, waiting FROM parked_key") == [(2, 2)]
    other.close()


def test_a_restart_goes_on_with_what_is_parked(shop: Shop, broken: Broken) -> None:
    broken("bad")
    sell(shop, 1, "bad", customer=1)
    shop.work()
    shop.worker.close()
    broken()
    shop.worker = Worker(shop.services, lambda: shop.time, push=False)
    shop.at(NOON + SECOND)
    assert sold(shop) == {"1001"}


def test_a_buried_record_is_replayed_as_any_other(shop: Shop, broken: Broken) -> None:
    broken("bad")
    sell(shop, 1, "bad", customer=1)
    shop.work()
    for seconds in (1, 11, 71, 671):
        shop.at(NOON + seconds * SECOND)
    [(letter,)] = shop.rows("SELECT id FROM dead_letter WHERE received_at < at")
    broken()
    assert shop.services.replay_dead_letters([letter], now=shop.time) == 1
    shop.work()
    assert sold(shop) == {"1001"}
    sell(shop, 1, "bad", customer=1)
    shop.work()
    assert shop.rows("SELECT count(*) FROM seen") == [(2,)], "the sender's repeat of a dead letter is one"


def test_an_erased_person_is_not_among_the_parked(shop: Shop, broken: Broken) -> None:
    sell(shop, 1, customer=1)
    shop.work()
    broken("bad")
    sell(shop, 2, "bad2", customer=1)
    sell(shop, 3, "bad3", customer=2)
    shop.work()
    shop.time += 1
    shop.deliver("customers/redact", {"shop_id": 9, "customer": {"id": 501, "email": "p1@example.com"}})
    for seconds in (2, 12, 75, 700, 2000):
        shop.at(NOON + seconds * SECOND)
    assert shop.rows("SELECT state FROM privacy_request") == [("done",)]
    assert [id_ for id_, _, _ in letters(shop)] == ["bad3"]
    assert shop.rows("SELECT email FROM profile") == []


def test_an_erasure_takes_what_is_parked_before_it_is_tried_again(shop: Shop, broken: Broken) -> None:
    sell(shop, 1, customer=1)
    shop.work()
    broken("bad")
    sell(shop, 2, "bad2", customer=1)
    sell(shop, 3, customer=1)
    sell(shop, 4, "bad4", customer=2)
    shop.work()
    headers = {"Authorization": f"Bearer {create(shop)}"}
    with create_app(services=shop.services, now=lambda: shop.time).test_client() as client:
        answer = client.post(
            "/api/v1/privacy-requests", json={"kind": "erase", "email": "p1@example.com"}, headers=headers
        )
        assert answer.status_code == 201, answer.text
    shop.at(NOON + 6 * SECOND - 1)
    assert parked(shop) == ["bad4"]
    assert shop.rows("SELECT waiting FROM parked_key") == [(1,)]


def create(shop: Shop) -> str:
    from connector.web.store import create_token

    with shop.services.database.tx() as tx:
        return str(create_token(tx, "test", shop.time))


def test_what_was_parked_when_a_backup_was_made_starts_no_flow(shop: Shop, broken: Broken) -> None:
    broken("bad")
    sell(shop, 1, "bad")
    shop.work()
    folder = shop.services.settings.data_dir
    assert hush(Files(folder / "storecue.db", folder / "inbox.db")) == 1
    broken()
    shop.at(NOON + SECOND)
    assert sold(shop) == {"1001"}
    assert shop.rows("SELECT count(*) FROM cue") == [(0,)]


def test_what_is_parked_is_told(shop: Shop, broken: Broken) -> None:
    broken("bad")
    sell(shop, 1, "bad", customer=1)
    shop.work()
    shop.time += SECOND // 2
    sell(shop, 2, customer=1)
    shop.work()
    app = create_app(services=shop.services, now=lambda: NOON + MINUTE)
    token = {"Authorization": f"Bearer {create(shop)}"}
    with app.test_client() as client:
        status = client.get("/api/v1/status", headers=token).json
        states = client.get("/api/v1/deliveries", headers=token).json["items"]
        only = client.get("/api/v1/deliveries?state=parked", headers=token).json["items"]
        metrics = client.get("/metrics").text
    assert (status["parked"]["customers"], status["parked"]["deliveries"]) == (1, 2)
    assert {one["delivery_id"]: one["state"] for one in states} == {"bad": "parked", "good2": "parked"}
    assert len(only) == 2
    assert "storecue_parked_customers 1.0\n" in metrics
    assert "storecue_parked 2.0\n" in metrics
    assert "storecue_parked_seconds 60.0\n" in metrics
