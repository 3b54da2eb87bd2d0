"""People found to be one: the journal says why; and when it was wrong, they are two again."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from connector.app import create_app
from connector.cli import main
from connector.clock import DAY, MINUTE
from connector.domain import Event, Identifier, Normalised
from connector.errors import CannotUnmerge
from connector.ports import New
from connector.web.store import create_token
from tests.conftest import CONFIG, NOON, Shop, checkout, iso, order
from tests.integration.test_sync import ADA, Synced, every_kind

BOB = "bob@example.com"
RULES = CONFIG + "  written-to:\n    name: May be written to\n    when: {consent: email, in: [subscribed]}\n"


@pytest.fixture
def synced(tmp_path: Path) -> Iterator[Synced]:
    synced = Synced(tmp_path)
    yield synced
    synced.close()


def merge(shop: Shop, kept: int = 501, gone: int = 502, **more: str) -> None:
    ids = {
        "admin_graphql_api_customer_kept_id": f"gid://shopify/Customer/{kept}",
        "admin_graphql_api_customer_deleted_id": f"gid://shopify/Customer/{gone}",
    }
    shop.deliver("customers/merge", {**ids, "status": "completed"}, **more)
    shop.work()


def unmerge(shop: Shop, id_: int = 1) -> tuple[int, int]:
    with shop.services.database.tx() as tx:
        return shop.worker.pipeline.unmerge(tx, id_, shop.time)


def consent(state: str, customer: int, email: str, at: int = NOON) -> dict[str, Any]:
    said = {"state": state, "opt_in_level": "single_opt_in", "consent_updated_at": iso(at)}
    return {"customer_id": customer, "email_address": email, "email_marketing_consent": said}


def two(shop: Shop) -> None:
    """Ada, a VIP who said no; Bob, who said yes."""
    shop.deliver("orders/create", order(total="1200.00"))
    shop.deliver("orders/create", order(1002, customer=502, email=BOB, total="50.00"))
    shop.deliver("customers_email_marketing_consent/update", consent("unsubscribed", 501, ADA))
    shop.deliver("customers_email_marketing_consent/update", consent("subscribed", 502, BOB))
    shop.work()


def person(shop: Shop, id_: int) -> tuple[str | None, float, str, int | None]:
    [(email, traits, said, merged)] = shop.rows(
        f"SELECT email, traits, consent, merged_into FROM profile WHERE id = {id_}"
    )
    state = json.loads(said).get("email", {}).get("state")
    return email, json.loads(traits).get("total_spent", 0), state, merged


def test_the_journal_says_what_why_and_when(shop: Shop) -> None:
    two(shop)
    merge(shop, id="m1")
    assert shop.rows("SELECT winner, loser, because, source, delivery_id, state FROM merge") == [
        (1, 2, "the shop merged shop:502 into this customer", "shop", "m1", "merged")
    ]
    data = ["--data", str(shop.services.settings.data_dir)]
    shown = CliRunner().invoke(main, ["profile", "merges", "2", *data]).output
    assert "2 into 1" in shown and "1 orders" in shown and "1 events" in shown


def test_who_had_become_part_of_the_loser_by_several_merges_goes_along(shop: Shop) -> None:
    two(shop)
    for number, customer in ((1003, 503), (1004, 504)):
        shop.deliver("orders/create", order(number, customer=customer, email=f"{customer}@example.com"))
        shop.work()
    merge(shop, kept=503, gone=504)
    merge(shop, kept=502, gone=503)
    merge(shop, kept=501, gone=502)
    assert [person(shop, id_)[3] for id_ in (2, 3, 4)] == [1, 1, 1]
    assert unmerge(shop, 3) == (2, 1)
    assert [person(shop, id_)[3] for id_ in (2, 3, 4)] == [None, 2, 2]
    assert unmerge(shop, 1) == (4, 2)
    assert person(shop, 4)[0] == "504@example.com"
    assert shop.rows("SELECT profile_id FROM shop_order ORDER BY id") == [(1,), (2,), (2,), (4,)]


def test_two_people_are_as_they_were_before(make_shop: Any) -> None:
    shop = make_shop(RULES)
    two(shop)
    before = [person(shop, 1), person(shop, 2), shop.segments(1), shop.segments(2)]
    merge(shop)
    assert person(shop, 1)[1:3] == (1250, "unsubscribed")  # the stricter wins
    assert shop.segments(1) == {"vip", "recent-buyers"}
    shop.at(NOON + MINUTE)
    unmerge(shop)
    assert [person(shop, 1), person(shop, 2), shop.segments(1), shop.segments(2)] == before
    assert before[3] == {"recent-buyers", "written-to"}
    assert shop.rows("SELECT profile_id, id FROM shop_order ORDER BY 2") == [(1, "1001"), (2, "1002")]
    assert shop.rows("SELECT state, undone_at FROM merge") == [("undone", NOON + MINUTE)]
    assert shop.rows("SELECT profile_id FROM change WHERE kind = 'unmerged' ORDER BY 1") == [(1,), (2,)]


def test_what_happened_to_an_order_since_goes_with_it(shop: Shop) -> None:
    two(shop)
    merge(shop)
    shop.deliver(
        "orders/cancelled",
        order(1002, customer=501, email=BOB, total="50.00", updated=NOON + MINUTE, cancelled_at=iso(NOON + MINUTE)),
    )
    shop.work()
    unmerge(shop)
    owned = shop.rows("SELECT profile_id, name FROM event WHERE id LIKE '%1002%' ORDER BY 2")
    assert owned == [(2, "Order Cancelled"), (2, "Order Completed")]
    assert person(shop, 2)[1] == 0


def test_a_word_said_since_counts_for_both(shop: Shop) -> None:
    two(shop)
    merge(shop)
    shop.time = NOON + DAY
    shop.deliver("customers_email_marketing_consent/update", consent("unsubscribed", 501, BOB, NOON + DAY))
    shop.work()
    unmerge(shop)
    assert (person(shop, 1)[2], person(shop, 2)[2]) == ("unsubscribed", "unsubscribed")


def test_no_delivery_makes_them_one_again(shop: Shop) -> None:
    shop.deliver("checkouts/create", _checkout("c1", ADA))
    shop.work()
    shop.deliver("checkouts/create", _checkout("c2", BOB))
    shop.work()
    shop.deliver("checkouts/create", _checkout("c1", BOB))  # a typing error, put right
    shop.work()
    assert shop.rows("SELECT count(*) FROM profile WHERE merged_into IS NULL") == [(1,)]
    unmerge(shop)
    shop.deliver("checkouts/create", _checkout("c1", BOB, updated=NOON + 2), id="again")
    shop.work()
    assert shop.rows("SELECT count(*) FROM profile WHERE merged_into IS NULL") == [(2,)]
    assert len(shop.rows("SELECT id FROM merge")) == 1


def _checkout(token: str, email: str, updated: int = NOON) -> dict[str, Any]:
    return checkout(token, email=email, updated_at=iso(updated))


def test_the_shops_own_word_stands_above_it(shop: Shop) -> None:
    two(shop)
    merge(shop)
    unmerge(shop)
    merge(shop, id="again")
    assert person(shop, 2)[3] == 1


def test_merges_within_merges_are_undone_one_by_one(shop: Shop) -> None:
    for number, (customer, email) in enumerate({501: ADA, 502: BOB, 503: "cat@example.com"}.items()):
        shop.deliver("orders/create", order(1001 + number, customer=customer, email=email, total=f"{10 + number}.00"))
        shop.work()
    merge(shop, kept=502, gone=503)
    merge(shop, kept=501, gone=502)
    assert shop.rows("SELECT id, merged_into FROM profile ORDER BY 1") == [(1, None), (2, 1), (3, 1)]
    unmerge(shop, 2)
    assert shop.rows("SELECT id, merged_into FROM profile ORDER BY 1") == [(1, None), (2, None), (3, 2)]
    assert (person(shop, 1)[1], person(shop, 2)[1]) == (10, 23)
    unmerge(shop, 1)
    assert [person(shop, id_)[1] for id_ in (1, 2, 3)] == [10, 11, 12]


def test_an_inner_merge_can_be_undone_first(shop: Shop) -> None:
    for number, (customer, email) in enumerate({501: ADA, 502: BOB, 503: "cat@example.com"}.items()):
        shop.deliver("orders/create", order(1001 + number, customer=customer, email=email, total=f"{10 + number}.00"))
        shop.work()
    merge(shop, kept=502, gone=503)
    merge(shop, kept=501, gone=502)
    unmerge(shop, 1)
    assert shop.rows("SELECT id, merged_into FROM profile ORDER BY 1") == [(1, None), (2, 1), (3, None)]
    assert (person(shop, 1)[1], person(shop, 3)[1]) == (21, 12)
    unmerge(shop, 2)
    assert [person(shop, id_)[1] for id_ in (1, 2, 3)] == [10, 11, 12]


@pytest.mark.parametrize("id_", [9, 1])
def test_what_cannot_be_undone_says_why(shop: Shop, id_: int) -> None:
    two(shop)
    merge(shop)
    unmerge(shop)
    with pytest.raises(CannotUnmerge):
        unmerge(shop, id_)


def test_whoever_was_erased_stays_erased(shop: Shop) -> None:
    two(shop)
    merge(shop)
    shop.deliver("customers/redact", {"customer": {"id": 501, "email": ADA}})
    shop.work()
    assert shop.rows("SELECT * FROM merge") == []


def test_the_shop_may_merge_in_circles(shop: Shop) -> None:
    two(shop)
    for number in range(6):
        kept, gone = (501, 502) if number % 2 else (502, 501)
        merge(shop, kept=kept, gone=gone, id=f"m{number}")
    assert shop.rows("SELECT count(*) FROM profile WHERE merged_into IS NULL") == [(1,)]
    assert len(shop.rows("SELECT id FROM merge")) == 1


@every_kind
def test_each_has_their_own_contact_again(synced: Synced, kind: str) -> None:
    synced.configure(kind)
    two(synced.shop)
    synced.push()
    before = {email: _shown(one) for email, one in synced.vendors[kind].contacts().items()}
    merge(synced.shop)
    synced.push()
    assert synced.vendors[kind].contacts()[BOB]["tags"] == []
    unmerge(synced.shop)
    synced.push()
    assert {email: _shown(one) for email, one in synced.vendors[kind].contacts().items()} == before


def _shown(contact: dict[str, Any]) -> tuple[Any, Any]:
    return contact["tags"], sorted(str(value) for value in contact["fields"].values())


def test_each_has_their_own_contact_although_the_address_had_moved(synced: Synced) -> None:
    synced.configure("klaviyo")
    two(synced.shop)
    synced.push()
    merge(synced.shop)
    synced.shop.deliver(
        "customers/update", {"id": 501, "email": BOB, "created_at": iso(NOON - DAY), "updated_at": iso(NOON + 1)}
    )
    synced.shop.work()
    synced.push()
    unmerge(synced.shop)
    synced.push()
    held = {email: contact["tags"] for email, contact in synced.klaviyo.contacts().items()}
    assert held[ADA] == ["recent-buyers", "vip"]
    assert synced.rows("SELECT pending FROM sync_state") == [(0,), (0,)]


def test_the_api_lists_and_undoes(shop: Shop) -> None:
    two(shop)
    merge(shop)
    with shop.services.database.tx() as tx:
        token = create_token(tx, "test", shop.time)
    client = create_app(services=shop.services, now=lambda: shop.time).test_client()
    call = {"headers": {"Authorization": f"Bearer {token}"}}
    [one] = client.get("/api/v1/merges?profile_id=2", **call).json["items"]
    assert (one["winner"], one["loser"], one["moved"]["orders"]) == (1, 2, 1)
    assert client.post("/api/v1/merges/1/undo", **call).json == {"profiles": [1, 2]}
    assert client.post("/api/v1/merges/1/undo", **call).status_code == 409


def test_a_timeline_tells_of_merges_and_their_undoing(shop: Shop) -> None:
    two(shop)
    merge(shop)
    with shop.services.database.tx() as tx:
        token = create_token(tx, "test", shop.time)
    client = create_app(services=shop.services, now=lambda: shop.time).test_client()

    def get(path: str) -> Any:
        return client.get(f"/api/v1/profiles/{path}", headers={"Authorization": f"Bearer {token}"}).json

    def told(profile: int) -> list[Any]:
        entries = get(f"{profile}/timeline")["items"]
        return [(one["name"], one["data"]) for one in entries if "merged" in one["name"]]

    why = {"because": "the shop merged shop:502 into this customer"}
    assert (get("1")["merged_from"], get("2")["id"]) == ([2], 1)
    assert told(2) == told(1) == [("merged", {"from": 2, **why})]
    shop.at(NOON + MINUTE)
    unmerge(shop)
    assert [(get(str(id_))["id"], get(str(id_))["merged_from"]) for id_ in (1, 2)] == [(1, []), (2, [])]
    assert told(1) == [("unmerged", {"of": 2, "merge": 1, **why}), ("merged", {"from": 2, **why})]
    assert told(2) == [("unmerged", {"from": 1, "merge": 1, **why}), ("merged", {"into": 1, **why})]
    shop.at(NOON + 2 * MINUTE)
    merge(shop, id="again")
    assert get("1")["merged_from"] == [2]
    assert [name for name, _ in told(2)] == ["merged", "unmerged", "merged"]


def test_a_part_of_a_part_is_told_right_after_an_undo(shop: Shop) -> None:
    for number, (customer, email) in enumerate({501: ADA, 502: BOB, 503: "cat@example.com", 504: "d@x.io"}.items()):
        shop.deliver("orders/create", order(1001 + number, customer=customer, email=email, total=f"{10 + number}.00"))
        shop.work()
    merge(shop, kept=503, gone=504)
    merge(shop, kept=502, gone=503)
    merge(shop, kept=501, gone=502)
    unmerge(shop, 3)
    assert shop.rows("SELECT id, merged_into FROM profile ORDER BY 1") == [(1, None), (2, None), (3, 2), (4, 2)]
    unmerge(shop, 2)
    assert shop.rows("SELECT id, merged_into FROM profile ORDER BY 1") == [(1, None), (2, None), (3, None), (4, 3)]


def test_the_command_line_undoes(shop: Shop) -> None:
    two(shop)
    merge(shop)
    data = ["--data", str(shop.services.settings.data_dir)]
    assert CliRunner().invoke(main, ["profile", "unmerge", "1", *data]).exit_code == 1  # nobody said yes
    told = CliRunner().invoke(main, ["profile", "unmerge", "1", "--yes", *data])
    assert told.output.endswith("Profiles 2 and 1 are two people again\n")
    assert CliRunner().invoke(main, ["profile", "unmerge", "1", "--yes", *data]).exit_code == 2


# --- what identifiers are worth --------------------------------------------------------------------------------------


def test_an_address_of_nobody_ties_nobody(make_shop: Any) -> None:
    shop = make_shop(CONFIG + "identity: {blocked: {email: ['till@aurora.example']}}\n")
    shop.deliver("orders/create", order(1001, customer=None, email="test@test.com"))
    shop.deliver("orders/create", order(1002, customer=None, email="till@aurora.example"))
    shop.deliver("orders/create", order(1003, customer=None, email="TILL@aurora.example"))
    shop.work()
    assert shop.rows("SELECT count(*), count(email) FROM profile") == [(3, 0)]
    assert shop.rows("SELECT label, count FROM counter WHERE name = 'identity'") == [("blocked_email", 3)]


def test_a_profile_has_no_more_identifiers_than_anybody_would(make_shop: Any) -> None:
    shop = make_shop(CONFIG + "identity: {limits: {checkout_token: 5}}\n")
    for number in range(40):
        shop.deliver("orders/create", order(2000 + number, total="1.00"))
    shop.work()
    shop.deliver("orders/create", order(3000, total="1.00"))
    shop.work()
    assert shop.rows("SELECT count(*) FROM identifier WHERE kind = 'checkout_token'") == [(5,)]
    assert person(shop, 1)[1] == 41
    assert shop.rows("SELECT label, count FROM counter WHERE name = 'identity'") == [("too_many_checkout_token", 36)]


def test_what_is_done_on_a_shared_device_is_nobodys_in_particular(shop: Shop) -> None:
    two(shop)
    _seen(shop, 1, "tablet", "shop:501")
    _seen(shop, 2, "tablet")
    assert _views(shop) == {1: 2}  # it was Ada's own
    _seen(shop, 3, "tablet", "shop:502")
    _seen(shop, 4, "tablet")
    _seen(shop, 5, "tablet", "shop:501")
    _seen(shop, 6, "tablet")
    views = _views(shop)
    assert (views[1], views[2]) == (3, 1)
    assert sum(views.values()) == 6 and len(views) == 3
    assert shop.rows("SELECT shared FROM identifier WHERE kind = 'anonymous_id'") == [(1,)]


def _views(shop: Shop) -> dict[int, int]:
    return dict(shop.rows("SELECT profile_id, count(*) FROM event WHERE name = 'Product Viewed' GROUP BY 1"))  # type: ignore[arg-type]


def _seen(shop: Shop, number: int, client: str, customer: str | None = None) -> None:
    """A product viewed in a browser, by a customer or by nobody known."""
    who = [Identifier("anonymous_id", client)] + ([Identifier("customer_id", customer)] if customer else [])
    meant = Normalised(
        identifiers=tuple(who), events=(Event(f"v{number}", "Product Viewed", NOON, {"product_id": "9"}),)
    )
    source = shop.services.source_kinds["shopify"]
    shop.worker.pipeline._sources = dict.fromkeys(("shop", "shopify"), _Saying(source, meant))  # type: ignore[dict-item]
    shop.services.log.append([New(client, "shop", f"seen{number}", "seen", shop.time, "{}", b"{}")])
    shop.work()
    shop.worker.pipeline._sources = shop.services.source_kinds


class _Saying:
    """A source that means what a test wants."""

    def __init__(self, source: Any, meant: Any) -> None:
        self._source, self._meant = source, meant

    def normalise(self, delivery: Any, store: Any) -> Any:
        return self._meant
