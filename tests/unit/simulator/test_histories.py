"""After any sequence of changes, faults, restarts and unsubscribes the account shows what is desired, no subscription
has changed, and no request was ever one that the vendor forbids."""

import json
from contextlib import ExitStack
from itertools import count
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters import DESTINATIONS
from adapters.destination import Change, FieldSpec, Settings, Wanted
from adapters.errors import Transient
from connector.simulator.vendors import FakeHubSpot, FakeKlaviyo, FakeMailchimp, Faults

TAGS = ("bf", "gold", "lapsed", "new", "silver", "vip")
FIELDS = [FieldSpec("total_spent", "number", "Total spent"), FieldSpec("city", "text", "City")]
CITIES = (None, "Wien", "Wien, Stadt der Brücken " * 20)
"""The last is longer than Mailchimp keeps: it is left out, and no drift."""
PEOPLE = 45
"""Beyond what any vendor is sent singly, so that whole-account steps go through jobs and batches."""

FAKES = {
    "klaviyo": (FakeKlaviyo, {"api_key": "pk_fake"}, {"job_seconds": 90}),
    "klaviyo, tags shared": (
        FakeKlaviyo,
        {"api_key": "pk_fake"},
        {"job_seconds": 90, "tag_property": "tags", "append_repeats": True},
    ),
    "klaviyo, several jobs": (FakeKlaviyo, {"api_key": "pk_fake"}, {"job_seconds": 90}),
    "hubspot": (FakeHubSpot, {"access_token": "pat-eu1-fake"}, {}),
    "mailchimp": (FakeMailchimp, {"api_key": "0123456789abcdef0123456789abcdef-us21"}, {"batch_seconds": 90}),
    "mailchimp, several batches": (
        FakeMailchimp,
        {"api_key": "0123456789abcdef0123456789abcdef-us21"},
        {"batch_seconds": 90},
    ),
}
SMALLER = {
    "klaviyo, several jobs": ("adapters.klaviyo", {"_JOB": 10, "_SINGLES": 4}),
    "mailchimp, several batches": ("adapters.mailchimp", {"BATCH": 10, "_SINGLES": 4}),
}
"""A step about everybody is five jobs side by side, one about a few of them goes past those."""
FORBIDDEN = {400, 401, 403, 405, 413, 422, 429}

who = st.one_of(
    st.integers(0, PEOPLE - 1).map(lambda n: [n]),
    st.integers(0, PEOPLE - 15).map(lambda n: list(range(n, n + 15))),
    st.just(list(range(PEOPLE))),
)
what = st.tuples(st.sets(st.sampled_from(TAGS)), st.sampled_from([None, 0, 12.5]), st.sampled_from(CITIES))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("want"), who, what),
        st.tuples(st.just("push"), st.integers(0, 3), st.just(None)),
        st.tuples(st.just("restart"), st.just(None), st.just(None)),
        st.tuples(st.just("unsubscribe"), st.integers(0, PEOPLE - 1), st.just(None)),
    ),
    min_size=2,
    max_size=14,
)


