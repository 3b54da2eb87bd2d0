"""Mailchimp's own: merge fields by label, ten-character tags, batches and where their results may lie."""

import io
import json
import re
import tarfile
from typing import Any

import pytest
import responses
from hypothesis import given
from hypothesis import strategies as st

from adapters.destination import Change, FieldSpec, Settings
from adapters.errors import DeliveryError, Misconfigured
from adapters.mailchimp import Mailchimp
from adapters.mailchimp_fields import MergeField, cut_value, field_label, find_field, match_fields, new_tag
from adapters.mailchimp_members import subscriber_hash

KEY = "0123456789abcdef-us21"
API = "https://us21.api.mailchimp.com/3.0"
names = st.from_regex(r"[a-z][a-z0-9_]{0,39}", fullmatch=True)


@given(st.lists(names, unique=True, max_size=60), st.data())
def test_tags_are_free_short_and_the_same_again(fields: list[str], data: st.DataObject) -> None:
    def given_out(order: list[str]) -> dict[str, str]:
        tags: dict[str, str] = {}
        for name in order:
            tags[name] = new_tag(name, {"EMAIL", "FNAME", *tags.values()})
        return tags

    tags = given_out(fields)
    assert len(set(tags.values())) == len(fields)
    assert all(re.fullmatch(r"[A-Z0-9_]{1,10}", tag) for tag in tags.values())
    assert given_out(fields) == tags


labels = st.one_of(st.text(max_size=60), st.from_regex(r"[A-Za-z ]{1,8}( ?\([a-z]{1,3}\))?", fullmatch=True))


@given(st.dictionaries(st.one_of(names, st.from_regex(r"[a-c]_?[a-c]?_?", fullmatch=True)), labels, max_size=20))
def test_each_field_is_found_again_by_its_label_alone(fields: dict[str, str]) -> None:
    made = [
        MergeField(f"MERGE{n}", field_label(FieldSpec(name, "text", label)), "text")
        for n, (name, label) in enumerate(fields.items())
    ]
    for n, name in enumerate(fields):
        found = find_field(name, made)
        assert found is not None
        assert found.tag == f"MERGE{n}"


def test_a_relabelled_field_is_known_by_the_tag_only_we_would_give() -> None:
    tag = new_tag("average_order_value", set())
    assert find_field("average_order_value", [MergeField(tag, "Ticket moyen", "number")]) is not None
    assert find_field("country", [MergeField("COUNTRY", "Land der Geburt", "text")]) is None


@given(st.lists(names, unique=True, min_size=1, max_size=20), labels, st.data())
def test_the_map_follows_ids_whatever_labels_and_tags_say(fields: list[str], label: str, data: st.DataObject) -> None:
    there = [
        MergeField(f"T{n}", data.draw(st.sampled_from([*fields, label])), "text", n + 1) for n in range(len(fields))
    ]
    known = {name: n + 1 for n, name in enumerate(fields)}
    assert {name: field.id for name, field in match_fields(fields, there, known).items()} == known
    kept = data.draw(st.sets(st.sampled_from(fields)))
    part = {name: known[name] for name in kept}
    found = match_fields(fields, there, part)
    assert all(found[name].id == known[name] for name in kept)
    assert len({field.id for field in found.values()}) == len(found)  # no merge field holds two of ours


def test_a_field_that_was_deleted_there_is_not_found_under_its_old_id() -> None:
    assert match_fields(["ltv"], [MergeField("OTHER", "Other", "text", 8)], {"ltv": 7}) == {}


@pytest.mark.parametrize(
    "name", ["email", "date", "list", "fname", "lname", "address", "phone", "birthday", "merge3", "if", "unsub", "ip"]
)
def test_reserved_tags_are_given_to_no_field(name: str) -> None:
    tag = new_tag(name, set())
    assert tag != name.upper()
    assert re.fullmatch(r"[A-Z0-9_]{1,10}", tag)


def test_taken_tags_are_avoided() -> None:
    assert new_tag("ltv", {"LTV"}) != "LTV"
    assert new_tag("ltv", set()) == "LTV"
    long = ["average_order_value", "average_order_value_2025", "average_order_value_2026"]
    tags: set[str] = set()
    for name in long:  # all would be AVERAGE_OR
        tags.add(new_tag(name, tags))
    assert len(tags) == 3


@given(st.text(max_size=400))
def test_text_is_cut_at_a_character_and_to_255_bytes(value: str) -> None:
    try:
        encoded = value.encode()
    except UnicodeEncodeError:
        return
    cut = str(cut_value(value))
    assert value.startswith(cut)
    assert len(cut.encode()) <= 255
    assert cut == value or len(encoded) > 255 >= len(cut.encode()) > 251


def test_the_subscriber_hash_is_of_the_lower_case_address() -> None:
    assert subscriber_hash("Ada@Example.com") == "3e3417d7ef77d5932a6734b916515ed5"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (Settings({"api_key": "0123456789abcdef"}, list_id="a1b2c3"), "data centre"),
        (Settings({"api_key": "0123456789abcdef-us21/evil"}, list_id="a1b2c3"), "data centre"),
        (Settings({"api_key": KEY}), "list_id"),
        (Settings({"api_key": KEY}, list_id="../../x"), "list_id"),
        (Settings({}, list_id="a1b2c3"), "api_key"),
        (Settings({"api_key": KEY}, list_id="a1b2c3", options={"long_texts": "maybe"}), "refuse or cut"),
        (Settings({"api_key": KEY}, list_id="a1b2c3", options={"merge_field_slots": "0"}), "merge_field_slots"),
    ],
)
def test_settings_that_cannot_work_say_what_would(settings: Settings, says: str, clock: Any) -> None:
    with pytest.raises(Misconfigured, match=says):
        Mailchimp(settings, clock)


