import re

import pytest
from logged import logged
from populated import AUTHORISED, NOW, TOKEN

from connector.clock import HOUR, MINUTE
from connector.web import auth


def api_routes(app):
    return [
        (method, re.sub(r"<[^>]*>", "1", rule.rule))
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api/")
        for method in rule.methods - {"OPTIONS", "HEAD"}
    ]


def test_no_route_of_the_api_answers_without_a_token(window):
    routes = api_routes(window.app)
    assert len(routes) > 25
    for method, path in routes:
        answer = window.http.open(path, method=method)
        assert answer.status_code == 401, (method, path)
        assert answer.content_type == "application/problem+json"
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
        assert answer.get_json(force=True)["reason"] == "unauthorized"


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/api/v2/profiles", "/api/"])
def test_even_an_unknown_route_tells_nothing_without_a_token(window, path):
    assert window.http.get(path).status_code == 401
    assert window.http.get(path, headers=AUTHORISED).status_code == 404


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer x {TOKEN}",
        "Bearer " + "a" * 10_000,
        "Bearer é",
        TOKEN,
    ],
)
def test_a_wrong_token_is_refused(window, header):
    assert window.http.get("/api/v1/status", headers={"Authorization": header}).status_code == 401


def test_the_scheme_may_be_written_in_any_case(window):
    assert window.http.get("/api/v1/status", headers={"Authorization": f"bearer  {TOKEN}"}).status_code == 200


def test_a_made_token_opens_until_it_is_revoked(shop):
    with shop.services.database.tx() as tx:
        token = auth.create_token(tx, "ci", NOW)
        other = auth.create_token(tx, "other", NOW)
    headers = {"Authorization": f"Bearer {token}"}
    assert shop.http.get("/api/v1/status", headers=headers).status_code == 200
    with shop.services.database.tx() as tx:
        assert auth.revoke_token(tx, 1, NOW)
        assert not auth.revoke_token(tx, 1, NOW)
        assert not auth.revoke_token(tx, 9, NOW)
    assert shop.http.get("/api/v1/status", headers=headers).status_code == 401
    assert shop.http.get("/api/v1/status", headers={"Authorization": f"Bearer {other}"}).status_code == 200


def test_only_a_digest_of_a_token_is_kept(shop):
    with shop.services.database.tx() as tx:
        token = auth.create_token(tx, "ci", NOW)
        kept = tx.exec_driver_sql("select * from api_token").one()
    assert len(token) >= 43
    assert token not in str(kept) and token.removeprefix("sc_") not in str(kept)


def test_use_is_noted_once_an_hour(shop):
    with shop.services.database.tx() as tx:
        token = auth.create_token(tx, "ci", NOW)

    def used_at(now):
        shop.clock[0] = now
        assert shop.http.get("/api/v1/status", headers={"Authorization": f"Bearer {token}"}).status_code == 200
        with shop.services.database.read() as connection:
            return auth.list_tokens(connection)[0].last_used_at

    assert used_at(NOW) == NOW
    assert used_at(NOW + HOUR - 1) == NOW
    assert used_at(NOW + HOUR) == NOW + HOUR


def test_a_wrong_try_is_logged_without_the_token(window):
    with logged() as written:
        window.http.get("/api/v1/status?email=ada%40quay.example", headers={"Authorization": "Bearer sesame-open"})
    assert "wrong API token" in written.getvalue()
    assert "sesame" not in written.getvalue()
    assert "ada" not in written.getvalue()


def test_metrics_are_open_on_the_machine_itself_only(window):
    def scrape(address, **headers):
        return window.http.get("/metrics", environ_base={"REMOTE_ADDR": address}, headers=headers).status_code

    assert scrape("127.0.0.1") == 200
    assert scrape("203.0.113.9") == 401
    assert scrape("127.0.0.1", **{"X-Forwarded-For": "203.0.113.9"}) == 401
    assert scrape("203.0.113.9", **AUTHORISED) == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/docs", "/openapi.yaml", "/openapi.json", "/static/docs.css"])
def test_what_tells_no_secret_needs_no_token(window, path):
    assert window.http.get(path, environ_base={"REMOTE_ADDR": "203.0.113.9"}).status_code == 200


def test_a_minute_is_no_hour():
    token = auth.Token(1, "ci", NOW, NOW, None)
    assert not auth.store.needs_touch(token, NOW + MINUTE)
