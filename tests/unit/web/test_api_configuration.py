import copy

import pytest
from populated import AUTHORISED

JSON = {**AUTHORISED, "Content-Type": "application/json"}

VIP = {"action": "update", "kind": "segment", "name": "vip"}


def test_the_configuration_comes_back_as_it_was_written(window):
    told = window.api.get("/configuration")
    assert told["version"] == 1
    assert told["store"] == {"name": "Quay Lane", "timezone": "Europe/Lisbon", "currency": "EUR"}
    assert told["sources"] == {"shop": {"kind": "shopify", "secrets": ["env:SHOP_SECRET"]}}
    assert told["fields"] == {"total_spent": {"from": "traits.total_spent"}}
    assert list(told["segments"]) == ["vip", "recent-buyers"]


def test_sent_back_unchanged_it_changes_nothing(shop):
    told = shop.api.get("/configuration")
    version = shop.services.configuration().version
    assert shop.api("PUT", "/configuration", json=told) == {"changes": []}
    assert shop.services.configuration().version == version


def test_a_plan_tells_the_difference_and_changes_nothing(shop):
    wanted = shop.api.get("/configuration")
    wanted["segments"]["vip"]["when"] = {"trait": "total_spent", ">=": 2000}
    del wanted["segments"]["recent-buyers"]
    first, second = shop.api("POST", "/configuration/plan", json=wanted)["changes"]
    assert first.items() >= VIP.items()
    assert first["values"] == [
        {"name": "when", "old": {"trait": "total_spent", ">=": 1000}, "new": {"trait": "total_spent", ">=": 2000}}
    ]
    assert (second["action"], second["name"]) == ("delete", "recent-buyers")
    assert shop.api.get("/configuration") != wanted


def test_put_applies_and_is_in_force_at_once(shop):
    wanted = shop.api.get("/configuration")
    wanted["segments"]["vip"]["when"] = {"trait": "total_spent", ">=": 2000}
    assert [change["name"] for change in shop.api("PUT", "/configuration", json=wanted)["changes"]] == ["vip"]
    assert shop.api.get("/segments/vip")["when"] == {"trait": "total_spent", ">=": 2000}
    assert shop.api.get("/configuration") == wanted


def test_a_secret_sent_in_the_clear_never_comes_back(shop):
    wanted = shop.api.get("/configuration")
    wanted["destinations"]["klaviyo"]["credentials"]["api_key"] = "pk_0123456789abcdef"
    plan = shop.api("POST", "/configuration/plan", json=wanted)
    done = shop.api("PUT", "/configuration", json=wanted)
    told = shop.api.get("/configuration")
    assert "pk_0123456789abcdef" not in f"{plan}{done}{told}"
    assert told["destinations"]["klaviyo"]["credentials"]["api_key"].startswith("enc:")
    opened = shop.services.vault.resolve(told["destinations"]["klaviyo"]["credentials"]["api_key"])
    assert opened == "pk_0123456789abcdef"


def changed(path, value):
    def change(wanted):
        inside = wanted
        for step in path[:-1]:
            inside = inside[step]
        inside[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        (changed(["version"], 2), "/version"),
        (changed(["store", "timezone"], "Europe/Lisbo"), "/store/timezone"),
        (changed(["segments", "vip", "when"], {"trait": "total_spent", "=>": 1}), "/segments/vip/when"),
        (changed(["segments", "vip", "when"], {"all": [{"segment": "vop"}]}), "/segments/vip/when/all/0/segment"),
        (changed(["destinations", "klaviyo", "kind"], "klavio"), "/destinations/klaviyo/kind"),
        (changed(["fields", "total_spent"], {"from": "nothing"}), "/fields/total_spent/from"),
        (changed(["sauces"], {}), "/sauces"),
        (changed(["segments"], ["vip"]), "/segments"),
    ],
)
@pytest.mark.parametrize(("method", "path"), [("PUT", "/configuration"), ("POST", "/configuration/plan")])
def test_what_is_wrong_is_pointed_at_and_nothing_changes(window, method, path, change, pointer):
    before = window.api.get("/configuration")
    wanted = copy.deepcopy(before)
    change(wanted)
    told = window.api(method, path, 422, json=wanted)
    assert told["reason"] == "configuration"
    assert any(fault["pointer"].startswith(pointer) for fault in told["errors"]), told
    assert window.api.get("/configuration") == before


@pytest.mark.parametrize(("depth", "status"), [(5, 200), (300, 422), (900, 422), (2000, 400), (400_000, 400)])
def test_a_rule_of_any_depth_is_accepted_or_refused_in_words(window, depth, status):
    rule = '{"not": ' * depth + '{"trait": "total_spent", "exists": true}' + "}" * depth
    body = '{"version": 1, "segments": {"deep": {"when": ' + rule + "}}}"
    answer = window.http.post("/api/v1/configuration/plan", data=body, headers=JSON)
    assert answer.status_code == status


@pytest.mark.parametrize("body", [b"[]", b"1", b'"x"', b"null", b"{}", b'{"version": null}'])
def test_what_is_no_configuration_at_all_is_refused(window, body):
    answer = window.http.put("/api/v1/configuration", data=body, headers=AUTHORISED, content_type="application/json")
    assert answer.status_code == 422
    assert answer.get_json(force=True)["reason"] in ("invalid", "configuration")
