"""A source's own API in storecue.yaml: what may be written, and that its secrets are kept as secrets."""

from dataclasses import replace

import pytest

from connector.config.export import to_yaml
from connector.config.plan import diff, render
from connector.config.schema import configuration_from
from connector.config.sealing import sealed, secrets_of
from connector.config.secrets import Vault, new_key
from connector.config.yaml_file import InvalidConfiguration, parse
from connector.domain import Configuration

FILE = """
version: 1
sources:
  shop: {{kind: shopify, secrets: ["env:SHOPIFY_SECRET"], admin: {admin}}}
"""
GOOD = "{shop: aurora.myshopify.com, client_id: 4711abc, client_secret: very-secret}"


def read(admin: str) -> Configuration:
    return configuration_from(parse(FILE.format(admin=admin)))


@pytest.mark.parametrize(
    ("admin", "pointer", "words"),
    [
        ("{shop: aurora.example.com, access_token: x}", "/sources/shop/admin/shop", "aurora.myshopify.com"),
        ("{shop: evil.com/aurora.myshopify.com, access_token: x}", "/sources/shop/admin/shop", "aurora.myshopify.com"),
        ("{shop: Aurora.myshopify.com, access_token: x}", "/sources/shop/admin/shop", "aurora.myshopify.com"),
        ("{shop: aurora.myshopify.com}", "/sources/shop/admin/client_id", "is missing"),
        ("{shop: aurora.myshopify.com, client_id: x}", "/sources/shop/admin/client_secret", "is missing"),
        ("{shop: aurora.myshopify.com, version: latest, access_token: x}", "/sources/shop/admin/version", "2026-10"),
        (
            "{shop: a.myshopify.com, client_id: x, access_token: y}",
            "/sources/shop/admin/client_id",
            "one of the two ways",
        ),
        (
            "{shop: a.myshopify.com, access_token: y, base_url: 'http://x.example'}",
            "/sources/shop/admin/base_url",
            "http",
        ),
        (
            "{shop: a.myshopify.com, access_token: y, base_url: 'https://10.0.0.1'}",
            "/sources/shop/admin/base_url",
            "public",
        ),
    ],
)
def test_what_may_not_be_written(admin: str, pointer: str, words: str) -> None:
    with pytest.raises(InvalidConfiguration) as refused:
        read(admin)
    found = {problem.pointer: problem.message for problem in refused.value.problems}
    assert words in found[pointer]


def test_only_sources_that_have_an_api() -> None:
    text = (
        "version: 1\nsources:\n  site: {kind: generic, secrets: [x], admin: {shop: a.myshopify.com, access_token: y}}\n"
    )
    with pytest.raises(InvalidConfiguration, match="/sources/site/admin"):
        configuration_from(parse(text))


def test_it_is_written_back_as_it_was() -> None:
    wanted = read(GOOD)
    assert read(GOOD) == configuration_from(parse(to_yaml(wanted)))
    assert "version: 2026" not in to_yaml(wanted)


def test_its_secrets_are_encrypted_and_never_shown() -> None:
    vault, nothing = Vault([new_key()]), Configuration()
    kept = sealed(read(GOOD), nothing, vault)
    admin = kept.sources["shop"].admin
    assert admin is not None and admin.client_secret is not None
    assert admin.client_secret.startswith("enc:")
    assert vault.resolve(admin.client_secret) == "very-secret"
    assert "very-secret" not in to_yaml(kept)
    shown = render(diff(nothing, kept))
    assert "very-secret" not in shown and "enc:" not in shown
    assert "admin.shop: aurora.myshopify.com" in shown
    assert "/sources/shop/admin/client_secret" in dict(secrets_of(kept))
    again = sealed(read(GOOD), kept, vault)
    assert again == kept  # the same secret is the same token
    changed = sealed(read(GOOD.replace("very-secret", "another")), kept, vault)
    assert "(encrypted, another)" in render(diff(kept, changed))
    assert "another" not in render(diff(kept, changed)).replace("(encrypted, another)", "")
    assert replace(changed, sources={}) == replace(kept, sources={})
