"""Who is meant: identifiers tied to people, one batch at a time, in memory and pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from connector.domain import Identifier

_STRENGTH = {"customer_id": 0, "email": 1, "phone": 2, "checkout_token": 3, "cart_token": 4, "anonymous_id": 5}
_MOVABLE = ("email", "phone")  # what a shop may reassign from one of its customers to another


@dataclass(frozen=True, slots=True)
class Merge:
    """Two people found to be one: `loser`'s history goes to `winner`, the older of the two."""

    winner: int
    loser: int
    because: str


class People:
    """The people that a batch touches.

    `known` ties identifiers to profile ids as stored; `held` lists the customer ids and e-mails that those profiles
    hold; `next_id` is the first free profile id. After the calls of `resolve`, `created`, `tied` and `merges` say
    what to write, and `moved` which e-mails have left whom.
    """

    def __init__(self, known: Mapping[Identifier, int], held: Mapping[int, Iterable[Identifier]], next_id: int) -> None:
        self._known = dict(known)
        self._held: dict[int, set[Identifier]] = {person: set(identifiers) for person, identifiers in held.items()}
        self._alias: dict[int, int] = {}
        self._next = next_id
        self.created: list[int] = []
        self.tied: dict[Identifier, int] = {}
        self.merges: list[Merge] = []
        self.moved: list[tuple[Identifier, int]] = []

    def find(self, person: int) -> int:
        """The profile that `person` has become."""
        while person in self._alias:
            person = self._alias[person]
        return person

    def resolve(
        self,
        identifiers: Iterable[Identifier],
        *,
        authoritative: bool = False,
        unverified: bool = False,
        merged_from: Iterable[Identifier] = (),
    ) -> int | None:
        """The profile id of the one person who has these identifiers; None when there are none.

        The strongest known identifier decides. Others' holders are merged in, unless both are known customers of one
        shop, or only a phone ties two people who write from different addresses: then the weaker identifier stays with
        its holder, or moves when the sender is the authority on it. An unverified claim brings in unknown visitors only,
        and gives somebody known nothing but the visitor's own id.
        """
        claims = sorted(identifiers, key=lambda identifier: _STRENGTH[identifier.kind])
        if not claims:
            return None
        found = [(claim, self.find(self._known[claim])) for claim in claims if claim in self._known]
        fitting = [
            (claim, person) for claim, person in found if claim.kind == "customer_id" or self._fits(person, claims)
        ]
        person = fitting[0][1] if fitting else self._create()
        for claim, other in fitting:
            other = self.find(other)
            if unverified and self._held.get(person) and self._held.get(other):
                continue
            if other != person and self._one_person(person, other, claim):
                person = self._merge(person, other, f"both have {claim.kind.replace('_', ' ')} {claim.value}")
        known = unverified and bool(self._held.get(person))
        for claim in claims:
            holder = self._known.get(claim)
            if known and holder is None and claim.kind != "anonymous_id":
                continue
            if holder is None or (self.find(holder) != person and authoritative and claim.kind in _MOVABLE):
                self._tie(claim, person)
        for claim in merged_from:
            holder = self._known.get(claim)
            if holder is None:
                self._tie(claim, person)
            elif self.find(holder) != person:
                person = self._merge(person, self.find(holder), f"the shop merged {claim.value} into this customer")
        return person

    def _fits(self, person: int, claims: list[Identifier]) -> bool:
        """May a person found by a weak identifier be this customer? Not when they are another customer of the shop."""
        own = {claim.value for claim in claims if claim.kind == "customer_id"}
        theirs = {held.value for held in self._held.get(person, ()) if held.kind == "customer_id"}
        shops = {value.partition(":")[0] for value in own}
        return not any(value.partition(":")[0] in shops and value not in own for value in theirs) or bool(own & theirs)

    def _one_person(self, left: int, right: int, tie: Identifier) -> bool:
        mine, theirs = self._held.get(left, set()), self._held.get(right, set())
        shops = {held.value.partition(":")[0] for held in mine if held.kind == "customer_id"}
        if any(held.kind == "customer_id" and held.value.partition(":")[0] in shops for held in theirs):
            return False
        if tie.kind != "phone":
            return True
        return not (any(h.kind == "email" for h in mine) and any(h.kind == "email" for h in theirs))

    def _create(self) -> int:
        person = self._next
        self._next += 1
        self.created.append(person)
        return person

    def _tie(self, identifier: Identifier, person: int) -> None:
        before = self._known.get(identifier)
        if before is not None:
            self._held.get(self.find(before), set()).discard(identifier)
            if identifier.kind == "email":
                self.moved.append((identifier, before))
        self._known[identifier] = person
        self.tied[identifier] = person
        if identifier.kind in ("customer_id", "email"):
            self._held.setdefault(person, set()).add(identifier)

    def _merge(self, left: int, right: int, because: str) -> int:
        winner, loser = min(left, right), max(left, right)
        self._alias[loser] = winner
        self._held.setdefault(winner, set()).update(self._held.pop(loser, ()))
        self.merges.append(Merge(winner, loser, because))
        return winner
