"""Klaviyo's own: how import jobs are sized."""

import re
from typing import Any

import orjson
import pytest
import responses
from hypothesis import given
from hypothesis import strategies as st

from adapters.destination import Change, Settings
from adapters.klaviyo import Klaviyo
from adapters.klaviyo_jobs import sized

JOBS = "https://a.klaviyo.com/api/profile-bulk-import-jobs"


@given(st.lists(st.integers(10, 100_000), max_size=300), st.integers(1, 400))
def test_jobs_keep_to_count_and_bytes_and_lose_nobody(sizes: list[int], most: int) -> None:
    jobs = list(sized(list(enumerate(sizes)), lambda item: item[1], most))
    assert [item for job in jobs for item in job] == list(enumerate(sizes))
    assert all(len(job) <= most and sum(size + 1 for _, size in job) <= 4_800_000 for job in jobs)
    assert all(jobs)


def test_ten_thousand_and_one_profiles_are_two_jobs() -> None:
    assert [len(job) for job in sized([b"{}"] * 10_001, len)] == [10_000, 1]


def test_a_profile_beyond_100_kb_is_rejected_and_the_others_go(clock: Any) -> None:
    changes = [Change(f"c{n}", f"p{n}@example.com", f"shop:{n}") for n in range(24)]
    changes.append(Change("large", "large@example.com", "shop:large", fields={"bio": "x" * 100_000}))
    bodies = []

    def take(request: Any) -> tuple[int, dict[str, str], bytes]:
        bodies.append(orjson.loads(request.body))
        return 202, {}, b'{"data": {"type": "profile-bulk-import-job", "id": "j1", "attributes": {}}}'

    with responses.RequestsMock() as mock:
        mock.add_callback("POST", JOBS, callback=take)
        mock.get(f"{JOBS}/j1", json={"data": {"id": "j1", "attributes": {"status": "complete", "failed_count": 0}}})
        klaviyo = Klaviyo(Settings({"api_key": "pk_1"}), clock)
        outcomes = {outcome.key: outcome for outcome in klaviyo.apply(changes)}
        klaviyo.close()
    assert (outcomes["large"].status, outcomes["large"].reason) == ("rejected", "too_large")
    assert len(bodies[0]["data"]["attributes"]["profiles"]["data"]) == 24
    assert [o.status for o in outcomes.values()].count("applied") == 24


@pytest.mark.parametrize("bad", [{3}, {0, 24}, set(range(5))])
def test_a_job_refused_without_a_pointer_is_bisected(bad: set[int], clock: Any) -> None:
    sent: list[int] = []

    def take(request: Any) -> tuple[int, dict[str, str], bytes]:
        profiles = orjson.loads(request.body)["data"]["attributes"]["profiles"]["data"]
        sent.append(len(profiles))
        ids = {int(re.findall(r"\d+", profile["attributes"]["email"])[0]) for profile in profiles}
        if ids & bad:
            return 400, {}, b'{"errors": [{"id": "1", "code": "invalid", "title": "Invalid", "detail": "something"}]}'
        return 202, {}, b'{"data": {"type": "profile-bulk-import-job", "id": "j1", "attributes": {}}}'

    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        mock.add_callback("POST", JOBS, callback=take)
        mock.get(f"{JOBS}/j1", json={"data": {"id": "j1", "attributes": {"status": "complete", "failed_count": 0}}})
        klaviyo = Klaviyo(Settings({"api_key": "pk_1"}), clock)
        outcomes = klaviyo.apply([Change(f"c{n}", f"p{n}@example.com", f"shop:{n}") for n in range(25)])
        klaviyo.close()
    assert {int(o.key[1:]) for o in outcomes if o.status == "rejected"} == bad
    assert {o.status for o in outcomes if int(o.key[1:]) not in bad} == {"applied"}
    assert len(sent) <= 1 + len(bad) * 6


def test_what_json_cannot_say_is_rejected_alone(clock: Any) -> None:
    changes = [Change(f"c{n}", f"p{n}@example.com", f"shop:{n}") for n in range(24)]
    changes.append(Change("odd", "odd@example.com", "shop:odd", fields={"bio": "\ud800"}))
    with responses.RequestsMock() as mock:
        mock.post(JOBS, status=202, json={"data": {"type": "profile-bulk-import-job", "id": "j1", "attributes": {}}})
        mock.get(f"{JOBS}/j1", json={"data": {"id": "j1", "attributes": {"status": "complete", "failed_count": 0}}})
        klaviyo = Klaviyo(Settings({"api_key": "pk_1"}), clock)
        outcomes = {outcome.key: outcome for outcome in klaviyo.apply(changes)}
        klaviyo.close()
    assert (outcomes["odd"].status, outcomes["odd"].reason) == ("rejected", "unencodable")
    assert [o.status for o in outcomes.values()].count("applied") == 24
