"""Whatever people do at HubSpot between and amid our pushes: deleting, merging, changing addresses, saving options,
opting out; with answers lost and calls failed. In the end every person of ours has one contact that shows what is
desired, what people did to their own things stands, and no request was one that HubSpot forbids."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.destination import Change, FieldSpec, Settings, Wanted
from adapters.errors import Transient
from adapters.hubspot import HubSpot
from connector.simulator.vendors import FakeHubSpot, Faults

PEOPLE, TAGS = 8, ("bf", "lapsed", "vip")
FIELDS = [FieldSpec("total_spent", "number", "Total spent"), FieldSpec("city", "text", "City")]
FORBIDDEN = {401, 403, 405, 413, 422, 429}

person = st.integers(0, PEOPLE - 1)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("want"), st.sets(person, min_size=1), st.sets(st.sampled_from(TAGS)), st.integers(0, 3)),
        st.tuples(st.just("push"), st.sampled_from([0.0, 0.1, 0.3])),
        st.tuples(st.just("restart")),
        st.tuples(st.just("delete"), person),
        st.tuples(st.just("merge"), person, person),
        st.tuples(st.just("address"), person),
        st.tuples(st.just("options"), st.sets(st.sampled_from(TAGS))),
        st.tuples(st.just("opt_out"), person),
    ),
    min_size=3,
    max_size=16,
)


class Shop:
    """What we want of some people, what we know of their contacts, and who was merged with whom there."""

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.fake = FakeHubSpot(clock=clock, keep_bodies=True).start()
        self.desired: dict[int, tuple[set[str], int]] = {}
        self.accepted: dict[int, Any] = {}
        self.ids: dict[int, str] = {}
        self.groups = {n: {n} for n in range(PEOPLE)}  # merged people share a contact
        self.made: set[str] = set()
        self.open()
        self.adapter.provision(FIELDS, TAGS)

    def open(self) -> None:
        account = Settings({"access_token": self.fake.access_token}, base_url=self.fake.url, allow_insecure=True)
        self.adapter = HubSpot(account, self.clock)

    def change(self, n: int) -> Change:
        tags, spent = self.desired[n]
        fields = {"total_spent": spent, "city": f"city {n}"}
        told = tuple(sorted(tags))
        return Change(f"{n}", f"p{n}@example.com", f"shop:{n}", tags=told, fields=fields, remote_id=self.ids.get(n))

    def push(self) -> bool:
        """True when everything is accepted."""
        waiting = [n for n, state in self.desired.items() if self.accepted.get(n) != state]
        sent = {n: self.desired[n] for n in waiting}
        try:
            outcomes = self.adapter.apply([self.change(n) for n in waiting])
        except Transient as error:
            self.clock.sleep(error.retry_after)
            return False
        assert {outcome.status for outcome in outcomes} <= {"applied", "retry"}, outcomes
        for outcome in outcomes:
            if outcome.status == "applied":
                assert outcome.remote_id
                self.accepted[int(outcome.key)] = sent[int(outcome.key)]
                self.ids[int(outcome.key)] = outcome.remote_id
        self.clock.sleep(max((outcome.retry_after for outcome in outcomes), default=0))
        return len(self.accepted) == len(self.desired) and all(o.status == "applied" for o in outcomes)

    def there(self, n: int) -> bool:
        return f"p{n}@example.com" in self.fake.contacts()

    def forget_what_was_accepted(self) -> None:
        """As a repair does after reading back: everything is told again."""
        self.accepted.clear()

    def step(self, step: Any) -> None:
        match step:
            case "want", people, tags, spent:
                self.desired |= {n: (set(tags), spent) for n in people}
            case "push", share:
                self.fake.faults = Faults(seed=len(self.fake.requests), error_rate=share, lost_rate=share)
                self.push()
                self.fake.faults = Faults()
            case ("restart",):
                self.adapter.close()
                self.open()
            case "delete", n if self.there(n):
                self.fake.delete(f"p{n}@example.com")
            case "merge", gone, kept if gone != kept and self.there(gone) and self.there(kept):
                self.fake.merge(f"p{gone}@example.com", into=f"p{kept}@example.com")
                joint = self.groups[gone] | self.groups[kept]
                self.groups |= dict.fromkeys(joint, joint)
            case "address", n if self.there(n) and self.fake.contacts()[f"p{n}@example.com"]["id"] == self.ids.get(n):
                self.fake.change_address(f"p{n}@example.com", f"other{n}@example.org")
            case "options", kept:
                self.made.add("by-hand")
                self.fake.set_options("storecue_tags", ["by-hand", *sorted(kept)])
            case "opt_out", n if self.there(n):
                self.fake.unsubscribe(f"p{n}@example.com")


@given(steps=steps)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_person_has_one_contact_that_shows_what_is_desired(steps: Any, clock: Any) -> None:
    shop = Shop(clock)
    try:
        shop.step(("want", range(PEOPLE), {"vip"}, 1))
        assert shop.push()
        for step in steps:
            shop.step(step)
        shop.forget_what_was_accepted()
        assert any(shop.push() for _ in range(30))
        wanted = [
            Wanted(f"{n}", f"p{n}@example.com", shop.ids[n], {"total_spent": spent, "city": f"city {n}"})
            for n, (_, spent) in shop.desired.items()
        ]
        held = {int(one.key): one for one in shop.adapter.read(wanted)}
        for n, (tags, spent) in shop.desired.items():
            assert held[n].status == "found"
            if shop.groups[n] == {n}:  # two people in one contact: the one told last shows
                assert set(held[n].tags) == tags
                assert held[n].fields == {"total_spent": spent, "city": f"city {n}"}
        alone = [one.remote_id for n, one in held.items() if shop.groups[n] == {n}]
        assert len(alone) == len(set(alone))
        assert len(shop.fake.contacts()) == len({one.remote_id for one in held.values()})
        options = {option["value"] for option in shop.fake.properties()["storecue_tags"]["options"]}
        assert options >= shop.made | {tag for tags, _ in shop.desired.values() for tag in tags}
        assert not [(r.method, r.path, r.status) for r in shop.fake.requests if r.status in FORBIDDEN]
        assert not any(b"optout" in r.body for r in shop.fake.requests if not r.path.endswith("/read"))
    finally:
        shop.adapter.close()
        shop.fake.close()
