import json
import os
import socket
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from adapters.destination import Account
from adapters.errors import Misconfigured, Rejected, Transient, Unauthorized
from connector.clock import DAY, HOUR
from connector.config import store
from connector.config.secrets import new_key
from connector.config.settings import Settings
from connector.doctor import BUILT_AT, ENOUGH_BYTES, checks
from connector.domain import Configuration, DestinationConfig, SourceConfig, StoreInfo
from connector.storage.database import Database
from connector.storage.server import Setup, wrong
from connector.storage.tables import counter, delivery, inbox_metadata, metadata

FILE = """
version: 1
store: {timezone: Europe/Paris}
sources: {shop: {kind: shopify, secrets: ["env:SHOPIFY_SECRET"]}}
destinations: {klaviyo: {kind: klaviyo, credentials: {api_key: "env:KLAVIYO_KEY"}}}
segments: {vip: {when: {trait: tags, contains: vip}}}
"""
ENVIRON = {"SHOPIFY_SECRET": "canary-shopify", "KLAVIYO_KEY": "canary-klaviyo"}

CONFIGURATION = Configuration(
    store=StoreInfo(timezone="Europe/Paris"),
    sources={"shop": SourceConfig("shop", "shopify", ("env:SHOPIFY_SECRET",))},
    destinations={"klaviyo": DestinationConfig("klaviyo", "klaviyo", {"api_key": "canary-klaviyo"})},
)


class FakeAccount:
    def __init__(self, error=None):
        self.error = error
        self.closed = False
        self.notes = ()

    def check_login(self):
        if self.error is not None:
            raise self.error
        return Account("X1", "Aurora", self.notes)

    def close(self):
        self.closed = True


class Place:
    """A data directory and what the doctor says of it."""

    def __init__(self, folder, now):
        self.folder = folder
        self.now = now
        self.account = FakeAccount()
        self.settings = Settings.from_environment({}, data_dir=folder, port=_free_port())
        self.environ = dict(ENVIRON)
        self.free = 10 * ENOUGH_BYTES
        self.file = None

    def install(self, configuration=CONFIGURATION):
        self.folder.mkdir(exist_ok=True)
        with self.database() as database:
            database.create(metadata)
            vault = store.open_vault(database, self.settings, environ=self.environ)
            store.apply(database, vault, configuration, self.now)
        inbox = Database(self.settings.inbox_url)
        inbox.create(inbox_metadata)
        inbox.close()

    def database(self):
        return _Closing(Database(self.settings.database_url))

    def found(self):
        def connect(config, credentials):
            assert credentials == {"api_key": "canary-klaviyo"}
            return self.account

        found = list(
            checks(
                self.settings,
                now=self.now,
                file=self.file,
                environ=self.environ,
                connect=connect,
                free_bytes=lambda path: self.free,
            )
        )
        for check in found:
            assert "canary" not in check.message + check.fix
            assert check.ok or check.fix, f"{check.name} has no fix"
        return found

    def faults(self):
        return {check.name: check for check in self.found() if not check.ok}

    def named(self, name):
        return next(check for check in self.found() if check.name == name)


class _Closing:
    def __init__(self, database):
        self.database = database

    def __enter__(self):
        return self.database

    def __exit__(self, *_):
        self.database.close()


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def place(tmp_path):
    # The files' own times are real, so the frozen clock stands a little after them.
    return Place(tmp_path / "data", round(tmp_path.stat().st_mtime * 1000) + HOUR)


def count(place, name, label, at):
    with place.database() as database, database.tx() as tx:
        tx.execute(counter.insert().values(name=name, label=label, count=3, last_at=at))


def test_all_is_well(place):
    place.install()
    count(place, "deliveries", "shop/orders/create", place.now - 3 * DAY)
    found = {check.name: check for check in place.found()}
    assert [check.name for check in found.values() if not check.ok] == []
    assert list(found) == [
        "data directory",
        "secret key",
        "configuration",
        "secrets",
        "clock",
        "time zones",
        "database",
        "delivery log",
        "log",
        "disk",
        "destination klaviyo",
        "source shop",
        "port",
    ]
    assert found["configuration"].message == ("version 1 is in force: 1 source, 1 destination, 0 fields, 0 segments")
    assert found["secrets"].message == "2 can be read"
    assert found["destination klaviyo"].message == "logged in as Aurora (X1)"
    assert found["source shop"].message.endswith("Z, 3 days ago")
    assert found["time zones"].message.endswith("the store is in Europe/Paris")
    assert place.account.closed


def test_what_the_options_ask_for_and_the_account_does_not_give_is_told(place):
    place.install()
    place.account.notes = ("no custom events by this plan",)
    found = {check.name: check for check in place.found()}
    assert found["destination klaviyo"].ok
    assert found["destination klaviyo"].message == "logged in as Aurora (X1); no custom events by this plan"


def test_a_new_machine_needs_a_configuration_and_nothing_is_made(place):
    faults = place.faults()
    assert list(faults) == ["configuration"]
    assert faults["configuration"].fix == "write storecue.yaml and run `storecue apply`"
    assert not place.folder.exists()


