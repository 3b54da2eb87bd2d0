"""Who is meant: identifiers tied to people, one batch at a time, in memory and pure."""

import itertools
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import translate

from connector.clock import Millis
from connector.domain import Identifier, IdentityConfig

_STRENGTH = {"customer_id": 0, "email": 1, "phone": 2, "checkout_token": 3, "cart_token": 4, "anonymous_id": 5}
_MOVABLE = ("email", "phone")  # what a shop may reassign from one of its customers to another


@dataclass(frozen=True, slots=True)
class Merge:
    """Two people found to be one: `loser`'s history goes to `winner`, the older of the two. `told_by` are the source
    and id of the delivery that showed it."""

    winner: int
    loser: int
    because: str
    told_by: tuple[str, str] = ("", "")


class Rules:
    """What identifiers are worth, compiled (see domain.IdentityConfig)."""

    def __init__(self, config: IdentityConfig) -> None:
        self._blocked = {
            kind: re.compile("|".join(translate(value.lower()) for value in values))
            for kind, values in config.blocked.items()
            if values
        }
        self._limits = config.limits

    def is_nobodys(self, identifier: Identifier) -> bool:
        """True for values that many people give, such as test@test.com."""
        blocked = self._blocked.get(identifier.kind)
        if blocked is None:
            return False
        value = identifier.value.partition(":")[2] if identifier.kind == "customer_id" else identifier.value
        return blocked.match(value.lower()) is not None

    def has_room(self, kind: str, count: int) -> bool:
        """True when a profile with `count` identifiers of this kind may have one more."""
        return count < self._limits.get(kind, count + 1)


@dataclass(slots=True)
class Stored:
    """What is stored about the identifiers of a batch and the profiles behind them.

    known: the profile of each identifier; held: the customer ids and e-mails of those profiles; counts: how many
    identifiers of each kind each has; shared: devices that several known people use; apart: pairs of profiles (lower
    id first) that a person has said are two people; ids: the next free profile ids; owned_at: as of when a shop
    said whose an address or a phone is.
    """

    known: Mapping[Identifier, int] = field(default_factory=dict)
    held: Mapping[int, Iterable[Identifier]] = field(default_factory=dict)
    counts: Mapping[tuple[int, str], int] = field(default_factory=dict)
    shared: Collection[Identifier] = ()
    apart: Collection[tuple[int, int]] = ()
    ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    owned_at: Mapping[Identifier, Millis] = field(default_factory=dict)


