from dataclasses import replace

from connector.config.plan import ConfigChange, ValueChange, diff, render
from connector.config.sealing import sealed
from connector.domain import Configuration, DestinationConfig, FieldConfig, SegmentConfig, SourceConfig, StoreInfo

CURRENT = Configuration(
    store=StoreInfo("Aurora", "Europe/Paris", "EUR"),
    sources={"shop": SourceConfig("shop", "shopify", ("env:OLD",))},
    destinations={"klaviyo": DestinationConfig("klaviyo", "klaviyo", {"api_key": "env:KLAVIYO_KEY"})},
    fields={"total_spent": FieldConfig("total_spent", "traits.total_spent", "number", "Total spent")},
    segments={
        "vip": SegmentConfig("vip", "VIP", {"trait": "total_spent", ">=": 1000}),
        "buyers": SegmentConfig("buyers", "Buyers", {"event": "Order Completed"}),
    },
)


def test_the_same_is_no_change():
    assert diff(CURRENT, replace(CURRENT, version=9)) == []
    assert render([]) == "Nothing to change."


def test_create_update_and_delete():
    wanted = replace(
        CURRENT,
        sources={"shop": SourceConfig("shop", "shopify", ("env:NEW", "env:OLD"))},
        fields={},
        segments={
            "vip": SegmentConfig("vip", "VIP", {"trait": "total_spent", ">=": 2000}),
            "new": SegmentConfig("new", "New", {"event": "Product Viewed"}),
            "buyers": CURRENT.segments["buyers"],
        },
    )
    assert diff(CURRENT, wanted) == [
        ConfigChange(
            "update",
            "source",
            "shop",
            (ValueChange("secrets.0", "env:OLD", "env:NEW"), ValueChange("secrets.1", None, "env:OLD")),
        ),
        ConfigChange("delete", "field", "total_spent"),
        ConfigChange(
            "update",
            "segment",
            "vip",
            (ValueChange("when", {"trait": "total_spent", ">=": 1000}, {"trait": "total_spent", ">=": 2000}),),
        ),
        ConfigChange(
            "create",
            "segment",
            "new",
            (ValueChange("name", None, "New"), ValueChange("when", None, {"event": "Product Viewed"})),
        ),
    ]
    assert render(diff(CURRENT, wanted)) == (
        "~ source shop\n"
        "    secrets.0: env:OLD -> env:NEW\n"
        "    secrets.1: (none) -> env:OLD\n"
        "- field total_spent\n"
        "~ segment vip\n"
        '    when: {"trait": "total_spent", ">=": 1000} -> {"trait": "total_spent", ">=": 2000}\n'
        "+ segment new\n"
        "    name: New\n"
        '    when: {"event": "Product Viewed"}\n'
        "\n"
        "1 to create, 2 to change, 1 to delete"
    )


def test_the_order_of_keys_means_nothing_but_the_kind_of_a_number_does():
    turned = SegmentConfig("vip", "VIP", {">=": 1000, "trait": "total_spent"})
    assert diff(CURRENT, replace(CURRENT, segments={**CURRENT.segments, "vip": turned})) == []
    for value in (1000.0, "1000", True):
        other = SegmentConfig("vip", "VIP", {"trait": "total_spent", ">=": value})
        (change,) = diff(CURRENT, replace(CURRENT, segments={**CURRENT.segments, "vip": other}))
        assert change.action == "update"


def test_another_order_of_segments_is_shown():
    turned = replace(CURRENT, segments=dict(reversed(CURRENT.segments.items())))
    assert render(diff(CURRENT, turned)) == (
        "~ order of the segments\n    order: vip, buyers -> buyers, vip\n\n0 to create, 0 to change, 0 to delete"
    )


def test_the_store_has_no_name_in_a_title():
    assert render(diff(CURRENT, replace(CURRENT, store=StoreInfo("Aurora", "UTC", "EUR")))).startswith(
        "~ store\n    timezone: Europe/Paris -> UTC\n"
    )


def test_secrets_are_masked_and_still_told_apart(vault):
    def with_key(key):
        return replace(CURRENT, destinations={"k": DestinationConfig("k", "klaviyo", {"api_key": key})})

    first = sealed(with_key("canary-1"), Configuration(), vault)
    second = sealed(with_key("canary-2"), first, vault)
    assert "    credentials.api_key: (encrypted)" in render(diff(CURRENT, first))
    assert "    credentials.api_key: (encrypted) -> (encrypted, another)" in render(diff(first, second))
    assert "    credentials.api_key: (encrypted) -> env:K" in render(diff(first, with_key("env:K")))
    unsealed = diff(first, with_key("canary-3"))
    assert "    credentials.api_key: (encrypted) -> (a secret)" in render(unsealed)
    for changes in (diff(CURRENT, first), diff(first, second), unsealed):
        assert "canary" not in render(changes) + repr(changes)
        assert "enc:" not in render(changes) + repr(changes)
