"""People who ask for a copy or to be erased: here, in what was received, and at every destination."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from adapters.errors import Rejected
from connector.app import create_app
from connector.cli import main
from connector.clock import DAY, HOUR, MINUTE
from connector.inbox.sql import unpack
from connector.ports import New
from connector.privacy.requests import GRACE
from connector.privacy.store import PERSONAL, run_now
from connector.privacy.traces import Traces, pattern
from connector.storage.tables import metadata
from connector.web.store import create_token
from tests.conftest import CONFIG, NOON, Shop, order
from tests.integration.test_sync import ADA, Synced, every_kind

BOB = "bob@example.com"
TWO_SHOPS = CONFIG.replace("sources:\n", "sources:\n  other: {kind: shopify, secrets: [hush]}\n")
REDACT = {"shop_id": 9, "shop_domain": "aurora.myshopify.com", "customer": {"id": 501, "email": ADA}}


@pytest.fixture
def synced(tmp_path: Path) -> Iterator[Synced]:
    synced = Synced(tmp_path)
    yield synced
    synced.close()


def traces(shop: Shop) -> list[str]:
    """Where Ada still stands: tables with her address or customer id, and raw deliveries."""
    words = ("ada@example.com", "501")
    found = []
    for table in metadata.sorted_tables:
        for row in shop.rows(f"SELECT * FROM {table.name}"):
            if any(pattern(words).search(str(cell).encode()) for cell in row):
                found.append(f"{table.name}: {row}")
    with shop.services.inbox.read() as connection:
        for key, packed in connection.exec_driver_sql("SELECT key, body FROM delivery"):
            if pattern(words).search(key.encode() + b" " + unpack(packed)):
                found.append(f"delivery {key}")
    return found


def test_nothing_is_left_of_an_erased_person_and_others_keep_everything(shop: Shop) -> None:
    shop.deliver("orders/create", order(total="1200.00"))
    shop.deliver("orders/create", order(1002, customer=502, email=BOB))
    shop.deliver("refunds/create", {"id": 7, "order_id": 1001, "created_at": "2026-11-18T11:06:40Z"})
    shop.deliver("orders/create", b'{"id": "bad", "email": "ada@example.com"}')  # a dead letter that names her
    shop.work()
    assert len(shop.rows("SELECT * FROM dead_letter")) == 1
    shop.deliver("customers/redact", REDACT)
    shop.at(NOON + MINUTE)
    assert traces(shop) == []
    assert shop.rows("SELECT email FROM profile") == [(BOB,)]
    assert shop.rows("SELECT id FROM shop_order") == [("1002",)]
    assert shop.rows("SELECT kind, state, people, closed_at FROM privacy_request") == [
        ("erase", "done", 1, NOON + MINUTE)
    ]


def test_every_table_with_a_person_in_it_is_erased() -> None:
    receipts = {"privacy_request", "erasure"}
    personal = {table.name for table in metadata.sorted_tables if "profile_id" in table.c} - receipts
    assert personal == {table.name for table in PERSONAL}


@every_kind
def test_every_destination_erases_the_contact_and_a_receipt_is_kept(synced: Synced, kind: str) -> None:
    synced.configure(kind)
    synced.deliver(order(), order(1002, customer=502, email=BOB))
    synced.push()
    synced.shop.deliver("customers/redact", REDACT)
    synced.shop.work()
    assert synced.rows("SELECT state FROM privacy_request") == [("open",)]
    synced.push()
    assert set(synced.vendors[kind].contacts()) == {BOB}
    synced.shop.at(NOON + MINUTE)
    assert synced.rows("SELECT state FROM privacy_request") == [("done",)]
    assert synced.rows("SELECT destination, state, email, remote_id FROM erasure") == [(kind, "done", "", None)]


def test_an_erasure_waits_for_a_vendor_that_is_down_however_long(synced: Synced) -> None:
    synced.configure("klaviyo")
    synced.deliver(order())
    synced.push()
    synced.klaviyo.faults.outage = True
    synced.shop.deliver("customers/redact", REDACT)
    synced.shop.work()
    for hour in range(1, 40):
        synced.shop.at(NOON + hour * HOUR)
        synced.push()
    assert synced.rows("SELECT state FROM erasure") == [("pending",)]
    synced.klaviyo.faults.outage = False
    synced.shop.at(NOON + 3 * DAY)
    synced.push()
    assert synced.klaviyo.contacts() == {}
    assert synced.rows("SELECT state FROM erasure") == [("done",)]


def test_an_erasure_that_a_vendor_refuses_is_told_and_the_next_one_goes_on(synced: Synced) -> None:
    synced.configure("klaviyo")
    synced.deliver(order(), order(1002, customer=502, email=BOB))
    synced.push()
    for customer, email in ((501, ADA), (502, BOB)):
        synced.shop.deliver("customers/redact", {"customer": {"id": customer, "email": email}})
    synced.shop.work()
    [(pusher, _, _)] = synced.shop.worker._pushers.values()
    adapter = pusher._adapter
    assert adapter is not None
    forget = adapter.forget

    def refusing(email: str, remote_id: str | None = None) -> None:
        if email == ADA:
            raise Rejected("a legal hold")
        forget(email, remote_id)

    adapter.forget = refusing  # type: ignore[method-assign]
    synced.push()
    assert synced.rows("SELECT email, state, message FROM erasure ORDER BY id") == [
        (ADA, "dead", "a legal hold"),
        ("", "done", ""),
    ]


def test_a_fault_of_ours_with_one_contact_holds_up_nothing_else(synced: Synced) -> None:
    synced.configure("klaviyo")
    synced.deliver(order(), order(1002, customer=502, email=BOB))
    synced.push()
    synced.shop.deliver("customers/redact", REDACT)
    synced.deliver(order(1003, customer=503, email="cy@example.com"))
    synced.shop.work()
    [(pusher, _, _)] = synced.shop.worker._pushers.values()
    assert pusher._adapter is not None

    def broken(_email: str, _remote_id: str | None = None) -> None:
        raise KeyError("what nobody thought of")

    forget, pusher._adapter.forget = pusher._adapter.forget, broken  # type: ignore[method-assign]
    synced.push()
    assert set(synced.klaviyo.contacts()) == {ADA, BOB, "cy@example.com"}
    told = [("pending", 1, "a fault of ours, see the log: KeyError")]
    assert synced.rows("SELECT state, attempts, message FROM erasure") == told
    pusher._adapter.forget = forget  # type: ignore[method-assign]
    synced.shop.at(NOON + HOUR)
    synced.push()
    assert ADA not in synced.klaviyo.contacts()


def test_a_short_customer_id_is_looked_for_only_where_it_says_whose_a_delivery_is(shop: Shop) -> None:
    """In a shop that counts its customers, the id of the first one is a quantity in everybody's orders."""
    shop.deliver("orders/create", order(customer=1))
    shop.deliver("orders/create", order(1002, customer=502, email=BOB) | {"quantity": 1, "number": 1})
    shop.deliver("carts/update", {"customer": {"id": 1}, "token": "c1"})
    shop.work()
    shop.deliver("customers/redact", {"customer": {"id": 1, "email": ADA}})
    shop.at(NOON + MINUTE)
    with shop.services.inbox.read() as connection:
        left = connection.exec_driver_sql("SELECT key FROM delivery").scalars().all()
    assert left == ["shop/customer:502"]