def archive(results: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    content = json.dumps(results).encode()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        entry = tarfile.TarInfo("./0.json")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def run_batch(clock: Any, url: str, results: bytes, status: int = 200) -> tuple[list[Any], list[Any]]:
    """The outcomes of 42 changes whose batch had errors, and the requests made for the results."""
    changes = [Change(f"c{n}", f"p{n}@example.com", f"shop:{n}", create=n != 3) for n in range(42)]
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        batch = {"id": "b1", "status": "finished", "errored_operations": 4, "response_body_url": url}
        mock.post(f"{API}/batches", json={"id": "b1", "status": "pending"})
        mock.get(f"{API}/batches/b1", json=batch)
        mock.get(f"{API}/lists/a1b2c3/segments", json={"segments": [], "total_items": 0})
        fetched = mock.get(re.compile("https://.*tar.gz"), body=results, status=status)
        mailchimp = Mailchimp(Settings({"api_key": KEY}, list_id="a1b2c3"), clock)
        try:
            return mailchimp.apply(changes), [call.request for call in fetched.calls]
        finally:
            mailchimp.close()


STORAGE = "https://mailchimp-api-batch.s3.amazonaws.com/b1-response.tar.gz?AWSAccessKeyId=AKIA&Signature=x"


def test_a_batch_with_failures_gives_every_member_its_own_outcome(clock: Any) -> None:
    def result(n: int, status: int, **response: Any) -> dict[str, Any]:
        return {"status_code": status, "operation_id": str(n), "response": json.dumps(response)}

    results = [result(n, 200, id=f"md5-{n}", contact_id=f"contact-{n}") for n in range(40, 5, -1)]
    results += [
        result(0, 400, title="Member In Compliance State", detail="unsubscribed"),
        result(1, 400, title="Invalid Resource", detail="no", errors=[{"field": "BIO", "message": "too much"}]),
        {"status_code": 429, "operation_id": "2", "response": ""},
        result(3, 404, title="Resource Not Found"),
        result(4, 500, title="Internal"),
        result(5, 200, id="md5-5"),
    ]
    outcomes, fetched = run_batch(clock, STORAGE, archive(results))
    told = {outcome.key: (outcome.status, outcome.reason, outcome.field) for outcome in outcomes}
    assert told["c0"] == ("skipped", "compliance_state", None)
    assert told["c1"] == ("rejected", "rejected", "BIO")
    assert told["c2"] == ("retry", "rate_limited", None)
    assert told["c3"] == ("skipped", "not_on_list", None)
    assert told["c4"] == ("retry", "unavailable", None)
    assert told["c41"] == ("retry", "no_result", None)
    assert {outcome.key: outcome.remote_id for outcome in outcomes if outcome.status == "applied"} == {
        "c5": "md5-5",
        **{f"c{n}": f"contact-{n}" for n in range(6, 41)},
    }
    assert "Authorization" not in fetched[0].headers


@pytest.mark.parametrize(
    "url",
    [
        "https://us21.api.mailchimp.com/3.0/results.tar.gz",
        "https://downloads.mailchimp.com/results.tar.gz",
        "https://mailchimp-api-batch.s3.us-west-2.amazonaws.com/results.tar.gz",
    ],
)
def test_results_are_fetched_from_mailchimp_and_its_storage(url: str, clock: Any) -> None:
    outcomes, fetched = run_batch(clock, url, archive([]))
    assert len(fetched) == 1
    assert {outcome.reason for outcome in outcomes} == {"no_result"}


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://mailchimp-api-batch.s3.amazonaws.com/results.tar.gz",
        "https://evil.example/results.tar.gz",
        "https://mailchimp.com.evil.example/results.tar.gz",
        "https://evil-mailchimp.com/results.tar.gz",
        "https://evil.s3.amazonaws.com/results.tar.gz",
        "https://mailchimp.s3.amazonaws.com.evil.example/results.tar.gz",
        "https://us21.api.mailchimp.com@evil.example/results.tar.gz",
        "https://169.254.169.254/latest/results.tar.gz",
        "https://[::1/results.tar.gz",
        "https://evil.example\\@us21.api.mailchimp.com/results.tar.gz",
        "https://us21.api.mailchimp.com:443@evil.example/results.tar.gz",
        "https://evil.example?.mailchimp.com/results.tar.gz",
    ],
)
def test_results_are_fetched_from_nobody_else(url: str, clock: Any) -> None:
    with pytest.raises(DeliveryError, match="not Mailchimp's"):
        run_batch(clock, url, archive([]))


@pytest.mark.parametrize(("results", "status"), [(b"<html>", 200), (b"", 404)])
def test_results_that_cannot_be_read_leave_the_members_for_later(results: bytes, status: int, clock: Any) -> None:
    with pytest.raises(DeliveryError) as caught:
        run_batch(clock, STORAGE, results, status)
    assert caught.value.retry_after > 0  # type: ignore[attr-defined]
