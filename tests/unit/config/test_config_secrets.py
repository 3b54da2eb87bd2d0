import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from connector.config import store
from connector.config.sealing import sealed, secrets_of
from connector.config.secrets import Vault, new_key, read_keys
from connector.config.settings import Settings
from connector.domain import Configuration, DestinationConfig, SourceConfig
from connector.errors import ConfigurationError
from connector.storage.database import Database, sqlite_url
from connector.storage.tables import metadata

NOW = 1_763_719_200_000


def settings_of(tmp_path, **environ):
    return Settings.from_environment(environ, data_dir=tmp_path)


def literal(secret="canary-literal"):
    return Configuration(
        sources={"shop": SourceConfig("shop", "shopify", ("env:SHOPIFY_SECRET", secret))},
        destinations={"klaviyo": DestinationConfig("klaviyo", "klaviyo", {"api_key": secret})},
    )


class TestResolve:
    def test_each_kind_of_secret(self, vault, tmp_path):
        path = tmp_path / "token"
        path.write_text("from-a-file\n")
        assert vault.resolve("env:SHOPIFY_SECRET") == "from-the-environment"
        assert vault.resolve(f"file:{path}") == "from-a-file"
        assert vault.resolve(vault.encrypt("sesame ü")) == "sesame ü"
        assert vault.resolve("as it is") == "as it is"

    def test_a_missing_variable_says_who_must_act(self, vault):
        with pytest.raises(
            ConfigurationError, match="env:KLAVIYO_KEY: the environment variable KLAVIYO_KEY is not set"
        ):
            vault.resolve("env:KLAVIYO_KEY")

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda path: None, "there is no such file; whoever runs this machine must put the secret into"),
            (lambda path: path.write_text("  \n"), "the file is empty"),
            (lambda path: path.write_bytes(b"\xff\xfe"), "cannot be read as a text file"),
            (lambda path: path.mkdir(), "cannot be read as a text file"),
        ],
    )
    def test_a_missing_or_broken_file_is_named(self, vault, tmp_path, make, message):
        path = tmp_path / "token"
        make(path)
        with pytest.raises(ConfigurationError) as caught:
            vault.resolve(f"file:{path}")
        assert str(caught.value).startswith(f"file:{path}: ")
        assert message in str(caught.value)

    def test_a_token_of_another_key_is_refused_without_being_shown(self, vault):
        token = Vault([new_key()]).encrypt("canary")
        with pytest.raises(ConfigurationError, match="was not made with this StoreCue's key") as caught:
            vault.resolve(token)
        assert token not in str(caught.value)

    def test_a_key_that_is_none_is_not_repeated(self):
        with pytest.raises(ConfigurationError, match="not a Fernet key") as caught:
            Vault(["canary-short"])
        assert "canary" not in str(caught.value)

    def test_repr_shows_no_key(self):
        key = new_key()
        assert key not in repr(Vault([key]))


class TestSealing:
    def test_literals_are_encrypted_and_references_stay(self, vault):
        kept = sealed(literal(), Configuration(), vault)
        assert kept.sources["shop"].secrets[0] == "env:SHOPIFY_SECRET"
        assert all(secret.startswith(("env:", "enc:")) for _, secret in secrets_of(kept))
        assert "canary" not in repr(kept)
        assert vault.resolve(kept.destinations["klaviyo"].credentials["api_key"]) == "canary-literal"

    def test_the_same_secret_again_is_the_same_token_even_in_another_place_of_the_list(self, vault):
        kept = sealed(literal(), Configuration(), vault)
        assert sealed(literal(), kept, vault) == kept
        turned = literal()
        turned = replace(
            turned, sources={"shop": replace(turned.sources["shop"], secrets=turned.sources["shop"].secrets[::-1])}
        )
        assert sealed(turned, kept, vault).sources["shop"].secrets == kept.sources["shop"].secrets[::-1]

    def test_another_secret_is_another_token(self, vault):
        kept = sealed(literal(), Configuration(), vault)
        assert sealed(literal("other"), kept, vault).destinations != kept.destinations

    def test_a_foreign_token_names_its_place(self, vault):
        with pytest.raises(ConfigurationError, match="/sources/shop/secrets/1: an encrypted secret"):
            sealed(literal(Vault([new_key()]).encrypt("x")), Configuration(), vault)


