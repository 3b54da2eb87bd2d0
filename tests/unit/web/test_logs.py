import logging

import pytest
import structlog
from logged import logged

from connector.logs import HIDDEN

log = structlog.get_logger("tests")


@pytest.mark.parametrize(
    "text",
    [
        "ada@quay.example",
        "Ada.Lovelace+vip@mail.quay.example",
        "ada%40quay.example",
        "+351912345678",
        "+351 912 345 678",
        "+1 (212) 555-0100",
        "Bearer abc.def-123",
        "Klaviyo-API-Key pk_xyz",
        "pk_0123456789abcdef0123456789abcdef01",
        "shpss_0123456789abcdef0123456789abcdef",
        "shpat_0123456789abcdef0123456789abcdef",
        "pat-na1-01234567-89ab-cdef-0123-456789abcdef",
        "pat-eu1-01234567-89ab-cdef-0123-456789abcdef",
        "0123456789abcdef0123456789abcdef-us21",
        "sc_qCzP0z6n1kqTzq8m3q1mI2x7cJr5sYw4",
    ],
)
@pytest.mark.parametrize("style", ["json", "console"])
def test_what_identifies_or_opens_is_never_written(text, style):
    with logged(style) as written:
        log.info(f"said {text} today", value=text, nested={"list": [f"<{text}>"], text: 1})
        logging.getLogger("library").warning("got %s", text)
        try:
            raise ValueError(f"cannot use {text}")
        except ValueError:
            log.exception("failed")
    assert "said" in written.getvalue() and "got" in written.getvalue() and "cannot use" in written.getvalue()
    assert text not in written.getvalue()


@pytest.mark.parametrize(
    "name", ["api_key", "access_token", "X-Shopify-Hmac-SHA256", "Authorization", "password", "secret", "email", "body"]
)
def test_a_value_under_such_a_name_is_hidden_whatever_it_is(name):
    with logged() as written:
        log.info("seen", **{name: "plain words"}, deeper={name: {"a": "plain words"}})
    entry = written.entries()[0]
    assert entry[name] == HIDDEN
    assert entry["deeper"][name] == HIDDEN


def test_a_known_secret_is_hidden_wherever_it_is():
    with logged(secrets=("correct horse",)) as written:
        log.info("the correct horse ran", note=["my correct horse!"])
    assert "correct horse" not in written.getvalue()


def test_what_helps_is_kept():
    with logged() as written:
        log.info(
            "delivery.rejected",
            source="shop",
            delivery="b54557e4-bdd9-4b37-8a5f-bf7d70bcd043",
            profile=42,
            at_instant="2026-11-21T10:00:00+00:00",
            path="/webhooks/shopify/shop",
            token_id=3,
            order=450789469450789469,
        )
    entry = written.entries()[0]
    assert entry["event"] == "delivery.rejected"
    assert (entry["level"], entry["logger"]) == ("info", "tests")
    assert entry["delivery"] == "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043"
    assert entry["at_instant"] == "2026-11-21T10:00:00+00:00"
    assert entry["path"] == "/webhooks/shopify/shop"
    assert (entry["profile"], entry["token_id"], entry["order"]) == (42, 3, 450789469450789469)


def test_bound_ids_are_on_every_line_of_the_libraries_too():
    with logged() as written, structlog.contextvars.bound_contextvars(delivery="d-1"):
        log.info("ours")
        logging.getLogger("library").warning("theirs")
    assert [entry["delivery"] for entry in written.entries()] == ["d-1", "d-1"]


def test_the_level_is_obeyed():
    with logged(level="warning") as written:
        log.info("quiet")
        logging.getLogger("library").info("quiet")
        log.warning("loud")
    assert [entry["event"] for entry in written.entries()] == ["loud"]


def test_a_line_is_one_line_whatever_is_in_it():
    with logged() as written:
        log.info("two\nlines", value="a\nb")
    assert written.getvalue().count("\n") == 1
