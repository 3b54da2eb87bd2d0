"""Every statement of the daily line finds its rows by an index: nothing grows dearer with the number of people."""

import re
from typing import Any

from sqlalchemy import event

from connector.clock import DAY, MINUTE
from tests.conftest import NOON, checkout, iso, order
from tests.integration.test_sync import Synced, synced

__all__ = ["synced"]  # a fixture

_GROWING = "profile identifier event change entity shop_order refund membership sync_state cue seen push".split()
_TOO_WIDE = [rf"SCAN ({'|'.join(_GROWING)})\b"]
_TOO_WIDE += [rf"SEARCH ({'|'.join(_GROWING)}) .*\((source|kind|destination|segment|name)=\?\)$"]
_TOO_WIDE += [r"SEARCH entity .*\(source=\? AND kind=\?\)$"]


def test_no_statement_of_the_line_walks_through_a_table(synced: Synced) -> None:
    shop = synced.shop
    synced.configure("klaviyo", "mailchimp", events=True, lists=True)
    engine, said = shop.services.database.engine, {}

    @event.listens_for(engine, "before_cursor_execute")
    def _note(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        said[statement] = parameters[0] if many else parameters

    amount = {"kind": "refund", "status": "success", "amount": "30.00", "currency": "EUR"}
    ids = {"admin_graphql_api_customer_kept_id": "gid://shopify/Customer/501"}
    ids |= {"admin_graphql_api_customer_deleted_id": "gid://shopify/Customer/502"}
    tags = {"customerId": "gid://shopify/Customer/501", "tags": ["vip"], "occurredAt": iso(NOON)}
    for topic, body in (
        ("checkouts/create", checkout(cart_token="c1")),
        ("orders/create", order()),
        ("orders/create", order(1002, customer=502, email="bob@example.com")),
        ("refunds/create", {"id": 77, "order_id": 1001, "created_at": iso(NOON), "transactions": [amount]}),
        ("refunds/create", {"id": 78, "order_id": 1999, "created_at": iso(NOON), "transactions": [amount]}),
        ("orders/updated", order(1002, customer=503, email="eve@example.com", updated=NOON + 1)),
        ("customers/update", {"id": 503, "email": "ada@example.com", "updated_at": iso(NOON)}),
        ("customer.tags_added", tags),
        ("customers/merge", {**ids, "status": "completed"}),
        ("orders/delete", {"id": 1002}),
    ):
        assert shop.deliver(topic, body).status == 200
        shop.work()
        synced.push()
    shop.at(NOON + 8 * DAY)
    synced.push()
    shop.at(NOON + 8 * DAY + 20 * MINUTE)
    event.remove(engine, "before_cursor_execute", _note)
    assert len(said) > 40
    wide = []
    with engine.connect() as connection:
        for statement, parameters in said.items():
            if statement.split()[0] not in ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH"):
                continue
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            steps = [row[3] for row in plan]
            once = re.search(r"LIMIT \? OFFSET \?$", statement) and parameters[-2:] == (1, 0)
            if not once and any(re.match(pattern, step) for pattern in _TOO_WIDE for step in steps):
                wide.append((" ".join(statement.split()), steps))
    assert wide == []