def test_what_waits_to_be_worked_on_is_not_taken_out_of_the_line(shop: Shop) -> None:
    """A position behind which nothing follows would be waited for for ever."""
    shop.deliver("orders/create", order())
    shop.deliver("customers/redact", REDACT)
    while shop.worker._follow_log(0.0):
        pass
    shop.deliver("orders/updated", order(1004))
    database, inbox = shop.services.database, shop.services.inbox
    traced = Traces(database, inbox, shop.services.log)
    while traced.step(shop.time):
        pass
    assert len(shop.rows("SELECT * FROM trace")) == 1
    with inbox.read() as connection:
        assert connection.exec_driver_sql("SELECT topic FROM delivery").scalars().all() == ["orders/updated"]
    shop.at(NOON + MINUTE)
    assert shop.rows("SELECT * FROM trace") == traces(shop) == []
    assert shop.rows("SELECT * FROM profile") == []  # it was received before the person was erased
    assert not shop.services.log.fill(0.0)


def test_a_destination_that_was_removed_is_told_to_the_operator(synced: Synced) -> None:
    synced.configure("klaviyo")
    synced.deliver(order())
    synced.push()
    synced.shop.deliver("customers/redact", REDACT)
    synced.shop.work()
    synced.shop.configure(CONFIG)
    synced.shop.at(NOON + MINUTE)
    [(state, message)] = synced.rows("SELECT state, message FROM erasure")
    assert (state, "at the vendor yourself" in message) == ("dead", True)
    assert synced.rows("SELECT state FROM privacy_request") == [("open",)]
    synced.shop.at(NOON + 2 * MINUTE)
    assert synced.rows("SELECT state FROM privacy_request") == [("done",)]