def test_a_file_can_be_judged_before_the_first_start(place, tmp_path):
    place.file = tmp_path / "storecue.yaml"
    place.file.write_text(FILE)
    found = {check.name: check for check in place.found()}
    assert found["configuration"].message.endswith("is valid: 1 source, 1 destination, 0 fields, 1 segment")
    assert found["destination klaviyo"].ok
    assert not found["source shop"].ok
    assert found["source shop"].fix.endswith(f"{place.settings.public_url}/webhooks/shopify/shop")


def test_trackers_are_told_the_address_that_their_clients_take(place, tmp_path):
    place.file = tmp_path / "storecue.yaml"
    place.file.write_text(FILE.replace("{shop:", "{site: {kind: segment_api, secrets: [hush-hush-hush-hush]}, shop:"))
    found = {check.name: check for check in place.found()}
    assert found["source site"].fix.endswith(f"tell the sender to deliver to {place.settings.public_url}/v1")


def test_every_problem_of_a_file_has_a_line(place, tmp_path):
    place.file = tmp_path / "storecue.yaml"
    place.file.write_text("version: 2\nstore: {currency: X}\n")
    problems = [check.message for check in place.found() if check.name == "configuration"]
    assert [message.partition(": ")[0] for message in problems] == [
        f"{place.file}:1 /version",
        f"{place.file}:2 /store/currency",
    ]


class TestSecrets:
    def test_a_missing_variable(self, place):
        place.install()
        del place.environ["SHOPIFY_SECRET"]
        fault = place.faults()["secrets"]
        assert "/sources/shop/secrets/0: env:SHOPIFY_SECRET: the environment variable" in fault.message

    @pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
    def test_a_key_file_that_others_may_read(self, place):
        place.install()
        place.settings.secret_key_file.chmod(0o644)
        faults = place.faults()
        assert faults["secret key"].fix == f"chmod 600 {place.settings.secret_key_file}"
        assert "not tried" in faults["destination klaviyo"].message

    def test_another_key(self, place):
        place.install()
        place.settings = replace(place.settings, secret_keys=(new_key(),))
        assert "is not the one this data was made with" in place.faults()["secret key"].message

    def test_a_lost_key(self, place):
        place.install()
        place.settings.secret_key_file.unlink()
        assert place.faults()["secret key"].message.endswith("secret.key is gone")
        assert not place.settings.secret_key_file.exists()

    def test_what_a_vendor_echoes_is_struck_out(self, place):
        place.install()
        place.account.error = Rejected("no such key: canary-klaviyo")
        assert place.faults()["destination klaviyo"].message == "no such key: ***"


class TestClock:
    def test_before_the_code_was_written(self, place):
        place.install()
        place.now = BUILT_AT - 1
        assert "before StoreCue was written" in place.faults()["clock"].message

    def test_before_the_database_was_written(self, place):
        place.install()
        place.now -= 2 * HOUR
        fault = place.faults()["clock"]
        assert "when something was last written here" in fault.message
        assert "timedatectl" in fault.fix

    def test_before_the_last_delivery(self, place):
        place.install()
        inbox = Database(place.settings.inbox_url)
        with inbox.tx() as tx:
            values = {
                "part": 0,
                "pos": 0,
                "key": "",
                "source": "shop",
                "delivery_id": "1",
                "topic": "",
                "headers": "{}",
            }
            tx.execute(delivery.insert().values(**values, received_at=place.now + HOUR, body=b""))
        inbox.close()
        assert not place.named("clock").ok


class TestStorage:
    def test_a_database_that_is_not_supported(self, place):
        place.settings = replace(place.settings, database_url="mysql://root:canary@db/storecue")
        assert place.faults()["database"].fix.startswith("unset DATABASE_URL")

    def test_little_room(self, place):
        place.free = ENOUGH_BYTES - 1
        assert place.faults()["disk"].message.startswith("1.0 GiB free")

    @pytest.mark.parametrize("garbage", [b"this is no database at all" * 100, None])
    def test_a_damaged_database(self, place, garbage):
        place.install()
        path = place.folder / "storecue.db"
        data = bytearray(path.read_bytes())
        for old in place.folder.glob("storecue.db-*"):
            old.unlink()
        if garbage is None:
            for page in range(2, len(data) // 4096):  # the first page stays: a database with broken trees
                data[page * 4096 : page * 4096 + 200] = b"\xff" * 200
        path.write_bytes(garbage or bytes(data))
        fault = place.faults()["database"]
        assert "restore your last backup" in fault.fix

    def test_a_directory_that_cannot_be_written_to(self, place):
        place.folder.write_text("a file stands where the directory should be")
        assert "set STORECUE_DATA" in place.faults()["data directory"].fix


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (Unauthorized("401"), "make a new key at the vendor, with the rights StoreCue needs, and put it where "),
        (Transient("timed out"), "see that this machine reaches the vendor"),
        (Misconfigured("list_id is wrong"), "correct it under destinations, klaviyo, and apply again"),
        (Rejected("no"), "see what the vendor says"),
        (KeyError("data"), "this is a fault of StoreCue's klaviyo adapter"),
    ],
)
def test_a_destination_that_does_not_log_in(place, error, fix):
    place.install()
    place.account.error = error
    assert place.faults()["destination klaviyo"].fix.startswith(fix)
    assert place.account.closed


