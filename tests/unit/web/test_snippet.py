"""What a merchant pastes, and the script that their pages load."""

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from flask.testing import FlaskClient

from connector.app import create_app
from connector.cli import main
from connector.config.settings import Settings
from connector.services import Services
from connector.web import snippet
from connector.web.current import of
from tests.conftest import NOON

CONFIG = """
version: 1
sources:
  shop: {kind: shopify, secrets: [hush]}
  site:
    kind: segment_api
    secrets: [sk_server_key]
    browser: {keys: [wk_public_key, wk_former_key], origins: ["https://aurora.example"]}
    shop: shop
"""
TOKEN = "a-token-of-the-environment"


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    (tmp_path / "storecue.yaml").write_text(CONFIG)
    environ = {"STORECUE_PUBLIC_URL": "https://cues.example", "STORECUE_API_TOKEN": TOKEN}
    made = Services(Settings.from_environment(environ, data_dir=tmp_path / "data"))
    result = storecue(tmp_path, "apply", "--config", str(tmp_path / "storecue.yaml"))
    assert result.exit_code == 0, result.output
    yield made
    made.close()


@pytest.fixture
def client(services: Services) -> Iterator[FlaskClient]:
    app = create_app(services=services, now=lambda: NOON)
    yield app.test_client()
    of(app).metrics.close()


def storecue(folder: Path, *arguments: str) -> Result:
    environ = {"STORECUE_PUBLIC_URL": "https://cues.example"}
    return CliRunner().invoke(main, [*arguments, "--data", str(folder / "data")], env=environ)


def test_the_script_is_small_and_needs_nothing_else() -> None:
    found = snippet.script("wk_" + "x" * 197, "https://a-rather-long-host-name.of-a-merchant.example.com")
    assert len(found.packed) < 3 * 1024
    assert gzip.decompress(found.packed) == found.plain
    text = found.plain.decode()
    assert "import " not in text and "require(" not in text
    assert set(re.findall(r"https?://[^\s\"']+", text)) == {
        "https://a-rather-long-host-name.of-a-merchant.example.com/v1/b"
    }


def test_the_script_has_the_public_key_and_no_other(client: FlaskClient) -> None:
    answer = client.get("/snippet/site.js")
    assert answer.status_code == 200
    assert '{"key":"wk_public_key","url":"https://cues.example/v1/b"}' in answer.text
    assert "sk_server_key" not in answer.text
    assert answer.content_type == "text/javascript; charset=utf-8"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert answer.headers["Cache-Control"].startswith("public, max-age=300")


def test_the_script_is_sent_once_and_packed(client: FlaskClient) -> None:
    packed = client.get("/snippet/site.js", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.headers["Vary"] == "Accept-Encoding"
    assert gzip.decompress(packed.data) == client.get("/snippet/site.js").data
    again = client.get("/snippet/site.js", headers={"If-None-Match": packed.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert client.get("/snippet/site.js", headers={"If-None-Match": '"another"'}).status_code == 200


@pytest.mark.parametrize("name", ["shop", "nothing", "..%2Fpixel"])
def test_there_is_no_script_without_public_keys(client: FlaskClient, name: str) -> None:
    assert client.get(f"/snippet/{name}.js").status_code == 404


def test_a_key_cannot_break_out_of_the_script() -> None:
    assert b"</script>" not in snippet.script("</script><script>alert(1)", "https://x").plain


@pytest.mark.parametrize("what", ["snippet", "pixel"])
def test_what_to_paste_by_the_command_and_by_the_api(
    tmp_path: Path, client: FlaskClient, services: Services, what: str
) -> None:
    printed = storecue(tmp_path, "source", what, "site")
    assert printed.exit_code == 0
    answer = client.get(f"/api/v1/sources/site/{what}", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.text == printed.output
    assert "https://cues.example/" in printed.output
    assert "sk_server_key" not in printed.output


@pytest.mark.parametrize("what", ["snippet", "pixel"])
def test_a_source_that_takes_nothing_from_pages(tmp_path: Path, client: FlaskClient, what: str) -> None:
    refused = storecue(tmp_path, "source", what, "shop")
    assert refused.exit_code == 2
    assert "browser: {keys: [..], origins: [..]}" in refused.output
    authorised = {"Authorization": f"Bearer {TOKEN}"}
    assert client.get(f"/api/v1/sources/shop/{what}", headers=authorised).status_code == 422
    assert client.get(f"/api/v1/sources/other/{what}", headers=authorised).status_code == 404
    assert client.get(f"/api/v1/sources/site/{what}").status_code == 401
    assert storecue(tmp_path, "source", what, "other").exit_code == 2


def test_the_pages_show_what_the_commands_print(tmp_path: Path, services: Services) -> None:
    """Ready to paste in the documentation, but for the address and the key."""
    docs = Path(__file__).parents[3] / "docs" / "sources"
    for what, page in (("snippet", "tracking.md"), ("pixel", "pixel.md")):
        printed = storecue(tmp_path, "source", what, "site").output
        text = (docs / page).read_text()
        assert printed.strip() in text, f"run `storecue source {what} site` and paste it into docs/sources/{page}"


def test_where_events_go(client: FlaskClient) -> None:
    answer = client.get("/api/v1/sources/site", headers={"Authorization": f"Bearer {TOKEN}"})
    assert json.loads(answer.data)["webhook_url"] == "https://cues.example/v1"