def test_whoever_is_not_known_here_is_erased_at_the_destinations_all_the_same(synced: Synced) -> None:
    synced.configure("klaviyo")
    synced.shop.deliver("customers/redact", REDACT)
    synced.shop.work()
    assert synced.rows("SELECT destination, email FROM erasure") == [("klaviyo", ADA)]
    assert synced.rows("SELECT count(*) FROM profile") == [(0,)]


def test_what_was_received_before_makes_nobody_anew_and_what_comes_later_does(shop: Shop) -> None:
    shop.deliver("orders/create", order())
    shop.work()
    shop.deliver("customers/redact", REDACT)
    shop.work()
    late = json.dumps(order(1003)).encode()
    headers = json.dumps({"shopify-api-version": "2026-10"})
    shop.services.log.append([New("cart:1", "shop", "late", "orders/updated", NOON, headers, late)])
    shop.work()
    assert shop.rows("SELECT count(*) FROM profile") == [(0,)]
    shop.time = NOON + DAY
    shop.deliver("orders/create", order(1004))
    shop.work()
    assert shop.rows("SELECT email FROM profile") == [(ADA,)]


def test_an_erased_persons_id_is_never_given_to_another(shop: Shop) -> None:
    shop.deliver("orders/create", order())
    shop.deliver("customers/redact", REDACT)
    shop.work()
    shop.deliver("orders/create", order(1002, customer=502, email=BOB))
    shop.work()
    assert shop.rows("SELECT id FROM profile") == [(2,)]


def test_a_replayed_request_erases_nobody_who_has_come_back(shop: Shop) -> None:
    shop.deliver("customers/redact", {"customer": {"id": 501}}, id="r1")
    shop.work()
    shop.time = NOON + DAY
    shop.deliver("orders/create", order())
    shop.work()
    shop.services.replay_deliveries(now=shop.time)
    shop.work()
    assert shop.rows("SELECT email FROM profile") == [(ADA,)]


def test_the_order_within_a_batch_decides(shop: Shop) -> None:
    shop.deliver("orders/create", order())
    shop.deliver("customers/redact", {"customer": {"id": 501}})
    shop.time = NOON + 1
    shop.deliver("orders/create", order(1002, total="7.00"))
    shop.work()
    assert shop.rows("SELECT id, total FROM shop_order") == [("1002", 700)]


