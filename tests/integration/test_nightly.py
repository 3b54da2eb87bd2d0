"""A sample read back every night of the store by its destination's sender, on a clock that only the test moves."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.clock import DAY, HOUR, MINUTE, SECOND
from connector.sources import readback
from connector.sync import store
from connector.sync.nightly import nightfall
from connector.worker import Worker
from tests.conftest import NOON, iso, order
from tests.integration.test_sync import ADA, Synced, every_kind
from tests.integration.test_verify import BOB, fill, meddle, person

PARIS = ZoneInfo("Europe/Paris")


@pytest.fixture
def synced(tmp_path: Path) -> Iterator[Synced]:
    synced = Synced(tmp_path)
    yield synced
    synced.close()


def night(kind: str, nights: int = 1) -> int:
    """When the night of a destination begins, counted from the noon at which these tests start."""
    return nightfall(NOON + nights * DAY, PARIS, kind)


def rounds(synced: Synced, count: int = 12) -> None:
    """The sender's rounds of some seconds."""
    for _ in range(count):
        synced.shop.worker.push_once()
        synced.shop.work()


def nightly(synced: Synced) -> list[dict[str, Any]]:
    columns = "state, at, contacts, checked, drifted, repaired, differences, error"
    rows = synced.rows(f"SELECT {columns} FROM verification ORDER BY id")
    return [dict(zip(columns.split(", "), row, strict=True)) for row in rows]


def crowd(synced: Synced, kind: str, people: int, **settings: Any) -> list[str]:
    """So many people pushed; their addresses."""
    synced.configure(kind, **settings)
    emails = [f"p{number}@example.com" for number in range(people)]
    synced.deliver(*(order(2000 + n, customer=700 + n, email=email) for n, email in enumerate(emails)))
    synced.push()
    return emails


def at_klaviyo(synced: Synced, email: str) -> Any:
    return next(one for one in synced.klaviyo._profiles.values() if one.attributes["email"] == email)


# --- once in a night -------------------------------------------------------------------------------------------------


@every_kind
def test_drift_is_put_right_once_in_a_night(synced: Synced, kind: str) -> None:
    fill(synced, kind)
    before = synced.vendors[kind].contacts()[ADA]
    meddle(synced, kind, fields={"orders_count": 7}, tags=("recent-buyers",), tags_removed=("vip",))
    ada = person(synced, ADA)
    rounds(synced)
    assert nightly(synced) == [], "nothing by day"
    synced.shop.at(night(kind) - SECOND)
    rounds(synced)
    assert nightly(synced) == []
    synced.shop.at(night(kind))
    rounds(synced)
    [told] = nightly(synced)
    assert (told["state"], told["at"], told["error"]) == ("done", night(kind), "")
    assert [told[name] for name in ("contacts", "checked", "drifted", "repaired")] == [3, 3, 1, 1]
    differences = {
        "field orders_count": {"count": 1, "profiles": [ada]},
        "tag vip lost": {"count": 1, "profiles": [ada]},
    }
    assert json.loads(told["differences"]) == differences
    assert synced.vendors[kind].contacts()[ADA] == before
    asked = len(synced.vendors[kind].requests)
    for hour in range(1, 20):
        synced.shop.at(night(kind) + hour * HOUR)
        rounds(synced, 3)
    assert len(synced.vendors[kind].requests) == asked, "once in a night"
    synced.shop.at(night(kind, 2))
    rounds(synced)
    assert [row["drifted"] for row in nightly(synced)] == [1, 0]