def test_the_real_adapter_says_when_nobody_answers(place):
    place.install(
        replace(
            CONFIGURATION,
            destinations={
                "klaviyo": DestinationConfig(
                    "klaviyo",
                    "klaviyo",
                    {"api_key": "spaces are wrong"},
                    base_url=f"http://127.0.0.1:{_free_port()}",
                    allow_insecure=True,
                )
            },
        )
    )
    (check,) = [c for c in checks(place.settings, now=place.now, environ=ENVIRON) if c.name == "destination klaviyo"]
    assert not check.ok
    assert "api_key holds spaces" in check.message


def test_a_source_whose_deliveries_are_refused(place):
    place.install()
    count(place, "rejected", "shop/bad_signature", place.now)
    fault = place.faults()["source shop"]
    assert fault.message == "nothing accepted yet, 3 deliveries refused (bad_signature)"
    assert "compare the secret of shop" in fault.fix


class TestPort:
    def test_somebody_else_has_it(self, place):
        with socket.socket() as other:
            other.bind(("127.0.0.1", place.settings.port))
            other.listen()
            threading.Thread(target=lambda: other.accept()[0].close(), daemon=True).start()
            fault = place.faults()["port"]
        assert "STORECUE_PORT" in fault.fix

    def test_storecue_itself_has_it(self, place):
        class Alive(BaseHTTPRequestHandler):
            def do_GET(self):
                body = json.dumps({"status": "ok"}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = HTTPServer(("127.0.0.1", place.settings.port), Alive)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            assert place.named("port").message.startswith("StoreCue answers on 127.0.0.1:")
        finally:
            server.shutdown()
            server.server_close()


class TestServer:
    """PostgreSQL. Its own clock is real, so the frozen one is put beside it."""

    @pytest.fixture
    def served(self, place, new_postgres):
        url = new_postgres()
        place.settings = replace(place.settings, database_url=url, inbox_url=url)
        place.now = round(time.time() * 1000)
        database = Database(url)
        with database.tx() as tx:
            tx.exec_driver_sql(f"ALTER DATABASE {database.engine.url.database} SET synchronous_commit = on")
        database.close()
        return place

    def told(self, place):
        return [check for check in place.found() if check.name in ("database", "delivery log")]

    def test_what_a_test_server_lacks_is_told(self, served):
        """Ours does not wait for its disk."""
        (fault,) = self.told(served)
        assert "fsync is off and full_page_writes is off" in fault.message
        assert fault.fix == "set both to on in postgresql.conf"

    def test_a_server_that_is_right(self, served, monkeypatch):
        monkeypatch.setattr("connector.doctor.wrong", lambda found, now: [])
        (check,) = self.told(served)
        assert check.ok and " is PostgreSQL 1" in check.message

    @pytest.mark.parametrize(
        ("setting", "message"),
        [
            ("synchronous_commit = off", "synchronous_commit is off"),
            ("idle_session_timeout = '1h'", "idle_session_timeout is 1h"),
            ("statement_timeout = '30s'", "statement_timeout is 30s"),
        ],
    )
    def test_a_setting_that_breaks_a_promise(self, served, setting, message):
        database = Database(served.settings.database_url)
        with database.tx() as tx:
            tx.exec_driver_sql(f"ALTER DATABASE {database.engine.url.database} SET {setting}")
        database.close()
        assert any(message in check.message for check in self.told(served))

    def test_rights_and_clocks_and_addresses(self, served):
        served.now += 60_000
        database = Database(served.settings.database_url)
        with database.tx() as tx:
            tx.exec_driver_sql("DROP ROLE IF EXISTS guest")
            tx.exec_driver_sql("CREATE ROLE guest LOGIN")
            tx.exec_driver_sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        database.close()
        url = database.engine.url.set(username="guest").render_as_string(hide_password=False)
        served.settings = replace(served.settings, database_url=url, inbox_url=url)
        messages = " ".join(check.message for check in self.told(served))
        assert "may not create tables" in messages and "60 s away from this machine's" in messages
        served.settings = replace(served.settings, database_url="postgresql://u:canary@127.0.0.1:1/db")
        (fault,) = [check for check in served.found() if check.name == "database"]
        assert "127.0.0.1/db cannot be reached" in fault.message

    def test_an_old_one_and_a_full_one_and_a_standby(self):
        right = Setup(170_000, "17", "UTF8", "on", "on", "on", "0", "0", True, False, 0, 5, 97)
        assert list(wrong(right, now=0)) == []
        bad = replace(right, number=120_000, version="12.1", encoding="LATIN1", standby=True, connections=90)
        assert [message for message, _ in wrong(bad, now=0)] == [
            "it is PostgreSQL 12.1",
            "its encoding is LATIN1",
            "it is a standby, which takes no writes",
            "90 of 97 connections are taken",
        ]