def test_profiles_that_were_merged_are_erased_with_their_old_contacts(synced: Synced) -> None:
    synced.configure("klaviyo")
    synced.deliver(order(), order(1002, customer=502, email=BOB))
    synced.push()
    ids = {
        f"admin_graphql_api_customer_{w}_id": f"gid://shopify/Customer/{i}"
        for w, i in (("kept", 501), ("deleted", 502))
    }
    synced.shop.deliver("customers/merge", {**ids, "status": "completed"})
    synced.shop.work()
    synced.shop.deliver("customers/redact", REDACT)
    synced.shop.work()
    synced.push()
    assert synced.klaviyo.contacts() == {}
    assert synced.rows("SELECT count(*) FROM profile") == [(0,)]


# --- a source that leaves --------------------------------------------------------------------------------------------


def test_a_source_that_leaves_is_erased_after_a_week(make_shop: Any) -> None:
    shop = make_shop(TWO_SHOPS)
    shop.deliver("orders/create", order(total="1200.00"))
    shop.deliver("orders/create", order(1002, customer=502, email=BOB))
    shop.deliver("products/create", {"id": 3, "title": "Mug", "updated_at": "2026-11-18T10:00:00Z"})
    shop.work()
    _other(shop, order(77, customer=9, email=ADA, total="30.00"))
    shop.deliver("shop/redact", {"shop_id": 9, "shop_domain": "aurora.myshopify.com"})
    shop.work()
    shop.at(NOON + GRACE - 1)
    assert shop.rows("SELECT count(*) FROM profile") == [(2,)]
    shop.at(NOON + GRACE + MINUTE)
    assert shop.rows("SELECT email FROM profile") == [(ADA,)]
    [(traits,)] = shop.rows("SELECT traits FROM profile")
    assert json.loads(traits)["total_spent"] == 30
    assert shop.segments(1) == set()  # no VIP by the other shop's orders alone, and those are more than a week old
    assert shop.rows("SELECT DISTINCT source FROM shop_order") == [("other",)]
    assert shop.rows("SELECT count(*) FROM entity WHERE source = 'shop'") == [(0,)]
    assert shop.rows("SELECT kind, state, people FROM privacy_request") == [("erase_source", "done", 1)]


def _other(shop: Shop, body: dict[str, Any]) -> None:
    headers = json.dumps({"shopify-api-version": "2026-10"})
    raw = json.dumps(body).encode()
    shop.services.log.append([New("customer:9", "other", "o1", "orders/create", shop.time, headers, raw)])
    shop.work()


def test_a_shop_that_comes_back_keeps_everybody(shop: Shop) -> None:
    shop.deliver("orders/create", order())
    shop.deliver("shop/redact", {"shop_id": 9})
    shop.work()
    assert _command(shop, "privacy", "cancel", "1").output == "Request 1 is cancelled\n"
    assert _command(shop, "privacy", "cancel", "1").exit_code == 1
    shop.at(NOON + 2 * GRACE)
    assert shop.rows("SELECT email FROM profile") == [(ADA,)]


def test_an_operator_need_not_wait(shop: Shop) -> None:
    shop.deliver("orders/create", order())
    shop.deliver("shop/redact", {"shop_id": 9})
    shop.work()
    shop.time = NOON + GRACE - 1
    with shop.services.database.tx() as tx:
        assert run_now(tx, 1, shop.time)
    shop.at(shop.time + MINUTE)
    assert shop.rows("SELECT count(*) FROM profile") == [(0,)]


# --- for people ------------------------------------------------------------------------------------------------------


def _command(shop: Shop, *arguments: str) -> Any:
    return CliRunner().invoke(main, [*arguments, "--data", str(shop.services.settings.data_dir)])


