"""A value that a vendor would cut without a word: left out or cut by rule, told in the push log and the timeline."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from connector.reporting.timeline import timeline
from connector.sync.verify import Verification, verify
from tests.integration.test_destination_check import filled, opened
from tests.integration.test_sync import ADA, Synced

LONG = "write to grandma@example.com " + "né " * 200
STAMP = {"created_at": "2026-11-01T10:00:00Z"}


@pytest.fixture
def synced(tmp_path: Path) -> Iterator[Synced]:
    synced = Synced(tmp_path)
    yield synced
    synced.close()


def note(synced: Synced) -> str:
    tag = next(tag for tag, field in synced.mailchimp.merge_fields().items() if field["name"] == "Note")
    return str(synced.mailchimp.contacts()[ADA]["fields"].get(tag, ""))


def told(synced: Synced) -> list[tuple[Any, ...]]:
    """The push log of the person with the long note."""
    return synced.rows(
        "SELECT p.status, p.reason, p.message FROM push p JOIN sync_state s ON s.profile_id = p.profile_id"
        f" WHERE s.desired LIKE '%{ADA}%' AND p.kind = 'change' ORDER BY p.id"
    )


def verified(synced: Synced) -> Verification:
    services = synced.shop.services
    configuration = services.configuration()
    with closing(opened(synced, "mailchimp")) as adapter:
        return verify(
            services.database,
            adapter,
            configuration.destinations["mailchimp"],
            configuration.segments,
            size=None,
            seed=1,
            repair=True,
            now=synced.shop.time,
        )


def test_a_text_that_is_too_long_is_left_out_told_and_no_drift(synced: Synced) -> None:
    filled(synced, "mailchimp")
    synced.push()
    contact = synced.mailchimp.contacts()[ADA]
    assert note(synced) == ""
    assert contact["tags"] == ["recent-buyers", "vip"]
    assert 1500 in contact["fields"].values()  # the other values went
    size = len(LONG.encode())
    [(status, reason, message)] = told(synced)
    assert (status, reason) == ("applied", "left_out")
    assert message.startswith(f"note has {size} bytes, Mailchimp keeps 255: left out")
    with synced.shop.services.database.read() as connection:
        [person] = [row[0] for row in synced.rows(f"SELECT profile_id FROM sync_state WHERE desired LIKE '%{ADA}%'")]
        entries = [entry for entry in timeline(connection, person, None, 50).items if entry["type"] == "push"]
    assert entries[0]["data"]["reason"] == "left_out"
    assert f"note has {size} bytes" in entries[0]["data"]["message"]
    found = verified(synced)
    assert (found.checked, found.drifted) == (2, 0)
    assert synced.push() == 0


def test_a_text_that_fits_again_is_told(synced: Synced) -> None:
    filled(synced, "mailchimp")
    synced.push()
    shorter = {"id": 501, "email": ADA, "note": "likes tents", "updated_at": "2026-11-18T11:00:00Z", **STAMP}
    synced.deliver(shorter, topic="customers/update")
    synced.push()
    assert note(synced) == "likes tents"
    longer = {**shorter, "note": LONG, "updated_at": "2026-11-18T11:00:01Z"}
    synced.deliver(longer, topic="customers/update")
    synced.push()
    assert note(synced) == "likes tents"  # what was there stays, and the log says so
    assert [reason for _, reason, _ in told(synced)] == ["left_out", "", "left_out"]
    assert verified(synced).drifted == 0


def test_by_the_option_a_text_is_cut_and_told(synced: Synced) -> None:
    filled(synced, "mailchimp", options={"long_texts": "cut"})
    synced.push()
    assert note(synced) == LONG.encode()[:255].decode(errors="ignore")
    [(status, reason, message)] = told(synced)
    assert (status, reason) == ("applied", "cut")
    assert f"{len(LONG.encode())} bytes, Mailchimp keeps 255: cut to " in message
    assert verified(synced).drifted == 0


def test_a_merge_field_renamed_there_is_still_written_after_a_restart(synced: Synced) -> None:
    filled(synced, "mailchimp")
    synced.push()
    synced.mailchimp.rename_merge_field("NOTE", name="Anmerkung", new_tag="REMARK")
    filled(synced, "mailchimp", segments=["vip"])  # another configuration: the account is opened anew
    shorter = {"id": 501, "email": ADA, "note": "likes tents", "updated_at": "2026-11-18T11:00:00Z", **STAMP}
    synced.deliver(shorter, topic="customers/update")
    synced.push()
    assert synced.mailchimp.contacts()[ADA]["fields"]["REMARK"] == "likes tents"
    assert "NOTE" not in synced.mailchimp.merge_fields()  # none was made anew
    assert verified(synced).drifted == 0
