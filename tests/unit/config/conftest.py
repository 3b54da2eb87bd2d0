import pytest

from adapters.destination import Option, Takes
from connector.config.kinds import Kinds
from connector.config.secrets import Vault, new_key
from connector.storage.database import Database, sqlite_url
from connector.storage.tables import metadata


@pytest.fixture
def kinds():
    """The kinds of the tests, so that they do not depend on which adapters there are."""
    return Kinds(
        sources=("shopify", "generic"),
        destinations={
            "klaviyo": Takes(("api_key",), options={"revision": Option(".+", "2026-07-15")}),
            "hubspot": Takes(
                ("access_token",), options={"requests": Option("[0-9]+", "190"), "events": Option("true|false", "true")}
            ),
            "mailchimp": Takes(("api_key",), list_id=True, consent_first=True),
        },
    )


@pytest.fixture
def database(tmp_path):
    database = Database(sqlite_url(tmp_path / "storecue.db"))
    database.create(metadata)
    yield database
    database.close()


@pytest.fixture
def vault():
    return Vault([new_key()], environ={"SHOPIFY_SECRET": "from-the-environment"})
