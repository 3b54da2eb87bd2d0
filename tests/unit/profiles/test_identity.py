"""Who is meant: identifiers tie, merge, stay apart or move."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.domain import Identifier, IdentityConfig
from connector.profiles.identity import People, Rules, Stored

RULES = Rules(IdentityConfig())

ADA, BOB = Identifier("customer_id", "shop:1"), Identifier("customer_id", "shop:2")
ADA_MAIL, BOB_MAIL = Identifier("email", "ada@example.com"), Identifier("email", "bob@example.com")
PHONE, CHECKOUT, CART = (
    Identifier("phone", "+33612345678"),
    Identifier("checkout_token", "c1"),
    Identifier("cart_token", "k1"),
)


def people(known: dict[Identifier, int] | None = None) -> People:
    known = known or {}
    held: dict[int, list[Identifier]] = {}
    for identifier, person in known.items():
        held.setdefault(person, []).append(identifier)
    return People(Stored(known, held, ids=itertools.count(max(known.values(), default=0) + 1)), RULES)


def test_nobody_without_identifiers() -> None:
    assert people().resolve([]) is None


def test_an_unknown_person_is_made_once() -> None:
    line = people()
    first = line.resolve([ADA, ADA_MAIL])
    assert line.resolve([ADA_MAIL]) == first
    assert line.created == [first]
    assert line.tied == {ADA: first, ADA_MAIL: first}


def test_a_cart_joins_the_person_that_its_checkout_names() -> None:
    line = people()
    cart = line.resolve([CART])
    checkout = line.resolve([CHECKOUT, CART, ADA_MAIL])
    assert checkout == cart
    assert line.merges == []


def test_two_people_are_one_when_an_event_ties_them() -> None:
    line = people({ADA: 1, CART: 2})
    assert line.resolve([ADA, CART]) == 1
    assert [(merge.winner, merge.loser) for merge in line.merges] == [(1, 2)]
    assert line.find(2) == 1


def test_the_older_profile_wins_whoever_is_named_first() -> None:
    line = people({CART: 1, ADA: 2})
    assert line.resolve([ADA, CART]) == 1


def test_two_customers_of_one_shop_are_never_merged() -> None:
    line = people({ADA: 1, ADA_MAIL: 1, BOB: 2})
    assert line.resolve([BOB, ADA_MAIL]) == 2
    assert line.merges == []
    assert ADA_MAIL not in line.tied, "an order says nothing of whose address it is"


def test_the_shop_may_move_an_address_from_one_customer_to_another() -> None:
    line = people({ADA: 1, ADA_MAIL: 1, BOB: 2})
    assert line.resolve([BOB, ADA_MAIL], owned_at=1) == 2
    assert line.tied == {ADA_MAIL: 2}


def test_a_new_customer_with_a_known_customers_address_is_somebody_else() -> None:
    line = people({ADA: 1, ADA_MAIL: 1})
    person = line.resolve([BOB, ADA_MAIL])
    assert person not in (1, None)
    assert line.tied == {BOB: person}


def test_a_guest_becomes_the_customer_with_the_same_address() -> None:
    line = people({ADA_MAIL: 1, CHECKOUT: 1})
    assert line.resolve([ADA, ADA_MAIL]) == 1
    assert line.tied == {ADA: 1}


def test_a_phone_alone_does_not_join_two_addresses() -> None:
    line = people({ADA_MAIL: 1, PHONE: 1, BOB_MAIL: 2})
    assert line.resolve([BOB_MAIL, PHONE]) == 2
    assert line.merges == []


def test_the_shop_says_that_two_customers_are_one() -> None:
    line = people({ADA: 1, ADA_MAIL: 1, BOB: 2, BOB_MAIL: 2})
    assert line.resolve([BOB], merged_from=[ADA]) == 1
    assert line.find(2) == 1
    assert line.resolve([BOB, BOB_MAIL]) == 1


def test_a_shop_of_another_source_may_know_the_same_person() -> None:
    other = Identifier("customer_id", "outlet:9")
    line = people({ADA: 1, ADA_MAIL: 1})
    assert line.resolve([other, ADA_MAIL]) == 1


IDENTIFIERS = [ADA, ADA_MAIL, PHONE, CHECKOUT, CART]


@given(st.lists(st.lists(st.sampled_from(IDENTIFIERS), min_size=1, max_size=3), min_size=1, max_size=6), st.randoms())
def test_any_order_of_deliveries_of_one_customer_gives_the_same_people(claims: list[list[Identifier]], chance) -> None:  # type: ignore[no-untyped-def]
    def groups(order: list[list[Identifier]]) -> set[frozenset[Identifier]]:
        line = people()
        for one in order:
            line.resolve(one)
        found: dict[int, set[Identifier]] = {}
        for identifier, person in line.tied.items():
            found.setdefault(line.find(person), set()).add(identifier)
        return {frozenset(one) for one in found.values()}

    shuffled = list(claims)
    chance.shuffle(shuffled)
    assert groups(shuffled) == groups(claims)


@pytest.mark.parametrize("repeats", [2, 5])
def test_a_repeat_changes_nothing(repeats: int) -> None:
    line = people()
    ids = {line.resolve([ADA, ADA_MAIL]) for _ in range(repeats)}
    assert len(ids) == 1
    assert len(line.created) == 1