class People:
    """The people that a batch touches.

    After the calls of `resolve`, `created`, `tied`, `owned_at`, `shared` (with who shares it) and `merges` say what to
    write, `moved` which e-mails have left whom, and `refused` counts the identifiers that were passed over, by reason.
    """

    def __init__(self, stored: Stored, rules: Rules) -> None:
        self._known = dict(stored.known)
        self._held: dict[int, set[Identifier]] = {person: set(them) for person, them in stored.held.items()}
        self._counts = Counter(dict(stored.counts))
        self._was_shared = set(stored.shared)
        self._apart = {frozenset(pair) for pair in stored.apart}
        self._rules = rules
        self._alias: dict[int, int] = {}
        self._ids = stored.ids
        self.owned_at = dict(stored.owned_at)
        self.created: list[int] = []
        self.tied: dict[Identifier, int] = {}
        self.shared: dict[Identifier, tuple[int, int]] = {}
        self.merges: list[Merge] = []
        self.moved: list[tuple[Identifier, int]] = []
        self.refused: Counter[str] = Counter()

    def find(self, person: int) -> int:
        """The profile that `person` has become."""
        while person in self._alias:
            person = self._alias[person]
        return person

    def resolve(
        self,
        identifiers: Iterable[Identifier],
        *,
        owned_at: Millis | None = None,
        unverified: bool = False,
        merged_from: Iterable[Identifier] = (),
        told_by: tuple[str, str] = ("", ""),
    ) -> int | None:
        """The profile id of the one person who has these identifiers; None when there are none.

        The strongest known identifier decides. Others' holders are merged in, unless both are known customers of one
        shop, or somebody has said that they are two people, or only a phone ties two people who write from different
        addresses: then the weaker identifier stays with its holder, or moves when the sender is the authority on it and
        speaks of a later instant (`owned_at`, None for all others) than the holder's did. An unverified claim brings in
        unknown visitors only, and gives somebody known nothing but the visitor's own id.
        """
        claims = self._worth(identifiers)
        if not claims:
            return None
        found = [(claim, self.find(self._known[claim])) for claim in claims if claim in self._known]
        fitting = [
            (claim, person)
            for claim, person in found
            if claim.kind == "customer_id" or self._fits(person, claims, claim.kind, unverified)
        ]
        person = fitting[0][1] if fitting else self._create()
        for claim, other in fitting:
            other = self.find(other)
            if unverified and self._held.get(person) and self._held.get(other):
                continue
            if other != person and self._one_person(person, other, claim):
                because = f"both have {claim.kind.replace('_', ' ')} {claim.value}"
                person = self._merge(Merge(person, other, because, told_by))
        known = unverified and bool(self._held.get(person))
        for claim in claims:
            holder = self._known.get(claim)
            if known and holder is None and claim.kind != "anonymous_id":
                continue
            owns = owned_at is not None and claim.kind in _MOVABLE
            if holder is None:
                self._tie_if_room(claim, person)
            elif owns:
                if self._is_later(claim, person, owned_at or 0):
                    self._tie(claim, person)
            elif claim.kind == "anonymous_id" and self._are_two_known(person, self.find(holder)):
                self._share(claim, person, self.find(holder))
            if owns and self.find(self._known.get(claim, -1)) == person:
                self.owned_at[claim] = max(self.owned_at.get(claim, 0), owned_at or 0)
        for claim in merged_from:
            holder = self._known.get(claim)
            if holder is None:
                self._tie(claim, person)
            elif self.find(holder) != person:
                because = f"the shop merged {claim.value} into this customer"
                person = self._merge(Merge(person, self.find(holder), because, told_by))
        return person

    def _worth(self, identifiers: Iterable[Identifier]) -> list[Identifier]:
        """The identifiers that say who somebody is, the strongest first. A shared device says it only alone: what is
        done on it without a word on who does it is nobody's in particular."""
        claims = []
        for claim in identifiers:
            if self._rules.is_nobodys(claim):
                self.refused[f"blocked_{claim.kind}"] += 1
            else:
                claims.append(claim)
        if len(claims) > 1:
            claims = [claim for claim in claims if claim not in self._was_shared] or claims
        return sorted(claims, key=lambda identifier: _STRENGTH[identifier.kind])

    def _fits(self, person: int, claims: list[Identifier], kind: str, unverified: bool) -> bool:
        """May a person found by a weak identifier of this kind be the one who is meant? Not when they are another
        customer of the shop; and by a phone or a device alone nobody is who writes from another address: the device
        may have come to them by a visitor's word."""
        if kind == "phone" or (kind == "anonymous_id" and not unverified):
            wrote = {held for held in self._held.get(person, ()) if held.kind == "email"}
            writes = {claim for claim in claims if claim.kind == "email"}
            if wrote and writes and not wrote & writes:
                return False
        own = {claim.value for claim in claims if claim.kind == "customer_id"}
        theirs = {held.value for held in self._held.get(person, ()) if held.kind == "customer_id"}
        shops = {value.partition(":")[0] for value in own}
        return not any(value.partition(":")[0] in shops and value not in own for value in theirs) or bool(own & theirs)

    def _one_person(self, left: int, right: int, tie: Identifier) -> bool:
        if self._apart and any({left, right} == {self.find(one) for one in pair} for pair in self._apart):
            return False
        mine, theirs = self._held.get(left, set()), self._held.get(right, set())
        shops = {held.value.partition(":")[0] for held in mine if held.kind == "customer_id"}
        if any(held.kind == "customer_id" and held.value.partition(":")[0] in shops for held in theirs):
            return False
        if tie.kind not in ("phone", "anonymous_id"):
            return True
        return not (any(h.kind == "email" for h in mine) and any(h.kind == "email" for h in theirs))

    def _are_two_known(self, left: int, right: int) -> bool:
        return left != right and bool(self._held.get(left)) and bool(self._held.get(right))

    def _is_later(self, claim: Identifier, person: int, at: Millis) -> bool:
        """Does a shop's word as of `at` count more than the one before? Of two words of one instant that of the lower
        customer id does, so that it does not matter which came first."""
        holder, before = self.find(self._known[claim]), self.owned_at.get(claim, 0)
        if at != before or holder == person:
            return at > before
        return self._customers(person) < self._customers(holder)

    def _customers(self, person: int) -> list[str]:
        return sorted(held.value for held in self._held.get(person, ()) if held.kind == "customer_id")

    def _create(self) -> int:
        person = next(self._ids)
        self.created.append(person)
        return person

    def _tie_if_room(self, claim: Identifier, person: int) -> None:
        """Tie an unknown identifier, unless the profile has more than anybody would: then it is a till, a shared
        account or an attack, and one identifier more says nothing."""
        if self._rules.has_room(claim.kind, self._counts[person, claim.kind]):
            self._tie(claim, person)
        else:
            self.refused[f"too_many_{claim.kind}"] += 1

    def _share(self, device: Identifier, left: int, right: int) -> None:
        """Two known people use a device: from now on it names neither of them."""
        self._was_shared.add(device)
        self.shared[device] = (left, right)
        self._tie(device, self._create())

    def _tie(self, identifier: Identifier, person: int) -> None:
        before = self._known.get(identifier)
        if before is not None:
            self._held.get(self.find(before), set()).discard(identifier)
            self._counts[self.find(before), identifier.kind] -= 1
            if identifier.kind == "email" and self.find(before) != self.find(person):
                self.moved.append((identifier, before))
        self._known[identifier] = person
        self.tied[identifier] = person
        self._counts[person, identifier.kind] += 1
        if identifier.kind in ("customer_id", "email"):
            self._held.setdefault(person, set()).add(identifier)

    def _merge(self, found: Merge) -> int:
        winner, loser = min(found.winner, found.loser), max(found.winner, found.loser)
        self._alias[loser] = winner
        self._held.setdefault(winner, set()).update(self._held.pop(loser, ()))
        for kind in _STRENGTH:
            self._counts[winner, kind] += self._counts.pop((loser, kind), 0)
        self.merges.append(Merge(winner, loser, found.because, found.told_by))
        return winner