class Account:
    """The desired states of some people, and what the vendor last accepted; None where nobody knows."""

    def __init__(self, kind, clock):
        make, self.credentials, options = FAKES[kind]
        self.kind, self.clock = kind, clock
        self.fake = make(clock=clock, keep_bodies=True, **options).start()
        self.desired, self.accepted, self.gone, self.noted = {}, {}, set(), {}
        self.open()
        self.adapter.provision(FIELDS, TAGS)

    def open(self):
        own = {"tags_property": "tags"} if "shared" in self.kind else {}
        place = {"base_url": self.fake.url, "allow_insecure": True, "list_id": "a1b2c3d4e5"}
        account = Settings(self.credentials, **place, options=own, jobs=self.noted)
        self.adapter = DESTINATIONS[self.fake.vendor](account, self.clock)

    def change(self, person):
        tags, fields = self.desired[person]
        had, shown = self.accepted.get(person) or (set(TAGS) - tags, {})
        known = self.accepted.get(person) is not None
        return Change(
            str(person), f"p{person}@example.com", f"shop:{person}", tags=tuple(sorted(tags)),
            tags_added=tuple(sorted(tags - had if known else tags)), tags_removed=tuple(sorted(had - tags)),
            fields={name: value for name, value in fields.items() if not known or shown.get(name) != value},
            subscribed=True,
        )  # fmt: skip

    def push(self):
        """True when everybody is accepted."""
        waiting = [person for person, state in self.desired.items() if self.accepted.get(person) != state]
        if not waiting:
            return True
        sent = {str(person): (person, self.desired[person]) for person in waiting}
        try:
            outcomes = self.adapter.apply([self.change(person) for person in waiting])
        except Transient as error:
            self.accepted |= dict.fromkeys(waiting)
            self.clock.sleep(error.retry_after)
            return False
        assert {outcome.status for outcome in outcomes} <= {"applied", "retry"}
        assert len(outcomes) == len(waiting)
        for outcome in outcomes:
            person, state = sent[outcome.key]
            self.accepted[person] = state if outcome.status == "applied" else None
        self.clock.sleep(max(outcome.retry_after for outcome in outcomes))
        return all(outcome.status == "applied" for outcome in outcomes)


@pytest.mark.parametrize("kind", FAKES)
@settings(max_examples=20, deadline=None)
@given(steps=steps)
def test_the_account_shows_what_is_desired(kind, steps):
    account = Account(kind, _Clock())
    seeds = count()
    smaller = ExitStack()
    if kind in SMALLER:
        module, sizes = SMALLER[kind]
        smaller.enter_context(patch.multiple(module, **sizes))
    try:
        for step, first, second in steps:
            if step == "want":
                tags, spent, city = second
                account.desired |= {person: (tags, {"total_spent": spent, "city": city}) for person in first}
            elif step == "push":
                account.fake.faults = Faults(seed=next(seeds), error_rate=0.1 * first, lost_rate=0.1 * first)
                account.push()
                account.fake.faults = Faults()
            elif step == "restart":
                account.adapter.close()
                account.open()
            elif f"p{first}@example.com" in account.fake.contacts():
                account.fake.unsubscribe(f"p{first}@example.com")
                account.gone.add(first)
        assert any(account.push() for _ in range(20))
        account.clock.sleep(120)  # and nothing that ends later undoes it
        wants = [Wanted(str(p), f"p{p}@example.com", None, fields) for p, (_, fields) in account.desired.items()]
        held = {int(contact.key): contact for contact in account.adapter.read(wants)}
        assert {p: (set(c.tags), c.fields) for p, c in held.items()} == account.desired
        assert all(len(contact["tags"]) == len({*contact["tags"]}) for contact in account.fake.contacts().values())
        assert {p for p, contact in held.items() if contact.consent == "unsubscribed"} == account.gone
        assert not [(r.method, r.path, r.status) for r in account.fake.requests if r.status in FORBIDDEN]
        assert not [body for body in _bodies(account.fake) if "status" in body]
    finally:
        smaller.close()
        account.adapter.close()
        account.fake.close()


def _bodies(fake):
    """What was sent as a contact of Mailchimp: singly, or as an operation of a batch."""
    for row in fake.requests:
        if row.method in ("PUT", "PATCH") and "/members/" in row.path:
            yield json.loads(row.body)
        if (row.method, row.path) == ("POST", "/3.0/batches"):
            for operation in json.loads(row.body)["operations"]:
                yield json.loads(operation.get("body", "{}"))


class _Clock:
    """Moved by sleeping alone; one for each history."""

    def __init__(self):
        self.at = 1_795_000_000.0

    def time(self):
        return self.at

    def monotonic(self):
        return self.at

    def sleep(self, seconds):
        self.at += seconds
