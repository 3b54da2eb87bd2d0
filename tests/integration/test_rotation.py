"""Credentials that change: nothing that waits is lost, an old key's last refusal stops nobody, and a key of another
account does not go on where the first one stopped."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from adapters.destination import Account
from adapters.errors import Misconfigured, Unauthorized
from connector.cli import main
from connector.sync import guard, login
from tests.conftest import NOON, order
from tests.integration.test_guard import people
from tests.integration.test_sync import ADA, KEY, Synced, every_kind

SECRET = {"klaviyo": "api_key", "hubspot": "access_token", "mailchimp": "api_key"}
NEW = {"klaviyo": "another-key", "hubspot": "another-key", "mailchimp": KEY.replace("0", "f")}
LOGIN = {
    "klaviyo": r"GET /api/accounts",
    "hubspot": r"GET /account-info/",
    "mailchimp": r"GET /3\.0/$",
}
"""The call that tells whose account it is."""
OTHER: dict[str, Any] = {
    "klaviyo": {"data": [{"id": "Zz9", "attributes": {"contact_information": {"organization_name": "Other shop"}}}]},
    "hubspot": {"portalId": 99, "accountType": "STANDARD", "timeZone": "UTC"},
    "mailchimp": {"account_id": "other", "account_name": "Other shop"},
}


@pytest.fixture
def synced(tmp_path: Path) -> Iterator[Synced]:
    synced = Synced(tmp_path)
    yield synced
    synced.close()


def rotate(synced: Synced, kind: str) -> None:
    """The vendor takes the old key back, and the new one is configured."""
    setattr(synced.vendors[kind], SECRET[kind], NEW[kind])
    synced.configure(kind, keys={SECRET[kind]: NEW[kind]})


def logins(synced: Synced, kind: str) -> int:
    return sum(bool(re.match(LOGIN[kind], f"{r.method} {r.path}")) for r in synced.vendors[kind].requests)


def storecue(synced: Synced, *arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--data", str(synced.shop.services.settings.data_dir)])


@every_kind
def test_what_waits_goes_out_with_the_new_key(synced: Synced, kind: str) -> None:
    synced.configure(kind)
    synced.deliver(order())
    synced.push()
    synced.deliver(order(1002))
    rotate(synced, kind)
    assert synced.push() == 1
    assert synced.rows("SELECT state, message FROM account") == [("active", "")]
    assert synced.rows("SELECT pending, pushed = desired FROM sync_state") == [(0, 1)]


@every_kind
def test_whose_account_it_is_is_asked_once_for_each_change_of_credentials(synced: Synced, kind: str) -> None:
    synced.configure(kind)
    synced.deliver(order())
    synced.push()
    assert logins(synced, kind) == 1
    synced.configure(kind, lists=True)
    synced.deliver(order(1002))
    synced.push()
    assert logins(synced, kind) == 1, "nor by another start"
    rotate(synced, kind)
    synced.deliver(order(1003))
    synced.push()
    assert logins(synced, kind) == 2


def test_the_credentials_are_not_kept_beside_the_account(synced: Synced) -> None:
    synced.configure("klaviyo")
    synced.deliver(order())
    synced.push()
    rows = synced.rows("SELECT * FROM account")
    assert rows
    assert "pk_test" not in str(rows)


def test_a_call_under_way_with_the_old_key_is_refused_last(synced: Synced, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of a worker that is told to stop: the new configuration is taken up, and then the old sender's call
    comes back with 401."""
    synced.configure("klaviyo")
    synced.deliver(order())
    synced.push()
    synced.deliver(order(1002))
    (old, _, _) = synced.shop.worker._pushers["klaviyo"]
    assert old._adapter is not None
    apply = type(old._adapter).apply
    refused = []

    def late(adapter: Any, changes: Any) -> Any:
        monkeypatch.setattr(type(adapter), "apply", apply)
        rotate(synced, "klaviyo")  # closes the old sender and starts another
        refused.append(synced.rows("SELECT state FROM account"))
        raise Unauthorized("the key was taken back")

    monkeypatch.setattr(type(old._adapter), "apply", late)
    old.step(NOON)
    assert refused == [[("active",)]]
    assert synced.rows("SELECT state FROM account") == [("unauthorized",)], "said by the old one, and last"
    assert synced.push() == 1
    assert synced.rows("SELECT state, message, refused_key FROM account") == [("active", "", "")]
    assert synced.klaviyo.contacts()[ADA]["fields"]["orders_count"] == 2


