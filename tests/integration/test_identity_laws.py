"""Several people's deliveries in any order, some twice; merges in any order, undone in any order."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connector.clock import HOUR, MINUTE
from connector.errors import CannotMerge
from tests.conftest import NOON, Shop, checkout, order
from tests.integration.histories import (
    ADA,
    APART,
    BOB,
    CONFIGURED,
    MEETING,
    PHONE,
    History,
    Told,
    cart,
    consent,
    content,
    customer,
    identified,
    looked,
    sound,
)

quick = settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    shop = Shop(tmp_path_factory.mktemp("laws"), CONFIGURED)
    yield History(shop)
    shop.close()


@st.composite
def shuffled(draw: Callable[..., Any], deliveries: list[Told], again: int = 3) -> tuple[list[Told], list[bool]]:
    """Every delivery at least once, some twice, in any order, and where the worker catches up in between."""
    twice = draw(st.lists(st.sampled_from(range(len(deliveries))), max_size=again))
    order = draw(st.permutations([*range(len(deliveries)), *twice]))
    pauses = draw(st.lists(st.booleans(), min_size=len(order), max_size=len(order)))
    return [deliveries[number] for number in order], pauses


def events(told: dict[str, Any]) -> int:
    return sum(len(person["events"]) for person in told["people"])


@pytest.fixture(scope="module")
def apart(history: History) -> dict[str, Any]:
    return history.told(APART, [True] * len(APART))


@pytest.fixture(scope="module")
def meeting(history: History) -> dict[str, Any]:
    return history.told(MEETING, [True] * len(MEETING))


def test_people_who_share_nothing_stay_apart(apart: dict[str, Any]) -> None:
    assert apart["letters"] == []
    known = {person["email"]: (len(person["events"]), len(person["identifiers"])) for person in apart["people"][:]}
    assert known == {"ada@new.example": (5, 7), BOB: (4, 7), "cat@example.com": (5, 5), None: (1, 1)}
    assert len(apart["people"]) == 5


def test_people_who_meet_are_told_apart_by_what_the_shop_says(meeting: dict[str, Any]) -> None:
    assert meeting["letters"] == []
    whose = {value: person["email"] for person in meeting["people"] for _, value, _ in person["identifiers"]}
    assert whose["shared@example.com"] == whose[PHONE] == whose["shop:504"] == "eve@example.com"
    assert whose["shop:503"] == "dee@example.com"
    assert (whose["shop:505"], whose["shop:506"]) == ("twins@example.com", None)
    assert whose["shop:508"] == whose["fay-phone"] == whose["fay@work.example"] == "fay@example.com"
    assert "test@test.com" not in whose


@given(way=shuffled(APART))
@quick
def test_any_order_of_arrival_makes_the_same_people(
    history: History, apart: dict[str, Any], way: tuple[list[Told], list[bool]]
) -> None:
    assert history.told(*way) == apart
    sound(history.shop, events(apart))


@given(way=shuffled(MEETING))
@quick
def test_any_order_of_arrival_tells_the_same_people_apart(
    history: History, meeting: dict[str, Any], way: tuple[list[Told], list[bool]]
) -> None:
    assert history.told(*way) == meeting
    sound(history.shop, events(meeting))


# Where the order decides: see docs/identity.md. Whatever it decides, these hold.
CONTESTED: list[Told] = [
    ("orders/create", order(3001, customer=601, email=ADA, at=NOON, checkout_token="k1", cart_token="c1")),
    ("orders/create", order(3002, customer=602, email=ADA, at=NOON + 1, checkout_token="k1", cart_token="c2")),
    ("orders/create", order(3003, customer=None, email=ADA, at=NOON + 2, checkout_token="k2", cart_token="c1")),
    ("orders/create", order(3001, customer=602, email=BOB, at=NOON, updated=NOON + HOUR, checkout_token="k1")),
    ("checkouts/create", checkout("k1", at=NOON, email=BOB, phone=PHONE)),
    ("checkouts/create", checkout("k2", at=NOON, email=ADA, phone=PHONE, cart_token="c2")),
    ("checkouts/create", checkout("k3", at=NOON, email="", phone=PHONE, cart_token="c1")),
    cart("c1", NOON),
    cart("c2", NOON),
    looked("x1", "tablet", NOON),
    looked("x2", "tablet", NOON + 1),
    identified("y1", NOON, anonymousId="tablet", userId="601", traits={"email": ADA}),
    identified("y2", NOON, anonymousId="tablet", userId="602", traits={"email": BOB}),
    identified("y3", NOON, key="server", anonymousId="tablet", userId="603", traits={"email": BOB}),
    identified("y4", NOON, key="server", anonymousId="laptop", userId="601", traits={"phone": PHONE}),
    identified("y5", NOON, anonymousId="laptop", traits={"email": BOB}),
    customer(601, NOON, email=ADA, phone=PHONE),
    customer(602, NOON + MINUTE, email=ADA, phone=PHONE),
    customer(602, NOON + HOUR, email=BOB),
    consent(601, ADA, "unsubscribed", NOON),
    consent(602, BOB, "subscribed", NOON + 1),
    *(
        (
            "customers/merge",
            {
                "admin_graphql_api_customer_kept_id": f"gid://shopify/Customer/{kept}",
                "admin_graphql_api_customer_deleted_id": f"gid://shopify/Customer/{gone}",
                "status": "completed",
            },
        )
        for kept, gone in ((601, 602), (602, 601), (603, 601))
    ),
]  # fmt: skip


def _names(deliveries: list[Told]) -> int:
    """How many events these deliveries mean, each counted once."""
    views = {body["messageId"] for topic, body in deliveries if topic == "browser track"}
    carts = {body["token"] for topic, body in deliveries if topic == "carts/update"}
    checkouts = {body["token"] for topic, body in deliveries if topic == "checkouts/create"}
    orders = {body["id"] for topic, body in deliveries if topic == "orders/create"}
    return len(views) + len(carts) + len(checkouts) + len(orders)


@given(way=shuffled(CONTESTED), data=st.data())
@quick
def test_no_sequence_loses_an_event_or_makes_a_circle(
    history: History, way: tuple[list[Told], list[bool]], data: st.DataObject
) -> None:
    some = data.draw(st.integers(min_value=1, max_value=len(way[0])))
    history.told(way[0][:some], way[1][:some])
    sound(history.shop, _names(way[0][:some]))


@given(way=shuffled(CONTESTED, again=0))
@quick
def test_a_repeat_of_a_delivery_changes_nothing(history: History, way: tuple[list[Told], list[bool]]) -> None:
    once = history.told(*way)
    assert history.told(*way, times=2) == once


@pytest.mark.parametrize("deliveries", [APART, MEETING], ids=["apart", "meeting"])
def test_a_repeat_of_everything_changes_nothing(history: History, deliveries: list[Told]) -> None:
    once = history.told(deliveries, [True] * len(deliveries))
    counts = _rows(history.shop)
    for what in deliveries:
        history.deliver(what)
    history.shop.at(history.shop.time)
    assert content(history.shop) == once
    assert _rows(history.shop) == counts


def _rows(shop: Shop) -> list[tuple[Any, ...]]:
    tables = ("merge", "profile", "event", "change")
    return [shop.rows(f"SELECT count(*) FROM {table}")[0] for table in tables]


# --- merges and their undoing -----------------------------------------------------------------------------------------

PEOPLE = 6


def _six(history: History) -> None:
    """Six customers with orders, carts, words on consent."""
    told: list[Told] = []
    for number in range(PEOPLE):
        id_, email = 700 + number, f"p{number}@example.com"
        told.append(("orders/create", order(5000 + number, customer=id_, email=email, total=f"{10**number}.00")))
        told.append(customer(id_, NOON, email=email, first_name=f"P{number}", phone=f"+3361111111{number}"))
        told.append(consent(id_, email, ("subscribed", "unsubscribed", "pending")[number % 3], NOON + number))
        told.append(looked(f"z{number}", f"browser-{number}", NOON))
        told.append(identified(f"q{number}", NOON, anonymousId=f"browser-{number}", userId=str(id_)))
    history.told(told, [False] * len(told))


def _as_they_are(shop: Shop) -> Any:
    people = content(shop)["people"]
    return sorted(people, key=lambda person: json.dumps(person["identifiers"]))


pairs = st.lists(st.tuples(st.integers(0, PEOPLE - 1), st.integers(0, PEOPLE - 1)), min_size=1, max_size=8)


@given(wanted=pairs, chance=st.randoms(use_true_random=False))
@quick
def test_merges_in_any_order_undone_in_any_order_leave_what_was_there(
    history: History, wanted: list[tuple[int, int]], chance: Any
) -> None:
    _six(history)
    shop, done = history.shop, 0
    before = _as_they_are(shop)
    ids = [person for (person,) in shop.rows("SELECT id FROM profile WHERE merged_into IS NULL ORDER BY id")]
    assert len(ids) == PEOPLE
    for left, right in wanted:
        shop.time += 1
        with shop.services.database.tx() as tx:
            try:
                shop.worker.pipeline.merge(tx, ids[left], ids[right], "said so", shop.time)
                done += 1
            except CannotMerge:
                pass  # they are one already
    sound(shop, 2 * PEOPLE)
    assert len(_as_they_are(shop)) == PEOPLE - done
    merges = [id_ for (id_,) in shop.rows("SELECT id FROM merge")]
    chance.shuffle(merges)
    for id_ in merges:
        shop.time += 1
        with shop.services.database.tx() as tx:
            shop.worker.pipeline.unmerge(tx, id_, shop.time)
        sound(shop, 2 * PEOPLE)
    assert _as_they_are(shop) == before


@given(wanted=pairs)
@quick
def test_the_last_merge_undone_leaves_what_was_there_before_it(history: History, wanted: list[tuple[int, int]]) -> None:
    _six(history)
    shop, states = history.shop, []
    ids = [person for (person,) in shop.rows("SELECT id FROM profile WHERE merged_into IS NULL ORDER BY id")]
    for left, right in wanted:
        shop.time += 1
        state = _as_they_are(shop)
        with shop.services.database.tx() as tx:
            try:
                shop.worker.pipeline.merge(tx, ids[left], ids[right], "said so", shop.time)
            except CannotMerge:
                continue
        states.append(state)
    for (id_,) in shop.rows("SELECT id FROM merge ORDER BY id DESC"):
        shop.time += 1
        with shop.services.database.tx() as tx:
            shop.worker.pipeline.unmerge(tx, id_, shop.time)
        assert _as_they_are(shop) == states.pop()
