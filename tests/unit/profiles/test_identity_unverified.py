"""A visitor's word: it brings in what an unknown visitor did, and takes nobody over."""

import itertools

from connector.domain import Identifier, IdentityConfig
from connector.profiles.identity import People, Rules, Stored

RULES = Rules(IdentityConfig())

VICTIM = Identifier("customer_id", "shop:501")
ADDRESS = Identifier("email", "ada@example.com")
OTHER = Identifier("email", "eve@example.com")
VISITOR = Identifier("anonymous_id", "a1")
PHONE = Identifier("phone", "+15550109999")


def people() -> People:
    """1 is Ada, a known customer; 2 is a visitor; 3 is Eve, known by her address."""
    known = {VICTIM: 1, ADDRESS: 1, VISITOR: 2, OTHER: 3}
    return People(Stored(known, {1: [VICTIM, ADDRESS], 3: [OTHER]}, ids=itertools.count(4)), RULES)


def test_what_an_unknown_visitor_did_joins() -> None:
    found = people()
    assert found.resolve([ADDRESS, VISITOR], unverified=True) == 1
    assert [(merge.winner, merge.loser) for merge in found.merges] == [(1, 2)]


def test_a_new_visitor_says_who_they_are() -> None:
    found = People(Stored(), RULES)
    assert found.resolve([ADDRESS, PHONE, VISITOR], unverified=True) == 1
    assert set(found.tied) == {ADDRESS, PHONE, VISITOR}


def test_somebody_known_gets_no_other_address() -> None:
    found = people()
    new = Identifier("email", "thief@example.com")
    assert found.resolve([VICTIM, new, PHONE], unverified=True) == 1
    assert found.tied == {} and found.merges == [] and found.moved == []


def test_two_who_are_known_are_never_made_one() -> None:
    found = people()
    assert found.resolve([VICTIM, OTHER], unverified=True) == 1
    assert found.tied == {} and found.merges == []
    assert found.resolve([OTHER]) == 3


def test_a_shared_device_does_not_unite_those_who_use_it() -> None:
    found = people()
    assert found.resolve([OTHER, VISITOR], unverified=True) == 2  # the older profile stays: Eve's, and the device's
    assert found.resolve([ADDRESS, VISITOR], unverified=True) == 1
    assert [(merge.winner, merge.loser) for merge in found.merges] == [(2, 3)]
    assert found.resolve([VISITOR], unverified=True) == 4  # nobody's in particular from then on
    assert found.resolve([OTHER, VISITOR], unverified=True) == 2
    assert found.shared == {VISITOR: (1, 2)}


def test_the_shop_may_still_say_so() -> None:
    found = people()
    assert found.resolve([VICTIM, OTHER], owned_at=1) == 1
    assert [(merge.winner, merge.loser) for merge in found.merges] == [(1, 3)]
