"""Every operation of openapi.yaml under generated requests, valid and not: no 5xx, and answers as described."""

import sys
from pathlib import Path

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS, load_all_checks

from connector.app import create_app
from connector.web import openapi
from connector.web.current import of

sys.path.insert(0, str(Path(__file__).parent / "unit" / "web"))  # the populated shop is kept with the web's tests

import populated

KNOWN = {
    "profile_id": populated.ADA,
    "segment_id": "vip",
    "name": "klaviyo",
    "letter_id": 1,
    "delivery_row": 1,
    "merge_id": 1,
    "low": populated.ADA,
    "high": populated.BEA,
    "request_id": 1,
    "kind": "shopify",
    "source": "shop",
    "filename": "docs.css",
    "call": "track",
    "key": "wk_public_key",
}
"""Objects that exist, so that what lies behind the lookup is reached as well."""

load_all_checks()
NOT_ASKED = [
    # A cursor that fits the schema may belong to another list, and a configuration is checked by more than its shape.
    CHECKS.get_one("positive_data_acceptance"),
]
BOUNDED = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


class Shop:
    """A WSGI application that is only described while tests are collected, and real while they run."""

    def __init__(self):
        self.app = Flask("connector.app", static_folder=None)
        openapi.register(self.app)

    def __call__(self, environ, start_response):
        return self.app(environ, start_response)


shop = Shop()
operations = schemathesis.openapi.from_wsgi("/openapi.json", shop)
operations.config.generation.with_security_parameters = False  # test_auth walks the routes without a token


@pytest.fixture(scope="module", autouse=True)
def populated_shop(tmp_path_factory):
    services = populated.services(tmp_path_factory.mktemp("fuzzed"))
    shop.app = create_app(services=services, now=lambda: populated.NOW)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SHOP_SECRET", "of the quay")
        yield
    of(shop.app).metrics.close()
    services.close()


@operations.exclude(operation_id="put_configuration").parametrize()
@BOUNDED
def test_any_request_is_answered_as_described(case):
    case.call_and_validate(headers=populated.AUTHORISED, excluded_checks=NOT_ASKED)


@operations.include(path_regex="{").parametrize()
@BOUNDED
def test_any_request_about_an_existing_object_is_answered_as_described(case):
    case.path_parameters = {name: KNOWN[name] for name in case.path_parameters}
    replaced = CHECKS.get_one("negative_data_rejection")  # an id that did not fit has been put right
    case.call_and_validate(headers=populated.AUTHORISED, excluded_checks=[*NOT_ASKED, replaced])


@operations.include(operation_id="put_configuration").parametrize()
@BOUNDED
def test_last_because_it_may_empty_the_shop(case):
    case.call_and_validate(headers=populated.AUTHORISED, excluded_checks=NOT_ASKED)
