"""What the sources send: valid, timely, of the shape it always had; and who is told when it is not."""

import json
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from connector.app import create_app
from connector.cli import main
from connector.clock import HOUR, MINUTE, SECOND
from connector.quality.drift import LEARNING
from connector.quality.shape import MOST_PATHS, shape
from connector.reporting.quality import quality
from connector.web.store import create_token
from tests.conftest import CONFIG, NOON, Shop, checkout, iso, order

WATCHED = CONFIG.replace("secrets: [hush]}", "secrets: [hush], silent_after: 6h}")


def standing(shop: Shop) -> dict[str, Any]:
    with shop.services.database.read() as connection:
        [row] = quality(connection, shop.services.configuration().sources, shop.time)
    return row


def test_what_is_not_valid_is_counted_and_the_rest_counts(shop: Shop) -> None:
    shop.deliver("customers/update", {"id": 501, "email": "nobody at example", "phone": "12", "updated_at": iso(NOON)})
    shop.deliver("orders/create", b"not json")
    shop.work()
    row = standing(shop)
    assert (row["good"], row["faults"], row["dead"]) == (1, {"bad_email": 1, "bad_phone": 1}, {"not_json": 1})
    assert shop.rows("SELECT email FROM profile") == [(None,)]


def test_a_silent_source_is_told_once_and_again_when_it_is_heard(make_shop: Any) -> None:
    shop = make_shop(WATCHED)
    shop.deliver("orders/create", order())
    shop.work()
    with capture_logs() as logs:
        shop.at(NOON + 6 * HOUR)
        assert not standing(shop)["silent"]
        shop.at(NOON + 6 * HOUR + MINUTE)
        assert standing(shop)["silent"]
        shop.at(NOON + 7 * HOUR)
        shop.deliver("orders/create", order(1002))
        shop.work()
        shop.at(NOON + 7 * HOUR + 2 * MINUTE)
    told = [entry["event"] for entry in logs if entry["event"].startswith("source.")]
    assert told == ["source.silent", "source.heard_again"]


def test_dead_letters_are_no_sign_of_life(make_shop: Any) -> None:
    shop = make_shop(WATCHED)
    shop.deliver("orders/create", order())
    shop.work()
    shop.time = NOON + 7 * HOUR
    shop.deliver("orders/create", b"{}")
    shop.work()
    assert (standing(shop)["last_good_at"], standing(shop)["silent"]) == (NOON, True)


def learn(shop: Shop) -> None:
    for number in range(LEARNING):
        shop.deliver("checkouts/create", checkout(f"c{number}"))
    shop.work()


def later(shop: Shop, **more: Any) -> None:
    """A delivery now and one a second later: at least one of them is looked at."""
    for number in range(2):
        shop.time += SECOND
        shop.deliver("checkouts/create", checkout(f"late{number}", **more), id=f"{len(more)}-{number}")
        shop.work()


def test_unknown_and_retyped_fields_are_told_once_each(shop: Shop) -> None:
    learn(shop)
    later(shop)
    assert standing(shop)["notices"] == []
    items = [{"product_id": 1, "variant_id": 1, "quantity": "2", "price": "40.00", "title": "Mug"}]
    later(shop, loyalty={"tier": "gold"}, line_items=items)
    told = {(one["path"], one["type"], tuple(one["was"])) for one in standing(shop)["notices"]}
    assert told == {
        ("loyalty", "object", ()),
        ("loyalty.tier", "text", ()),
        ("line_items[].quantity", "text", ("number",)),
    }


def test_another_process_goes_on_from_what_was_learned(shop: Shop) -> None:
    learn(shop)
    shop.configure(CONFIG + "# anew\n")
    shop.worker.pipeline._shapes.__init__()  # type: ignore[misc]  # what a restart forgets
    later(shop, loyalty="gold")
    assert [one["path"] for one in standing(shop)["notices"]] == ["loyalty"]


def test_people_read_it_and_acknowledge(make_shop: Any) -> None:
    shop = make_shop(WATCHED)
    learn(shop)
    later(shop, loyalty="gold")
    data = ["--data", str(shop.services.settings.data_dir)]
    with shop.services.database.tx() as tx:
        token = create_token(tx, "test", shop.time)
    client = create_app(services=shop.services, now=lambda: shop.time).test_client()
    call = {"headers": {"Authorization": f"Bearer {token}"}}
    answer = client.get("/api/v1/sources/shop/quality", **call).json
    assert (answer["silent_after"], answer["silent"]) == ("6h", False)
    assert [one["path"] for one in answer["notices"]] == ["loyalty"]
    assert client.get("/api/v1/sources/other/quality", **call).status_code == 404
    shown = CliRunner().invoke(main, ["source", "quality", *data])
    assert "checkouts/create loyalty: text since" in shown.output and "unknown until then" in shown.output
    metrics = client.get("/metrics", **call).text
    assert 'storecue_source_silent{source="shop"} 0.0' in metrics
    assert client.post("/api/v1/sources/shop/quality/acknowledge", **call).json == {"count": 1}
    assert client.get("/api/v1/sources/shop/quality", **call).json["notices"] == []
    assert CliRunner().invoke(main, ["source", "quality", "x", *data]).exit_code == 2


# --- shapes ----------------------------------------------------------------------------------------------------------

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=20,
)


@given(_JSON)
def test_every_document_has_a_shape_and_the_order_of_keys_is_no_part_of_it(document: Any) -> None:
    assert len(shape(document)) <= MOST_PATHS
    if isinstance(document, dict):
        assert shape(dict(reversed(document.items()))) == shape(document)
    assert shape(json.loads(json.dumps(document))) == shape(document)


@pytest.mark.parametrize(
    ("document", "paths"),
    [
        ({"a": {"b": [1, None, {"c": "x"}]}}, {"a", "a.b", "a.b[]", "a.b[].c"}),
        ({"items": {"8812": {"n": 1}, "8813": {"n": 2}}}, {"items", "items.*", "items.*.n"}),
        ({"a": None}, set()),
        ([1], {"[]"}),
    ],
)
def test_paths(document: Any, paths: set[str]) -> None:
    assert {path for path, _ in shape(document)} == paths
