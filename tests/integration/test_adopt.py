"""Tags, fields and record ids that were at the vendors before anything was pushed, taken over as pushed."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from adapters.destination import Change, FieldSpec
from connector.sync import store
from connector.sync.adopt import Adoption, adopt
from tests.conftest import NOON, order
from tests.integration.test_sync import ADA, Synced, every_kind
from tests.integration.test_verify import BOB, CAT, person, read_back, storecue

DAN = "dan@example.com"


@pytest.fixture
def synced(tmp_path: Path) -> Iterator[Synced]:
    synced = Synced(tmp_path)
    yield synced
    synced.close()


def found_there(synced: Synced, kind: str, **settings: Any) -> None:
    """An account with three contacts of another tool's, and four customers decided on of whom nothing was pushed."""
    synced.configure(kind, **settings)
    specs = [FieldSpec("total_spent", "number", "Total spent"), FieldSpec("orders_count", "number", "Orders count")]
    there = {
        ADA: Change("1", ADA, "", ("recent-buyers", "vip"), ("recent-buyers", "vip"), (), figures(1500.0, 1)),
        BOB: Change("2", BOB, "", ("lapsed-vip",), ("lapsed-vip",), (), figures(3.0, 1)),
        CAT: Change("3", CAT, ""),
    }
    with closing(synced.shop.services.connect(synced.shop.services.configuration().destinations[kind])) as other:
        other.provision(specs, ["vip", "lapsed-vip", "recent-buyers"])
        assert all(outcome.status == "applied" for outcome in other.apply(list(there.values())))
    synced.deliver(*(order(1001 + n, customer=501 + n, email=e, total=t) for n, (e, t) in enumerate(PEOPLE.items())))


PEOPLE = {ADA: "1500.00", BOB: "20.10", CAT: "20.10", DAN: "20.10"}


def figures(total: float, orders: int) -> dict[str, Any]:
    return {"total_spent": total, "orders_count": orders}


def take_over(synced: Synced, kind: str, *, write: bool = True) -> Adoption:
    services = synced.shop.services
    configuration = services.configuration()
    config = configuration.destinations[kind]
    with closing(services.connect(config)) as adapter:
        options: dict[str, Any] = {"write": write, "now": synced.shop.time, "tell": services.log.append}
        return adopt(services.database, adapter, config, configuration.segments, **options)


def pushed(synced: Synced) -> dict[str, tuple[Any, Any, int]]:
    """Address -> (pushed state, record id, pending)."""
    rows = synced.rows("SELECT desired, pushed, remote_id, pending FROM sync_state")
    return {json.loads(row[0])["email"]: (row[1] and json.loads(row[1]), row[2], row[3]) for row in rows}


@every_kind
def test_the_first_push_tells_real_differences_only(synced: Synced, kind: str) -> None:
    found_there(synced, kind)
    found = take_over(synced, kind)
    assert (found.contacts, found.there, found.settled, found.left) == (4, 3, 1, [])
    assert {tag: dict(counts) for tag, counts in found.tags.items()} == {
        "recent-buyers": {"right": 1, "lacking": 2},
        "vip": {"right": 1},
        "lapsed-vip": {"wrong": 1},
    }
    assert {name: dict(counts) for name, counts in found.fields.items()} == {
        "total_spent": {"equal": 1, "different": 2},
        "orders_count": {"equal": 2, "different": 1},
    }
    states = pushed(synced)
    assert states[ADA][0] == synced.shop.desired(kind, person(synced, ADA)), "nothing is left to push"
    assert [states[email][2] for email in PEOPLE] == [0, 1, 1, 1]
    assert states[DAN][:2] == (None, None), "who is not there is left as they are"
    assert all(states[email][1] for email in (ADA, BOB, CAT)), "the record ids are known"
    assert synced.push() == 3
    told = {row[0]: json.loads(row[1]) for row in synced.rows("SELECT profile_id, data FROM push")}
    assert person(synced, ADA) not in told
    bob = told[person(synced, BOB)]
    assert (bob["tags_added"], bob["tags_removed"], bob["fields"]) == (
        ["recent-buyers"],
        ["lapsed-vip"],
        {"total_spent": 20.1},
    )
    contacts = synced.vendors[kind].contacts()
    assert {email: contacts[email]["tags"] for email in PEOPLE} == {
        ADA: ["recent-buyers", "vip"],
        BOB: ["recent-buyers"],
        CAT: ["recent-buyers"],
        DAN: ["recent-buyers"],
    }
    assert read_back(synced, kind).drifted == 0


