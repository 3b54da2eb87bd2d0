from types import SimpleNamespace

import populated
import pytest
from caller import Caller

from connector.app import create_app
from connector.web.current import of


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
