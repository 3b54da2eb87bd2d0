from pathlib import Path

import pytest

from connector.config.settings import Settings
from connector.errors import ConfigurationError


def test_defaults():
    settings = Settings.from_environment({})
    assert settings.data_dir == Path("storecue-data")
    assert settings.database_url == "sqlite+pysqlite:///storecue-data/storecue.db"
    assert settings.inbox_url == "sqlite+pysqlite:///storecue-data/inbox.db"
    assert (settings.host, settings.port) == ("127.0.0.1", 8080)
    assert settings.public_url == "http://127.0.0.1:8080"
    assert settings.api_token is None
    assert settings.secret_keys == ()
    assert settings.secret_key_file == Path("storecue-data/secret.key")
    assert (settings.partitions, settings.max_body, settings.retention_days) == (16, 5 * 1024 * 1024, 7)


def test_everything_from_the_environment():
    settings = Settings.from_environment(
        {
            "STORECUE_DATA": "/var/lib/storecue",
            "DATABASE_URL": "postgresql://user:hunter2@db/storecue",
            "STORECUE_HOST": "::",
            "STORECUE_PORT": "9000",
            "STORECUE_API_TOKEN": "canary-token",
            "STORECUE_SECRET_KEY": "canary-new, canary-old",
            "STORECUE_SECRET_KEY_FILE": "/run/key",
            "STORECUE_LOG_LEVEL": "DEBUG",
            "STORECUE_LOG_FORMAT": "json",
            "STORECUE_PARTITIONS": "4",
            "STORECUE_MAX_BODY": "1000000",
            "STORECUE_RETENTION_DAYS": "30",
        }
    )
    assert settings.inbox_url == settings.database_url == "postgresql://user:hunter2@db/storecue"
    assert settings.public_url == "http://[::]:9000"
    assert settings.secret_keys == ("canary-new", "canary-old")
    assert settings.secret_key_file == Path("/run/key")
    assert (settings.log_level, settings.log_format) == ("debug", "json")
    assert (settings.partitions, settings.max_body, settings.retention_days) == (4, 1_000_000, 30)
    assert "canary" not in repr(settings)
    assert "hunter2" not in repr(settings)


def test_overrides_win_unless_they_are_none_and_defaults_follow_them():
    environ = {"STORECUE_DATA": "/env", "STORECUE_PORT": "9000"}
    settings = Settings.from_environment(environ, data_dir=Path("/cli"), port=None, host="0.0.0.0")
    assert settings.database_url.endswith("///cli/storecue.db") or settings.database_url.endswith("////cli/storecue.db")
    assert settings.secret_key_file == Path("/cli/secret.key")
    assert (settings.host, settings.port) == ("0.0.0.0", 9000)


def test_a_variable_set_to_nothing_is_unset():
    assert Settings.from_environment({"STORECUE_PORT": "", "STORECUE_API_TOKEN": ""}).port == 8080


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"STORECUE_PORT": "eighty"}, "STORECUE_PORT"),
        ({"STORECUE_PORT": "70000"}, "STORECUE_PORT is 70000; it must be from 1 to 65535"),
        ({"STORECUE_PARTITIONS": "0"}, "STORECUE_PARTITIONS is 0"),
        ({"STORECUE_MAX_BODY": "12"}, "STORECUE_MAX_BODY is 12"),
        ({"STORECUE_RETENTION_DAYS": "-1"}, "STORECUE_RETENTION_DAYS is -1"),
        ({"STORECUE_LOG_LEVEL": "loud"}, "use one of debug, info, warning, error"),
        ({"STORECUE_LOG_FORMAT": "xml"}, "use one of console, json"),
        ({"STORECUE_PUBLIC_URL": "cues.example.com"}, "STORECUE_PUBLIC_URL"),
    ],
)
def test_a_wrong_value_names_its_variable(environ, message):
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment(environ)
    assert message in str(caught.value)


def test_kafka_from_the_environment_without_its_secrets_in_sight():
    settings = Settings.from_environment(
        {
            "KAFKA_BOOTSTRAP": "b-1.example:9096,b-2.example:9096",
            "KAFKA_TOPIC": "shop.deliveries",
            "KAFKA_SECURITY": "SASL_SSL",
            "KAFKA_USERNAME": "storecue",
            "KAFKA_PASSWORD": "canary-password",
            "KAFKA_KEY_PASSWORD": "canary-key",
            "KAFKA_RECORD_LIMIT": "8000000",
            "KAFKA_SESSION": "20",
        }
    )
    assert settings.kafka is not None
    assert (settings.kafka.topic, settings.kafka.group, settings.kafka.record_limit) == (
        "shop.deliveries",
        "storecue",
        8_000_000,
    )
    assert (settings.kafka.session, settings.kafka.heartbeat) == (20, 6)
    told = settings.kafka.client()
    assert told["security.protocol"] == "SASL_SSL" and told["sasl.mechanism"] == "SCRAM-SHA-512"
    assert told["sasl.password"] == "canary-password"
    assert "ssl.ca.location" not in told
    assert "canary" not in repr(settings)
    assert settings.inbox_url == settings.database_url, "what Kafka cannot do is done in the effects' transaction"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"KAFKA_SECURITY": "tls"}, "KAFKA_SECURITY is 'tls'; use one of plaintext, ssl, sasl_plaintext, sasl_ssl"),
        ({"KAFKA_MECHANISM": "GSSAPI"}, "KAFKA_MECHANISM is 'GSSAPI'"),
        ({"KAFKA_TOPIC": "a b"}, "KAFKA_TOPIC is 'a b'"),
        ({"KAFKA_SESSION": "1"}, "KAFKA_SESSION is 1; it must be from 2 to 300"),
        ({"KAFKA_RECORD_LIMIT": "12"}, "KAFKA_RECORD_LIMIT is 12; it must be from"),
        ({"KAFKA_SECURITY": "sasl_ssl", "KAFKA_USERNAME": "u"}, "give KAFKA_USERNAME and KAFKA_PASSWORD"),
        ({"KAFKA_USERNAME": "u", "KAFKA_PASSWORD": "p"}, "for a login it must be sasl_ssl"),
    ],
)
def test_a_kafka_that_cannot_be_is_refused(given, said):
    with pytest.raises(ConfigurationError, match=said):
        Settings.from_environment({"KAFKA_BOOTSTRAP": "b:9092", **given})