@every_kind
def test_showing_writes_nothing(synced: Synced, kind: str) -> None:
    found_there(synced, kind)
    before, held = synced.rows("SELECT * FROM sync_state"), synced.vendors[kind].contacts()
    shown = take_over(synced, kind, write=False)
    assert (synced.rows("SELECT * FROM sync_state"), synced.vendors[kind].contacts()) == (before, held)
    assert shown == take_over(synced, kind), "and tells what will be written"


def test_it_goes_on_where_it_was_stopped_and_may_be_repeated(synced: Synced, monkeypatch: pytest.MonkeyPatch) -> None:
    found_there(synced, "klaviyo")
    piece, taken = store.unpushed, store.take_over
    monkeypatch.setattr(store, "unpushed", lambda c, name, after, _limit: piece(c, name, after, 2))
    turns: list[int] = []

    def stops(*arguments: Any) -> None:
        turns.append(1)
        if len(turns) == 2:
            raise KeyboardInterrupt
        taken(*arguments)

    monkeypatch.setattr(store, "take_over", stops)
    with pytest.raises(KeyboardInterrupt):
        take_over(synced, "klaviyo")
    done = sum(state[0] is not None for state in pushed(synced).values())
    assert done in (1, 2), "the first piece is taken over"
    assert take_over(synced, "klaviyo").contacts == 4 - done
    after = synced.rows("SELECT * FROM sync_state")
    again = take_over(synced, "klaviyo")
    assert (again.contacts, again.there) == (1, 0), "only who is not there is asked for again"
    assert synced.rows("SELECT * FROM sync_state") == after


def test_who_was_pushed_or_changed_meanwhile_is_left_alone(synced: Synced) -> None:
    found_there(synced, "klaviyo")
    wanted = {email: json.dumps(state) for email, state in ((ADA, {}), (BOB, {}))}
    before = synced.rows("SELECT * FROM sync_state")
    with synced.shop.services.database.tx() as tx:
        row = {"person": person(synced, ADA), "seen": wanted[ADA], "holds": "{}", "remote": "r"}
        store.take_over(tx, "klaviyo", [row])
    assert synced.rows("SELECT * FROM sync_state") == before
    synced.push()
    before = synced.rows("SELECT * FROM sync_state")
    assert take_over(synced, "klaviyo").contacts == 0
    assert synced.rows("SELECT * FROM sync_state") == before


def test_lists_are_filled_with_those_who_had_the_tags(synced: Synced) -> None:
    found_there(synced, "klaviyo", lists=True)
    take_over(synced, "klaviyo")
    states = pushed(synced)
    assert states[ADA][0]["tags"] == [], "the right tags are told again, because nobody knows who is on the lists"
    assert states[BOB][0]["tags"] == ["lapsed-vip"]
    synced.push()
    listed = {email: contact["lists"] for email, contact in synced.klaviyo.contacts().items()}
    assert "VIP" in listed[ADA]
    assert not any("VIP" in lists for email, lists in listed.items() if email != ADA)


def test_a_contact_of_two_profiles_is_left_to_a_person(synced: Synced) -> None:
    found_there(synced, "hubspot")
    synced.hubspot.merge(BOB, into=CAT)
    found = take_over(synced, "hubspot")
    assert len(found.left) == 1
    assert found.left[0] in (person(synced, BOB), person(synced, CAT))
    ids = [state[1] for state in pushed(synced).values() if state[1]]
    assert len(ids) == len(set(ids)) == 2