class TestKeys:
    def test_the_first_start_makes_a_private_key_file_and_later_ones_use_it(self, database, tmp_path):
        settings = settings_of(tmp_path)
        token = store.open_vault(database, settings).encrypt("sesame")
        assert settings.secret_key_file.stat().st_mode & 0o777 == 0o600
        assert store.open_vault(database, settings).decrypt(token) == "sesame"
        assert [path.name for path in tmp_path.iterdir() if "key" in path.name] == ["secret.key"]

    def test_keys_from_the_environment_make_no_file(self, database, tmp_path):
        settings = settings_of(tmp_path, STORECUE_SECRET_KEY=new_key())
        store.open_vault(database, settings)
        assert not settings.secret_key_file.exists()

    def test_another_key_refuses_to_start(self, database, tmp_path):
        store.open_vault(database, settings_of(tmp_path, STORECUE_SECRET_KEY=new_key()))
        with pytest.raises(ConfigurationError, match="is not the one this data was made with") as caught:
            store.open_vault(database, settings_of(tmp_path, STORECUE_SECRET_KEY=new_key()))
        assert caught.value.reason == "wrong_key"

    def test_a_lost_key_file_is_not_replaced(self, database, tmp_path):
        settings = settings_of(tmp_path)
        store.open_vault(database, settings)
        settings.secret_key_file.unlink()
        with pytest.raises(ConfigurationError, match="the secret key is gone"):
            store.open_vault(database, settings)
        assert not settings.secret_key_file.exists()

    @pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
    @pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
    def test_a_key_file_that_others_may_read_is_refused_with_the_fix(self, tmp_path, mode):
        settings = settings_of(tmp_path)
        settings.secret_key_file.write_text(new_key())
        settings.secret_key_file.chmod(mode)
        with pytest.raises(ConfigurationError, match=f"run `chmod 600 {settings.secret_key_file}`"):
            read_keys(settings)
        settings.secret_key_file.chmod(0o400)
        assert len(read_keys(settings)) == 1

    def test_an_empty_key_file_is_refused(self, tmp_path):
        settings = settings_of(tmp_path)
        settings.secret_key_file.touch(0o600)
        with pytest.raises(ConfigurationError, match="is empty: put the key back"):
            read_keys(settings)

    def test_rotation(self, database, tmp_path):
        old, new = new_key(), new_key()
        first = store.open_vault(database, settings_of(tmp_path, STORECUE_SECRET_KEY=old))
        store.apply(database, first, literal(), NOW)

        both = store.open_vault(database, settings_of(tmp_path, STORECUE_SECRET_KEY=f"{new},{old}"))
        with database.read() as connection:
            before = store.version(connection)
        assert store.rotate(database, both) == 2  # the source and the destination

        only_new = store.open_vault(database, settings_of(tmp_path, STORECUE_SECRET_KEY=new))
        with database.read() as connection:
            assert store.version(connection) == before
            kept = store.load(connection)
        assert only_new.resolve(kept.sources["shop"].secrets[1]) == "canary-literal"
        assert only_new.resolve(kept.destinations["klaviyo"].credentials["api_key"]) == "canary-literal"
        with pytest.raises(ConfigurationError, match="is not the one this data was made with"):
            store.open_vault(database, settings_of(tmp_path, STORECUE_SECRET_KEY=old))

    def test_no_literal_secret_reaches_the_disk(self, database, tmp_path):
        vault = store.open_vault(database, settings_of(tmp_path))
        store.apply(database, vault, literal(), NOW)
        database.close()
        for path in tmp_path.iterdir():
            assert b"canary" not in path.read_bytes(), path.name

    def test_of_processes_that_start_together_one_makes_the_key(self, database, tmp_path):
        settings = settings_of(tmp_path)
        others = [Database(database.url) for _ in range(4)]  # a handle each, as processes have
        with ThreadPoolExecutor(4) as pool:
            vaults = list(pool.map(lambda other: store.open_vault(other, settings), others))
        for other in others:
            other.close()
        assert {vault.decrypt(vaults[0].encrypt("sesame")) for vault in vaults} == {"sesame"}

    def test_of_two_databases_each_keeps_its_own_check(self, tmp_path):
        for name in ("one", "two"):
            database = Database(sqlite_url(tmp_path / f"{name}.db"))
            database.create(metadata)
            store.open_vault(database, settings_of(tmp_path, STORECUE_SECRET_KEY=new_key()))
            database.close()