def test_a_file_with_a_new_key_is_read_without_a_restart(synced: Synced, tmp_path: Path) -> None:
    file = tmp_path / "klaviyo.key"
    file.write_text("pk_test")
    synced.configure("klaviyo", keys={"api_key": f"file:{file}"})
    synced.deliver(order())
    synced.push()
    synced.klaviyo.api_key = "another-key"
    synced.deliver(order(1002))
    assert synced.push() == 0
    assert synced.rows("SELECT state FROM account") == [("unauthorized",)]
    before = len(synced.klaviyo.requests)
    synced.push()
    assert len(synced.klaviyo.requests) == before, "nobody knocks at a closed door"
    file.unlink()
    assert synced.push() == 0
    file.write_text("another-key\n")
    assert synced.push() == 1
    assert synced.rows("SELECT state FROM account") == [("active",)]


@every_kind
def test_a_key_of_another_account_stops_the_destination(synced: Synced, kind: str) -> None:
    synced.configure(kind)
    synced.deliver(order())
    synced.push()
    synced.vendors[kind].faults.answer(200, OTHER[kind], match=LOGIN[kind])
    synced.deliver(order(1002))
    rotate(synced, kind)
    writes = synced.writes(kind)
    assert synced.push() == 0
    assert synced.writes(kind) == writes
    [(state, message, known)] = synced.rows("SELECT state, message, account_name FROM account")
    assert state == "misconfigured"
    assert known in message
    assert ("Other shop" if kind != "hubspot" else "HubSpot 99") in message
    assert f"storecue destination new-account {kind}" in message
    synced.configure(kind, keys={SECRET[kind]: NEW[kind]}, lists=True)  # tried again, and it is the right one this time
    assert synced.push() == 1
    assert synced.rows("SELECT state FROM account") == [("active",)]


@every_kind
def test_a_key_that_may_not_read_the_account_pushes_all_the_same(synced: Synced, kind: str) -> None:
    synced.configure(kind)
    synced.vendors[kind].faults.answer(403, {}, match=LOGIN[kind], times=9)
    synced.deliver(order())
    assert synced.push() == 1
    assert synced.rows("SELECT state, account_id FROM account") == [("active", "")]
    rotate(synced, kind)
    synced.deliver(order(1002))
    assert synced.push() == 1


def test_another_account_begins_anew_when_somebody_says_so(synced: Synced, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connector.clock.now", lambda: NOON)  # the command line asks it
    synced.configure("klaviyo")
    people(synced, 12)
    synced.push()
    assert "has not met another account" in storecue(synced, "destination", "new-account", "klaviyo").stderr
    synced.klaviyo.faults.answer(200, OTHER["klaviyo"], match=LOGIN["klaviyo"], times=2)
    rotate(synced, "klaviyo")
    synced.push()
    result = storecue(synced, "destination", "new-account", "klaviyo")
    assert result.exit_code == 0, result.output
    assert synced.push() == 0
    hold = guard.review(synced.shop.services.database, "klaviyo", NOON).hold
    assert hold == guard.Hold(0, 0, 12, 0, since=NOON), "a first push, asked about like any other"
    assert storecue(synced, "destination", "approve", "klaviyo", "--yes").exit_code == 0
    assert synced.push() == 12
    assert synced.rows("SELECT state, account_name FROM account") == [("active", "Other shop")]
    assert synced.rows("SELECT count(*) FROM sync_state WHERE pending = 0 AND pushed = desired") == [(12,)]


@pytest.mark.parametrize(("known", "found"), [("", "b"), ("a", ""), ("a", "a")])
def test_only_two_ids_that_differ_are_two_accounts(known: str, found: str) -> None:
    login.check("crm", {"account_id": known, "account_name": "Aurora"}, Account(found, "Aurora"))
    login.check("crm", None, Account(found, "Aurora"))


def test_the_words_hold_no_address() -> None:
    with pytest.raises(Misconfigured) as raised:
        login.check("crm", {"account_id": "a", "account_name": "ada@example.com"}, Account("bob@example.com", "Bob"))
    assert "@" not in raised.value.message
    assert "Bob ((address))" in raised.value.message


credentials = st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=3)


@given(credentials, credentials)
def test_a_mark_knows_its_credentials_and_no_others(one: dict[str, str], other: dict[str, str]) -> None:
    marked = login.mark(one)
    assert login.is_of(marked, one)
    assert login.is_of(marked, other) is (one == other)
    assert marked != login.mark(one)
    assert not login.is_of("", one)
