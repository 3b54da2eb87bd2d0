from types import SimpleNamespace

import populated
import pytest

from connector.app import create_app
from connector.web.current import of


class Caller:
    """The API as a program with a token sees it."""

    def __init__(self, app):
        self.http = app.test_client()

    def __call__(self, method, path, expect=200, **options):
        answer = self.http.open(f"/api/v1{path}", method=method, headers=populated.AUTHORISED, **options)
        assert answer.status_code == expect, answer.get_data(as_text=True)
        return answer.get_json(force=True)

    def get(self, path, expect=200, **query):
        return self("GET", path, expect, query_string=query)

    def post(self, path, expect=200, **body):
        return self("POST", path, expect, json=body)


def _shop(folder):
    services = populated.services(folder)
    clock = [populated.NOW]
    app = create_app(services=services, now=lambda: clock[0])
    yield SimpleNamespace(services=services, app=app, http=app.test_client(), api=Caller(app), clock=clock)
    of(app).metrics.close()
    services.close()


@pytest.fixture
def shop(tmp_path):
    """A populated shop of the test's own: {services, app, http, api, clock}; `clock[0]` is the instant of requests."""
    yield from _shop(tmp_path)


@pytest.fixture(scope="session")
def window(tmp_path_factory):
    """A populated shop that all tests look at and none changes."""
    yield from _shop(tmp_path_factory.mktemp("window"))


@pytest.fixture(scope="session")
def api(window):
    """The API of the shop that is only looked at."""
    return window.api
