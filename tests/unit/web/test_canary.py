"""What identifies a person or opens a door, followed through every path to the logs, the metrics and the answers."""

import re

import pytest
from logged import logged
from populated import ADA, AUTHORISED, TOKEN
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError

from connector.storage.tables import profile

PERSONAL = ("ada@quay.example", "ada%40quay.example", "+351912345678", "351912345678")
TRAITS = '{"first_name": "Serinus"}'
SECRET = (TOKEN, "pk_canary0123456789", "shpss_canary0123456789", "sesame-canary")


def routes(app):
    for rule in app.url_map.iter_rules():
        for method in sorted(rule.methods - {"OPTIONS", "HEAD"}):
            yield method, re.sub(r"<[^>]*>", "1", rule.rule)


def test_no_path_through_the_web_logs_or_measures_a_person_or_a_secret(shop, monkeypatch):
    monkeypatch.setenv("SHOP_SECRET", "shpss_canary0123456789")
    query = {"email": "ada@quay.example", "phone": "+351912345678", "cursor": "pk_canary0123456789"}
    body = {"body": "ada@quay.example", "ids": ["+351912345678"], "api_key": "pk_canary0123456789"}
    with logged() as written:
        for method, path in routes(shop.app):
            for headers in (AUTHORISED, {"Authorization": "Bearer sesame-canary"}):
                shop.http.open(path, method=method, headers=headers, query_string=query)
                if method != "GET":
                    shop.http.open(path, method=method, headers=headers, json=body)
        shop.http.post("/webhooks/shopify/shop", data="ada@quay.example", headers={"X-Shopify-Hmac-Sha256": "c2Vz"})
    told = written.getvalue() + shop.http.get("/metrics").get_data(as_text=True)
    assert "wrong API token" in told
    assert "delivery.rejected" in told
    assert [canary for canary in (*PERSONAL, *SECRET) if canary in told] == []


@pytest.mark.parametrize("path", ["/api/v1/profiles", f"/api/v1/profiles/{ADA}"])
def test_a_database_error_does_not_carry_its_parameters(shop, monkeypatch, path):
    def fail(*_, **__):
        with shop.services.database.tx() as tx:
            tx.execute(insert(profile).values(id=ADA, traits=TRAITS, consent="{}"))

    monkeypatch.setattr("connector.reporting.profiles.one", fail)
    monkeypatch.setattr("connector.reporting.profiles.search", fail)
    with logged() as written:
        answer = shop.http.get(path, headers=AUTHORISED)
    assert answer.status_code == 500
    assert IntegrityError.__name__ in written.getvalue()
    assert "Serinus" not in written.getvalue() + answer.get_data(as_text=True)


def test_configured_secrets_are_in_no_answer(shop):
    wanted = shop.api.get("/configuration")
    wanted["destinations"]["klaviyo"]["credentials"]["api_key"] = "pk_canary0123456789"
    shop.api("PUT", "/configuration", json=wanted)
    answers = [
        shop.http.get(path, headers=AUTHORISED).get_data(as_text=True)
        for method, path in routes(shop.app)
        if method == "GET"
    ]
    assert not any("pk_canary0123456789" in answer or TOKEN in answer for answer in answers)
