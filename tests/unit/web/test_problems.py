import gzip
import io

import pytest
from logged import logged
from populated import ADA, AUTHORISED, NOW
from sqlalchemy.exc import OperationalError

from connector.errors import DefinitionError, Fenced, NotDurable, NotPermitted, UnprocessableEvent
from connector.web.problems import REASONS

JSON = {**AUTHORISED, "Content-Type": "application/json"}


def told(answer, status):
    assert answer.status_code == status, answer.get_data(as_text=True)
    assert answer.content_type == "application/problem+json"
    body = answer.get_json(force=True)
    assert (body["status"], body["type"]) == (status, f"/docs#problem-{body['reason']}")
    assert body["reason"] in REASONS
    return body


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b'{"filter": NaN}', 400),
        (b'{"filter": 1e400}', 400),
        (b'{"filter": "\\ud800"}', 400),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        (b'{"filter": {"topic": "\\u0000"}}', 202),
        (b'{"filter": {"topic": ["orders/create"]}}', 422),
        (b"[]", 422),
        (b"null", 422),
        (b"", 422),
    ],
)
def test_a_body_is_read_or_refused_never_a_fault(shop, body, status):
    answer = shop.http.post("/api/v1/replay", data=body, headers=JSON)
    assert answer.status_code == status, answer.get_data(as_text=True)
    if status != 202:
        told(answer, status)


def test_a_body_of_another_type_is_refused(window):
    for headers in (AUTHORISED, {**AUTHORISED, "Content-Type": "text/plain"}):
        told(window.http.post("/api/v1/replay", data=b'{"filter": {"topic": "x"}}', headers=headers), 415)


def test_a_compressed_body_is_not_inflated(window):
    bomb = gzip.compress(b" " * 10_000_000)
    told(window.http.post("/api/v1/replay", data=bomb, headers={**JSON, "Content-Encoding": "gzip"}), 415)


def test_a_large_body_is_refused_from_its_announcement(window):
    class Unread:
        def read(self, *_):
            raise AssertionError("the body was read")

    limit = window.services.settings.max_body
    for path in ("/api/v1/replay", "/webhooks/shopify/shop", "/healthz"):
        answer = window.http.post(
            path, headers=JSON, environ_overrides={"CONTENT_LENGTH": str(limit + 1), "wsgi.input": Unread()}
        )
        assert answer.status_code == 413


def test_a_large_body_without_an_announcement_is_refused_while_it_is_read(window):
    class Endless(io.RawIOBase):
        given = 0

        def readinto(self, buffer):
            self.given += len(buffer)
            buffer[:] = b" " * len(buffer)
            return len(buffer)

    endless = Endless()
    answer = window.http.post(
        "/api/v1/replay",
        headers={**JSON, "Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True, "wsgi.input": endless},
    )
    told(answer, 413)
    assert endless.given <= window.services.settings.max_body + 200_000


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/api/v1/nothing", 404),
        ("DELETE", "/api/v1/profiles", 405),
        ("POST", "/healthz", 405),
        ("GET", "/static/../problems.py", 404),
        ("GET", "/static/%2e%2e/%2e%2e/app.py", 404),
        ("GET", "/static/", 404),
        ("GET", "/api/v1/segments/%00", 404),
        ("GET", "/api/v1/sources/%ED%A0%80", 404),
    ],
)
def test_what_is_not_there_is_a_problem_too(window, method, path, status):
    told(window.http.open(path, method=method, headers=AUTHORISED), status)


def test_405_names_what_is_allowed(window):
    answer = window.http.delete("/api/v1/profiles", headers=AUTHORISED)
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (DefinitionError("no such trait", pointer="/when/trait"), 422, "definition"),
        (UnprocessableEvent("no total", reason="no_total"), 422, "no_total"),
        (NotPermitted("no consent"), 403, "not_permitted"),
        (Fenced("another was faster"), 409, "fenced"),
        (NotDurable("too slow", retry_after=2500), 503, "not_durable"),
        (OperationalError("select secret", {"email": "ada@quay.example"}, Exception("disk is full")), 503, None),
    ],
)
def test_our_errors_say_who_must_act(shop, monkeypatch, error, status, reason):
    def fail():
        raise error

    monkeypatch.setattr(shop.services, "configuration", fail)
    with logged() as written:
        answer = shop.http.get("/api/v1/sources", headers=AUTHORISED)
    body = answer.get_json(force=True)
    assert (answer.status_code, body["reason"]) == (status, reason or "database_unavailable")
    assert body.get("pointer") == getattr(error, "pointer", None)
    assert ("Retry-After" in answer.headers) == (status == 503)
    assert "secret" not in written.getvalue() + str(body)
    assert "ada@" not in written.getvalue() + str(body)


def test_a_fault_of_ours_is_logged_under_an_id_and_tells_nothing(shop, monkeypatch):
    def fail():
        raise KeyError("pk_0123456789abcdef of ada@quay.example")

    monkeypatch.setattr(shop.services, "configuration", fail)
    with logged() as written:
        body = told(shop.http.get("/api/v1/sources?q=1", headers=AUTHORISED), 500)
    assert body["detail"] == "this is a fault of ours; it is in the log"
    (entry,) = written.entries()
    assert entry["id"] == body["id"]
    assert entry["path"] == "/api/v1/sources"
    assert "KeyError" in entry["exception"]
    assert "pk_0123456789abcdef" not in written.getvalue()
    assert "ada@" not in written.getvalue()


@pytest.mark.parametrize("path", ["/healthz", "/docs", "/api/v1/status", "/nothing", "/static/docs.css"])
def test_every_answer_forbids_framing_sniffing_and_foreign_content(window, path):
    headers = window.http.get(path).headers
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Strict-Transport-Security"] == "max-age=31536000"


def test_the_api_is_never_cached_and_the_style_sheet_is(window):
    assert window.http.get(f"/api/v1/profiles/{ADA}", headers=AUTHORISED).headers["Cache-Control"] == "no-store"
    assert "max-age=3600" in window.http.get("/static/docs.css").headers["Cache-Control"]


def test_instants_beyond_the_calendar_are_told_as_its_end(shop):
    with shop.services.database.tx() as tx:
        tx.exec_driver_sql("update membership set recheck_at = ?", (NOW * 10_000,))
    (member,) = shop.api.get("/segments/vip/members")["items"]
    assert member["recheck_at"] == "9999-12-31T23:59:59.999Z"