@every_kind
def test_names_that_are_there_cost_no_push(synced: Synced, kind: str) -> None:
    found_there(synced, kind)
    name = {"first_name": "Ada", "last_name": "King"}
    with closing(synced.shop.services.connect(synced.shop.services.configuration().destinations[kind])) as other:
        [outcome] = other.apply([Change("1", ADA, "", ("recent-buyers", "vip"), **name)])
        assert outcome.status == "applied"
    stamp = {"created_at": "2026-11-01T10:00:00Z", "updated_at": "2026-11-18T10:00:00Z"}
    for id_, email in ((501, ADA), (502, BOB)):
        synced.deliver({"id": id_, "email": email, **name, **stamp}, topic="customers/update")
    assert take_over(synced, kind).settled == 1
    states = pushed(synced)
    assert (states[ADA][0]["first_name"], states[ADA][2]) == ("Ada", 0)
    assert (states[BOB][0]["first_name"], states[BOB][2]) == (None, 1), "Bob's is told"
    synced.push()
    assert synced.vendors[kind].contacts()[BOB]["first_name"] == "Ada"
    assert read_back(synced, kind).drifted == 0


def test_who_unsubscribed_there_is_unsubscribed_here(synced: Synced) -> None:
    found_there(synced, "klaviyo")
    synced.klaviyo.unsubscribe(BOB)
    assert take_over(synced, "klaviyo", write=False).unsubscribed == 1
    synced.shop.work()
    with synced.shop.services.database.read() as connection:
        bob = person(synced, BOB)
        assert store.email_words(connection, [bob]) == {bob: None}
    assert take_over(synced, "klaviyo").unsubscribed == 1
    synced.shop.work()
    with synced.shop.services.database.read() as connection:
        word = store.email_words(connection, [bob])[bob]
    assert word is not None
    assert (word["state"], word["at"]) == ("unsubscribed", NOON)


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_shows_then_takes_over(synced: Synced, tmp_path: Path) -> None:
    found_there(synced, "mailchimp")
    lines = [
        "mailchimp: 4 contacts were never pushed, 3 of them are there",
        "  tag lapsed-vip: 0 right, 1 to be taken away, 0 to be added",
        "  tag recent-buyers: 1 right, 0 to be taken away, 2 to be added",
        "  tag vip: 1 right, 0 to be taken away, 0 to be added",
        "  field orders_count: 2 equal, 1 to be set",
        "  field total_spent: 1 equal, 2 to be set",
        "1 need no push, 2 a real difference",
    ]
    shown = storecue(tmp_path, "verify", "mailchimp", "--adopt")
    hint = "Nothing was written; run it with --yes to take this over as pushed"
    assert (shown.exit_code, shown.stdout.splitlines()) == (0, [*lines, hint])
    assert all(state[0] is None for state in pushed(synced).values())
    done = storecue(tmp_path, "verify", "mailchimp", "--adopt", "--yes")
    assert (done.exit_code, done.stdout.splitlines()) == (0, lines)
    assert sum(state[0] is not None for state in pushed(synced).values()) == 3
    assert "@" not in shown.output + done.output


def test_nothing_is_taken_over_while_a_sender_pushes(synced: Synced, tmp_path: Path) -> None:
    found_there(synced, "klaviyo")
    sender = synced.shop.services.turns.of("push", "klaviyo")
    assert sender.take()
    refused = storecue(tmp_path, "verify", "klaviyo", "--adopt", "--yes")
    assert refused.exit_code == 2
    assert "storecue destination pause klaviyo" in refused.stderr
    assert storecue(tmp_path, "verify", "klaviyo", "--adopt").exit_code == 0, "looking harms nobody"
    assert storecue(tmp_path, "destination", "pause", "klaviyo").exit_code == 0
    assert storecue(tmp_path, "verify", "klaviyo", "--adopt", "--yes").exit_code == 0
    sender.give_back()


@pytest.mark.parametrize("options", [["--yes"], ["--adopt", "--repair"], ["--repair", "--yes"]])
def test_options_that_do_not_go_together(synced: Synced, tmp_path: Path, options: list[str]) -> None:
    synced.configure("klaviyo")
    assert storecue(tmp_path, "verify", "klaviyo", *options).exit_code == 2
