"""Whatever a vendor answers, a destination gives outcomes or says who must act: never anything else."""

import json
import re
from typing import Any

import pytest
import responses
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters import DESTINATIONS
from adapters.destination import Change, Cue, FieldSpec, Membership, Settings
from adapters.errors import Misconfigured, Rejected, Transient, Unauthorized

SETTINGS = {
    "klaviyo": Settings({"api_key": "pk_1"}),
    "hubspot": Settings({"access_token": "pat-1"}, options={"custom_events": "true", "subscription": "1"}),
    "brevo": Settings({"api_key": "xkeysib-1"}),
    "mailchimp": Settings({"api_key": "0123456789abcdef-us21"}, list_id="a1b2c3d4e5"),
}
# The words that adapters look for, so that odd answers are odd in the right places.
WORDS = (
    "data id attributes status failed_count links next errors source pointer original_payload email results properties "
    "objectWriteTraceId context category message options value name type list listId recordIdsMissing segments "
    "merge_fields tag total_items members_added email_addresses error title detail contact_id response_body_url "
    "errored_operations portalId timeZone policyName fullyQualifiedName complete finished COMPLETE storecue_tags "
    "contact_information modificationMetadata statuses subscriptionId subscriberIdString byObjectType limit usage "
    "attributes multiCategoryOptions category lists contacts failure emailBlacklisted"
).split()
scalars = st.one_of(st.none(), st.booleans(), st.integers(-1, 3), st.sampled_from([*WORDS, "", "1", "storecue-0"]))
answers = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(WORDS), inner, max_size=5)),
    max_leaves=12,
)
statuses = st.sampled_from([200, 200, 200, 200, 201, 202, 204, 207, 400, 403, 404, 409, 429, 500])


def calls(many: int) -> dict[str, Any]:
    changes = [
        Change(
            f"c{n}",
            f"p{n}@example.com",
            f"shop:{n}",
            tags=("vip",),
            tags_added=("vip",),
            fields={"ltv": 1.5},
            previous_email="old@example.com" if n == 1 else None,
            remote_id="7" if n % 3 == 0 else None,
            create=n % 5 != 0,
        )
        for n in range(many)
    ]
    cues = [Cue(f"q{n}", f"p{n}@example.com", f"shop:{n}", "Segment Entered", 1_763_719_200_000) for n in range(many)]
    members = [Membership(f"m{n}", f"p{n}@example.com", None, n % 2 == 0) for n in range(many)]
    return {
        "check_login": lambda vendor: vendor.check_login(),
        "provision": lambda vendor: vendor.provision([FieldSpec("ltv", "number", "Ltv")], ["vip"]),
        "apply": lambda vendor: vendor.apply(changes),
        "send": lambda vendor: vendor.send(cues),
        "ensure_list": lambda vendor: vendor.ensure_list("VIP", "7"),
        "update_list": lambda vendor: vendor.update_list("7", members),
        "forget": lambda vendor: vendor.forget("p1@example.com", "7"),
    }


@pytest.mark.parametrize("method", calls(1))
@pytest.mark.parametrize("kind", SETTINGS)
@given(data=st.data())
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_odd_answers(kind: str, method: str, data: st.DataObject, clock: Any) -> None:
    many = data.draw(st.sampled_from([1, 3, 45]))
    script = data.draw(st.lists(st.tuples(statuses, answers), min_size=1, max_size=6))
    given_out = 0

    def answer(request: Any) -> tuple[int, dict[str, str], str]:
        nonlocal given_out
        status, body = script[given_out % len(script)]
        given_out += 1
        return status, {}, "" if status == 204 else json.dumps(body)

    vendor = DESTINATIONS[kind](SETTINGS[kind], clock)
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        for verb in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            mock.add_callback(verb, re.compile("https://.*"), callback=answer)
        try:
            told = calls(many)[method](vendor)
        except (Transient, Unauthorized, Misconfigured):
            return
        except Rejected:
            assert method in ("check_login", "forget"), "items have outcomes; setting up has the operator"
            return
        finally:
            vendor.close()
    if method in ("apply", "send", "update_list"):
        assert sorted(outcome.key[1:] for outcome in told) == sorted(str(n) for n in range(many))