def test_the_destinations_do_not_begin_in_the_same_minute(synced: Synced) -> None:
    begins = {night(name) // MINUTE for name in ("klaviyo", "hubspot", "mailchimp", "brevo", "newsletter", "staging")}
    assert len(begins) == 6


def test_a_sample_in_pieces_and_another_one_every_night(synced: Synced) -> None:
    crowd(synced, "klaviyo", 90, verify={"sample": 60, "repair": True})
    read: list[set[str]] = []
    for number in (1, 2):
        synced.shop.at(night("klaviyo", number))
        before = len(synced.klaviyo.requests)
        rounds(synced)
        asked = [unquote(str(request)) for request in synced.klaviyo.requests[before:]]
        assert len(asked) == 2, "pieces of 40 and 20"
        read.append(set(re.findall(r"p[0-9]+@", str(asked))))
    assert [row["checked"] for row in nightly(synced)] == [60, 60]
    assert [row["contacts"] for row in nightly(synced)] == [90, 90]
    assert [len(people) for people in read] == [60, 60]
    assert read[0] != read[1]


def test_pushes_go_first(synced: Synced) -> None:
    crowd(synced, "klaviyo", 60)
    synced.shop.at(night("klaviyo"))
    synced.shop.worker.push_once()
    synced.deliver(order(9001, customer=700, email="p0@example.com", total="5.00"))
    assert synced.shop.worker.push_once() == 1
    assert nightly(synced) == [], "half of it is read, and what came in between is pushed"
    rounds(synced)
    assert [(row["state"], row["checked"]) for row in nightly(synced)] == [("done", 60)]


def test_never_when_it_is_switched_off(synced: Synced) -> None:
    fill(synced, "klaviyo", verify=False)
    synced.shop.at(night("klaviyo"))
    rounds(synced)
    assert nightly(synced) == []


def test_without_repair_it_only_tells(synced: Synced) -> None:
    fill(synced, "klaviyo", verify={"repair": False})
    meddle(synced, "klaviyo", fields={"orders_count": 7})
    seen = synced.rows("SELECT * FROM sync_state")
    synced.shop.at(night("klaviyo"))
    rounds(synced)
    assert [(row["drifted"], row["repaired"]) for row in nightly(synced)] == [(1, 0)]
    assert synced.rows("SELECT * FROM sync_state") == seen


# --- what is left to people ------------------------------------------------------------------------------------------


def test_who_is_missing_is_told_and_not_made_anew(synced: Synced) -> None:
    fill(synced, "hubspot")
    synced.hubspot._removed(synced.hubspot._contacts[synced.hubspot._unique["email"][BOB]])
    synced.shop.at(night("hubspot"))
    rounds(synced)
    [told] = nightly(synced)
    bob = {"count": 1, "profiles": [person(synced, BOB)]}
    assert (told["drifted"], told["repaired"], json.loads(told["differences"])) == (1, 0, {"missing": bob})
    assert BOB not in synced.hubspot.contacts()


def test_a_moved_record_id_is_followed(synced: Synced) -> None:
    fill(synced, "hubspot")
    with synced.shop.services.database.tx() as tx:
        [(right,)] = synced.rows(f"SELECT remote_id FROM sync_state WHERE profile_id = {person(synced, BOB)}")
        tx.exec_driver_sql(f"UPDATE sync_state SET remote_id = '99999' WHERE remote_id = '{right}'")
    synced.shop.at(night("hubspot"))
    rounds(synced)
    assert json.loads(nightly(synced)[0]["differences"]).keys() == {"merged"}
    assert synced.rows(f"SELECT remote_id FROM sync_state WHERE profile_id = {person(synced, BOB)}") == [(right,)]


def test_an_account_that_somebody_emptied_is_not_filled_again(synced: Synced) -> None:
    emails = crowd(synced, "klaviyo", 20)
    seen = synced.rows("SELECT profile_id, pushed, pending FROM sync_state")
    for email in emails[:7]:
        at_klaviyo(synced, email).properties["storecue_tags"] = []
    synced.shop.at(night("klaviyo"))
    rounds(synced)
    [told] = nightly(synced)
    assert (told["checked"], told["drifted"], told["repaired"]) == (20, 7, 0)
    assert "7 of 20 contacts" in told["error"]
    assert "storecue verify klaviyo --repair" in told["error"]
    assert synced.rows("SELECT profile_id, pushed, pending FROM sync_state") == seen


def test_thirty_per_cent_are_still_put_right(synced: Synced) -> None:
    emails = crowd(synced, "klaviyo", 20)
    for email in emails[:6]:
        at_klaviyo(synced, email).properties["storecue_tags"] = []
    synced.shop.at(night("klaviyo"))
    rounds(synced)
    assert [(row["repaired"], row["error"]) for row in nightly(synced)] == [(6, "")]


# --- accounts that are paused or down, and crashes -------------------------------------------------------------------


def test_a_paused_account_is_skipped_and_read_when_it_is_back(synced: Synced) -> None:
    fill(synced, "klaviyo")
    with synced.shop.services.database.tx() as tx:
        store.pause(tx, "klaviyo", NOON, "")
    synced.shop.at(night("klaviyo") + HOUR)
    rounds(synced)
    assert nightly(synced) == []
    with synced.shop.services.database.tx() as tx:
        store.resume(tx, "klaviyo", NOON)
    rounds(synced)
    assert [row["state"] for row in nightly(synced)] == ["done"]


def test_a_night_that_is_over_is_not_read_by_day(synced: Synced) -> None:
    fill(synced, "klaviyo")
    synced.shop.at(night("klaviyo") + 6 * HOUR)
    rounds(synced)
    assert nightly(synced) == []


@pytest.mark.parametrize("status", [403, 500])
def test_an_account_that_cannot_be_read_is_tried_again_in_an_hour_and_pushed_to_as_ever(
    synced: Synced, status: int
) -> None:
    fill(synced, "klaviyo")
    synced.klaviyo.faults.answer(status, {"errors": []}, match="GET /api/profiles", times=20)
    synced.shop.at(night("klaviyo"))
    rounds(synced, 3)
    [told] = nightly(synced)
    assert told["state"] == "failed"
    assert told["error"]
    asked = len(synced.klaviyo.requests)
    synced.shop.at(night("klaviyo") + 59 * MINUTE)
    rounds(synced)
    assert len(synced.klaviyo.requests) == asked
    assert synced.rows("SELECT state FROM account") == [("active",)]
    synced.deliver(order(1009, total="7.00"))
    assert synced.push() == 1
    synced.klaviyo.faults._rules.clear()
    synced.shop.at(night("klaviyo") + HOUR)
    rounds(synced)
    assert [(row["state"], row["error"], row["checked"]) for row in nightly(synced)] == [("done", "", 3)]


def test_a_crash_in_the_middle_repeats_harmlessly(synced: Synced) -> None:
    emails = crowd(synced, "klaviyo", 60)
    meddled = at_klaviyo(synced, emails[0])
    meddled.properties["orders_count"] = 9
    for email in emails[:50]:
        synced.klaviyo.unsubscribe(email)
    synced.shop.at(night("klaviyo"))
    synced.shop.worker.push_once()  # one piece is read, its words are in line, and the process is gone
    in_line = synced.shop.services.log.database
    with in_line.read() as connection:
        [(first,)] = connection.exec_driver_sql(
            "SELECT count(*) FROM delivery WHERE source LIKE 'readback:%'"
        ).fetchall()
    assert 0 < first < 50
    assert nightly(synced) == []
    synced.shop.worker.close()
    synced.shop.worker = Worker(synced.shop.services, lambda: synced.shop.time, push=False)
    rounds(synced, 20)
    assert [(row["state"], row["checked"]) for row in nightly(synced)] == [("done", 60)]
    assert meddled.properties["orders_count"] == 1
    with synced.shop.services.database.read() as connection:
        words = store.email_words(connection, [person(synced, email) for email in emails])
    assert sum(word is not None and word["state"] == "unsubscribed" for word in words.values()) == 50
    assert synced.rows("SELECT count(*) FROM change WHERE kind = 'consent'") == [(50,)], "each said once"


# --- consent ---------------------------------------------------------------------------------------------------------


def consent(state: str, at: int) -> dict[str, Any]:
    said = {"state": state, "opt_in_level": "single_opt_in", "consent_updated_at": iso(at)}
    return {"customer_id": 501, "email_address": ADA, "email_marketing_consent": said}


def word(synced: Synced, email: str = ADA) -> dict[str, Any] | None:
    with synced.shop.services.database.read() as connection:
        return store.email_words(connection, [person(synced, email)])[person(synced, email)]


@every_kind
def test_who_unsubscribed_at_the_vendor_is_unsubscribed_here(synced: Synced, kind: str) -> None:
    fill(synced, kind)
    synced.deliver(consent("subscribed", NOON), topic="customers_email_marketing_consent/update")
    synced.push()
    vendor: Any = synced.vendors[kind]
    vendor.unsubscribe(ADA)
    synced.shop.at(night(kind))
    rounds(synced)
    [told] = nightly(synced)
    assert json.loads(told["differences"]) == {"consent": {"count": 1, "profiles": [person(synced, ADA)]}}
    assert (told["drifted"], told["repaired"]) == (1, 1)
    said = word(synced)
    assert said is not None
    assert (said["state"], said["at"], said["source"]) == ("unsubscribed", night(kind), f"readback:{kind}")
    desired = synced.shop.desired(kind, person(synced, ADA))
    assert desired is not None
    assert desired["subscribed"] is False
    synced.shop.at(night(kind, 2))
    rounds(synced)
    assert nightly(synced)[1]["drifted"] == 0, "what is known is no difference"
    assert synced.rows("SELECT count(*) FROM dead_letter") == [(0,)]


@pytest.mark.parametrize("kind", ["klaviyo", "mailchimp"])
def test_who_is_suppressed_there_is_unsubscribed_here(synced: Synced, kind: str) -> None:
    fill(synced, kind)
    synced.klaviyo.suppress(BOB) if kind == "klaviyo" else synced.mailchimp.bounce(BOB)
    synced.shop.at(night(kind))
    rounds(synced)
    said = word(synced, BOB)
    assert said is not None
    assert said["state"] == "unsubscribed"


def test_a_word_given_here_after_the_read_counts_more(synced: Synced) -> None:
    fill(synced, "klaviyo")
    synced.klaviyo.unsubscribe(ADA)
    synced.shop.at(night("klaviyo"))
    synced.shop.worker.push_once()  # read, and in line
    synced.shop.time += MINUTE
    later = consent("subscribed", night("klaviyo") + 30 * SECOND)
    synced.deliver(later, topic="customers_email_marketing_consent/update")
    said = word(synced)
    assert said is not None
    assert said["state"] == "subscribed"


def test_subscribed_there_never_lifts_unsubscribed_here(synced: Synced) -> None:
    fill(synced, "klaviyo")
    synced.deliver(consent("unsubscribed", NOON), topic="customers_email_marketing_consent/update")
    synced.push()
    at_klaviyo(synced, ADA).consent = "SUBSCRIBED"
    synced.shop.at(night("klaviyo"))
    rounds(synced)
    said = word(synced)
    assert said is not None
    assert said["state"] == "unsubscribed"
    assert nightly(synced)[0]["drifted"] == 0


def test_nobody_is_made_of_what_a_vendor_says(synced: Synced) -> None:
    fill(synced, "klaviyo")
    before = synced.rows("SELECT * FROM profile")
    stranger = readback.delivery("klaviyo", "stranger@example.com", "unsubscribed", None, NOON)
    synced.shop.services.log.append([stranger])
    synced.shop.work()
    assert synced.rows("SELECT * FROM profile") == before
    assert synced.rows("SELECT count(*) FROM dead_letter") == [(0,)]


# --- asked for -------------------------------------------------------------------------------------------------------


def test_what_was_asked_for_is_read_by_day(synced: Synced) -> None:
    fill(synced, "klaviyo")
    meddle(synced, "klaviyo", fields={"orders_count": 7})
    with synced.shop.services.database.tx() as tx:
        first = store.want_verification(tx, "klaviyo", 2, False, NOON)
        assert store.want_verification(tx, "klaviyo", 200, True, NOON) == first, "nobody needs two"
    rounds(synced)
    assert [(row["state"], row["checked"], row["repaired"]) for row in nightly(synced)] == [("done", 3, 1)]
    synced.shop.at(night("klaviyo"))
    rounds(synced)
    assert [row["state"] for row in nightly(synced)] == ["done", "done"]


def test_what_was_asked_for_and_failed_says_so(synced: Synced) -> None:
    fill(synced, "klaviyo")
    synced.klaviyo.faults.answer(500, {}, match="GET /api/profiles", times=20)
    with synced.shop.services.database.tx() as tx:
        store.want_verification(tx, "klaviyo", 200, True, NOON)
    rounds(synced)
    [told] = nightly(synced)
    assert (told["state"], told["checked"]) == ("failed", 0)


# --- when a night begins ---------------------------------------------------------------------------------------------

ZONES = ["Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Kolkata", "America/Santiago"]
NAMES = st.text("abcdefghij-0123456789", min_size=1, max_size=12)
INSTANTS = st.integers(1_500_000_000_000, 2_100_000_000_000)


@given(INSTANTS, st.sampled_from([*ZONES, "Pacific/Apia"]), NAMES)
def test_a_night_has_begun_once_and_is_the_same_all_day(at: int, zone: str, name: str) -> None:
    begun = nightfall(at, ZoneInfo(zone), name)
    assert begun <= at < begun + 26 * HOUR
    assert nightfall(begun, ZoneInfo(zone), name) == begun
    assert nightfall(begun - 1, ZoneInfo(zone), name) < begun


@given(st.dates(date(2020, 1, 1), date(2035, 1, 1)), st.sampled_from(ZONES), NAMES)
def test_every_local_date_has_one_night_between_one_and_five(day: date, zone: str, name: str) -> None:
    local = ZoneInfo(zone)
    evening = datetime(day.year, day.month, day.day, 20, tzinfo=local)
    begun = datetime.fromtimestamp(nightfall(int(evening.timestamp() * 1000), local, name) / 1000, local)
    assert begun.date() == day
    assert 1 <= begun.hour <= 4  # 4 only where an hour is left out


@pytest.mark.parametrize(
    ("zone", "changed"),
    [
        ("Europe/Paris", date(2026, 3, 29)),  # 2:00 is 3:00
        ("Europe/Paris", date(2026, 10, 25)),  # 3:00 is 2:00
        ("America/New_York", date(2026, 3, 8)),
        ("America/New_York", date(2026, 11, 1)),
        ("Australia/Lord_Howe", date(2026, 4, 5)),  # half an hour
    ],
)
def test_when_clocks_change_there_is_one_night_for_each_date(zone: str, changed: date) -> None:
    local, names = ZoneInfo(zone), [f"d{number}" for number in range(40)]
    for name in names:
        start = datetime.combine(changed - timedelta(days=1), datetime.min.time(), UTC).timestamp()
        begun = {nightfall(int((start + minutes * 60) * 1000), local, name) for minutes in range(0, 4 * 1440, 15)}
        dates = [datetime.fromtimestamp(at / 1000, local).date() for at in begun]
        assert len(dates) == len(set(dates))
        assert {changed - timedelta(days=1), changed, changed + timedelta(days=1)} <= set(dates)


def test_a_date_that_a_place_left_out_has_no_night_of_its_own() -> None:
    apia = ZoneInfo("Pacific/Apia")  # there was no 2011-12-30
    start = int(datetime(2011, 12, 28, tzinfo=UTC).timestamp() * 1000)
    begun = sorted({nightfall(start + hours * HOUR, apia, "klaviyo") for hours in range(24, 24 * 6)})
    assert all(later - earlier == DAY for earlier, later in pairwise(begun))
