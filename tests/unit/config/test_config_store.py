from dataclasses import replace

import pytest

from connector.config import store
from connector.domain import Configuration, DestinationConfig, FieldConfig, SegmentConfig, SourceConfig, StoreInfo
from connector.errors import ConfigurationError

NOW = 1_763_719_200_000

CONFIGURATION = Configuration(
    store=StoreInfo("Aurora", "Europe/Paris", "EUR"),
    sources={"shop": SourceConfig("shop", "shopify", ("env:A", "env:B"))},
    destinations={
        "zeta": DestinationConfig(
            "zeta", "klaviyo", {"api_key": "env:Z"}, segments=("vip",), options={"revision": "x"}
        ),
        "alpha": DestinationConfig(
            "alpha", "hubspot", {"access_token": "env:H"}, dry_run=True, create_contacts="never"
        ),
    },
    fields={"total_spent": FieldConfig("total_spent", "traits.total_spent", "number", "Total spent", ("zeta",))},
    segments={
        "vip": SegmentConfig("vip", "VIP", {"any": [{"trait": "total_spent", ">=": 1000}]}),
        "all": SegmentConfig("all", "Everybody", {"trait": "email", "exists": True}),
    },
)


def save(database, configuration, now=NOW):
    with database.tx() as tx:
        return store.save(tx, configuration, now)


def load(database):
    with database.read() as connection:
        return store.load(connection)


def written(database):
    with database.read() as connection:
        return {(row.kind, row.name): row.updated_at for row in connection.execute(store.config_object.select())}


def test_nothing_configured_yet(database):
    assert load(database) == Configuration()
    with database.read() as connection:
        assert store.version(connection) == 0


def test_what_is_saved_is_loaded_in_its_order(database):
    assert save(database, CONFIGURATION) == 1
    loaded = load(database)
    assert loaded == replace(CONFIGURATION, version=1)
    assert list(loaded.destinations) == ["zeta", "alpha"]
    assert list(loaded.segments) == ["vip", "all"]


def test_saving_the_same_again_writes_nothing(database):
    save(database, CONFIGURATION)
    assert save(database, CONFIGURATION, NOW + 1) == 1
    assert set(written(database).values()) == {NOW}


def test_only_what_differs_is_written(database):
    save(database, CONFIGURATION)
    vip = replace(CONFIGURATION.segments["vip"], name="Very important")
    changed = replace(CONFIGURATION, segments={"vip": vip, "all": CONFIGURATION.segments["all"]}, fields={})
    assert save(database, changed, NOW + 1) == 2
    assert load(database) == replace(changed, version=2)
    at = written(database)
    assert at["segment", "vip"] == NOW + 1
    assert at["segment", "all"] == at["destination", "zeta"] == NOW
    assert ("field", "total_spent") not in at


@pytest.mark.parametrize(("old", "new"), [(1, True), (1, 1.0), (0, False), ("1", 1)])
def test_values_that_only_python_thinks_equal_are_changes(database, old, new):
    for value, expected in ((old, 1), (new, 2)):
        segment = SegmentConfig("s", "S", {"trait": "x", "=": value})
        assert save(database, replace(CONFIGURATION, segments={"s": segment})) == expected
    assert type(load(database).segments["s"].when["="]) is type(new)


def test_another_order_is_a_change(database):
    save(database, CONFIGURATION)
    turned = replace(CONFIGURATION, segments=dict(reversed(CONFIGURATION.segments.items())))
    assert save(database, turned) == 2
    assert list(load(database).segments) == ["all", "vip"]


def test_a_failed_apply_changes_nothing(database, vault):
    save(database, CONFIGURATION)
    broken = replace(
        CONFIGURATION, sources={}, destinations={"d": DestinationConfig("d", "klaviyo", {"api_key": "enc:x"})}
    )
    with pytest.raises(ConfigurationError):
        store.apply(database, vault, broken, NOW)
    assert load(database) == replace(CONFIGURATION, version=1)


def test_apply_gives_back_what_plan_foretold(database, vault):
    foretold = store.plan(database, vault, CONFIGURATION)
    assert store.apply(database, vault, CONFIGURATION, NOW) == foretold
    assert {change.action for change in foretold} == {"create", "update"}  # there is always a store
    assert store.plan(database, vault, CONFIGURATION) == []
    assert store.apply(database, vault, CONFIGURATION, NOW + 1) == []


def test_the_version_is_read_through_an_index(database):
    with database.read() as connection:
        plan = connection.exec_driver_sql(
            "EXPLAIN QUERY PLAN SELECT value FROM meta WHERE name = 'config_version'"
        ).fetchall()
    assert all("USING INDEX" in row[3] for row in plan)