def test_a_copy_holds_everything_and_closes_the_request(shop: Shop, tmp_path: Path) -> None:
    shop.deliver("orders/create", order(total="1200.00"))
    shop.deliver("orders/create", order(1002, customer=502, email=BOB))
    shop.deliver("customers/data_request", {**REDACT, "data_request": {"id": 5}})
    shop.work()
    out = tmp_path / "copy.json"
    assert _command(shop, "privacy", "export", "1", "--out", str(out)).exit_code == 0
    copy = json.loads(out.read_text())
    assert out.stat().st_mode & 0o077 == 0
    assert copy["profile"]["email"] == ADA
    assert [one["total"] for one in copy["orders"]] == [120000]
    assert {entry["name"] for entry in copy["timeline"]} >= {"created", "Order Completed"}
    assert BOB not in out.read_text()
    assert "export\tshop" in (listed := _command(shop, "privacy", "list").output) and "done" in listed


def test_a_copy_of_nobody_says_so(shop: Shop) -> None:
    shop.deliver("customers/data_request", REDACT)
    shop.work()
    assert "Nothing is known" in _command(shop, "privacy", "export", "1").output
    assert _command(shop, "privacy", "export", "2").exit_code == 1


def test_who_is_erased_before_the_first_delivery_of_them_is_worked_on_does_not_come_into_being(shop: Shop) -> None:
    shop.deliver("customers/redact", REDACT)
    shop.work()
    shop.time = NOON - MINUTE
    shop.deliver("orders/create", order())
    shop.deliver("orders/create", order(1002, customer=502, email=BOB))
    shop.at(NOON + MINUTE)
    assert shop.rows("SELECT email FROM profile") == [(BOB,)]
    shop.deliver("orders/create", order(1003))  # a new acquaintance
    shop.work()
    assert shop.rows("SELECT email FROM profile ORDER BY email") == [(ADA,), (BOB,)]


def test_an_operator_erases_by_address(shop: Shop) -> None:
    shop.deliver("orders/create", order())
    shop.work()
    assert _command(shop, "privacy", "erase", "ada at example", "--yes").exit_code == 2
    assert _command(shop, "privacy", "erase", ADA).exit_code == 1  # nobody said yes
    assert shop.rows("SELECT count(*) FROM profile") == [(1,)]
    done = _command(shop, "privacy", "erase", ADA.upper(), "--yes")
    assert done.exit_code == 0 and "Request 1: erased here" in done.output
    assert shop.rows("SELECT count(*) FROM profile") == [(0,)]
    assert "nobody here has this address" in _command(shop, "privacy", "erase", ADA, "--yes").output
    shop.at(NOON + MINUTE)
    assert traces(shop) == []


def test_the_api_answers_the_same(shop: Shop) -> None:
    shop.deliver("orders/create", order())
    shop.work()
    client = create_app(services=shop.services, now=lambda: shop.time).test_client()
    token = _token(shop)
    call = {"headers": {"Authorization": f"Bearer {token}"}}
    assert client.post("/api/v1/privacy-requests", json={"kind": "export", "email": "x"}, **call).status_code == 422
    made = client.post("/api/v1/privacy-requests", json={"kind": "export", "email": ADA}, **call)
    assert (made.status_code, made.json["state"], made.json["profile_id"]) == (201, "open", 1)
    copy = client.get("/api/v1/privacy-requests/1/export", **call)
    assert copy.json["profile"]["email"] == ADA
    assert client.post("/api/v1/privacy-requests/1/close", **call).json["state"] == "done"
    assert client.post("/api/v1/privacy-requests/1/close", **call).status_code == 409
    assert client.post("/api/v1/privacy-requests/1/cancel", **call).status_code == 409
    erased = client.post("/api/v1/privacy-requests", json={"kind": "erase", "email": ADA}, **call)
    assert (erased.json["people"], erased.json["kind"]) == (1, "erase")
    assert client.get("/api/v1/privacy-requests/2/export", **call).status_code == 409
    page = client.get("/api/v1/privacy-requests?limit=1", **call).json
    assert [one["id"] for one in page["items"]] == [2] and page["next"]
    assert client.get("/api/v1/privacy-requests/9", **call).status_code == 404
    assert ADA not in json.dumps(page)


def _token(shop: Shop) -> str:
    with shop.services.database.tx() as tx:
        return create_token(tx, "test", shop.time)
