"""Calls to the Admin API: tokens renewed in time, points waited for, refusals that say who must act."""

from collections.abc import Iterator

import pytest

from adapters.errors import Misconfigured, Transient, Unauthorized
from connector.domain import AdminConfig
from connector.simulator.shopify_admin import FakeShopifyAdmin
from connector.sources.shopify.admin.client import Client, Points, TooCostly
from connector.sources.shopify.admin.download import permitted

ASK = "{ shop { myshopifyDomain } }"


class Clock:
    """Time that passes by sleeping alone."""

    def __init__(self) -> None:
        self.seconds = 1_000.0
        self.slept: list[float] = []

    def time(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def admin(clock: Clock) -> Iterator[FakeShopifyAdmin]:
    with FakeShopifyAdmin(monotonic=clock.monotonic) as server:
        yield server


def config(admin: FakeShopifyAdmin, **more: str) -> AdminConfig:
    access = more or {"client_id": "client", "client_secret": "hush"}
    return AdminConfig("aurora.myshopify.com", **access, base_url=admin.url, allow_insecure=True)  # type: ignore[arg-type]


def test_a_token_is_used_for_23_hours_and_renewed_before_its_end(admin: FakeShopifyAdmin, clock: Clock) -> None:
    client = Client(config(admin), clock)
    for hour, logins in ((0, 1), (1, 1), (22, 1), (23, 2), (24, 2)):
        clock.seconds = 1_000.0 + hour * 3_600
        client.ask(ASK)
        assert admin.logins == logins


def test_a_token_that_was_revoked_is_replaced_once(admin: FakeShopifyAdmin, clock: Clock) -> None:
    client = Client(config(admin), clock)
    client.ask(ASK)
    admin.tokens.clear()
    client.ask(ASK)
    assert admin.logins == 2


def test_an_access_token_is_used_as_it_is(admin: FakeShopifyAdmin, clock: Clock) -> None:
    admin.tokens["shpat_old"] = float("inf")
    Client(config(admin, access_token="shpat_old"), clock).ask(ASK)
    assert admin.logins == 0
    with pytest.raises(Unauthorized, match="install the app in this shop again") as refused:
        Client(config(admin, access_token="shpat_other"), clock).ask(ASK)
    assert "shpat_other" not in str(refused.value)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"client_id": "client", "client_secret": "mistyped"}, "client_id or client_secret is not the app's"),
        ({"client_id": "other", "client_secret": "hush"}, "no app has this client_id"),
    ],
)
def test_a_login_that_is_refused_says_what_to_do(
    wrong: dict[str, str], words: str, admin: FakeShopifyAdmin, clock: Clock
) -> None:
    with pytest.raises(Unauthorized, match=words) as refused:
        Client(config(admin, **wrong), clock).ask(ASK)
    assert "mistyped" not in str(refused.value)


def test_throttled_is_waited_out(admin: FakeShopifyAdmin, clock: Clock) -> None:
    admin.knobs.throttle = 3
    Client(config(admin), clock).ask(ASK)
    assert len(clock.slept) >= 3
    assert all(second >= 1.0 for second in clock.slept)


def test_throttled_for_too_long_goes_back_to_the_caller(admin: FakeShopifyAdmin, clock: Clock) -> None:
    admin.knobs.throttle = 100
    with pytest.raises(Transient) as refused:
        Client(config(admin), clock).ask(ASK)
    assert refused.value.reason == "rate_limited"


def test_points_are_waited_for_before_they_are_short() -> None:
    points = Points()
    assert points.wait(500, 0.0) == 0.0  # nothing is known yet
    points.note({"throttleStatus": {"maximumAvailable": 1000, "currentlyAvailable": 100, "restoreRate": 50}}, 10.0)
    assert points.wait(100, 10.0) == 0.0
    assert points.wait(500, 10.0) == 8.0
    assert points.wait(500, 14.0) == 4.0
    assert points.wait(5_000, 10.0) == 18.0  # never more than there can be


def test_a_query_that_is_too_costly_is_told_apart(admin: FakeShopifyAdmin, clock: Clock) -> None:
    admin.knobs.max_cost = 0
    with pytest.raises(TooCostly):
        Client(config(admin), clock).ask(ASK)


def test_a_missing_scope_is_named(admin: FakeShopifyAdmin, clock: Clock) -> None:
    admin.scopes.clear()
    with pytest.raises(Unauthorized, match="add the scope read_orders"):
        Client(config(admin), clock).ask("{ orders(first: 1, sortKey: CREATED_AT) { nodes { id } } }")


def test_an_old_version_says_so(admin: FakeShopifyAdmin, clock: Clock) -> None:
    admin.versions = ["2027-10"]
    with pytest.raises(Misconfigured, match="the version of the API is too old"):
        Client(config(admin), clock).ask(ASK)


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://storage.googleapis.com/shopify-tiers/bulk/1.jsonl?X-Goog-Signature=1", True),
        ("https://bulk.shopify.com/1", True),
        ("http://storage.googleapis.com/1", False),
        ("https://storage.googleapis.com.evil.example/1", False),
        ("https://evilshopify.com/1", False),
        ("https://storage.googleapis.com@evil.example/1", False),
        ("https://storage.googleapis.com:8443/1", False),
        ("https://169.254.169.254/latest", False),
        ("file:///etc/passwd", False),
        ("http://127.0.0.1:1/1", False),
    ],
)
def test_results_are_fetched_from_shopifys_storage_alone(url: str, allowed: bool) -> None:
    shop = AdminConfig("aurora.myshopify.com", access_token="x")
    if allowed:
        assert permitted(url, shop) == url
    else:
        with pytest.raises(Misconfigured):
            permitted(url, shop)
