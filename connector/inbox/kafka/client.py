"""The client library of Kafka: loaded when it is used, quiet, its errors in words that say who must act."""

import logging
import threading
from typing import TYPE_CHECKING, Any

import structlog

from connector.errors import ConfigurationError

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError

log = structlog.get_logger("kafka")
_LEAVING = 3.0  # seconds

SECURITY = {"plaintext": "PLAINTEXT", "ssl": "SSL", "sasl_plaintext": "SASL_PLAINTEXT", "sasl_ssl": "SASL_SSL"}
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")

# What the library calls it -> who must act, in words. Others are named as they are.
WORDS = {
    "_ALL_BROKERS_DOWN": "no broker answers: see that it runs and that this machine reaches it",
    "_TRANSPORT": "no broker answers: see that it runs and that this machine reaches it",
    "_RESOLVE": "the name of a broker cannot be resolved: see the bootstrap servers",
    "_TIMED_OUT": "the broker does not answer in time: see that it runs and that this machine reaches it",
    "_MSG_TIMED_OUT": "the broker does not answer in time: see that it runs and that this machine reaches it",
    "_AUTHENTICATION": "the broker refuses the login: see the username, the password and the security",
    "_SSL": "no TLS with the broker: see the security and the CA file",
    "_UNKNOWN_TOPIC": "there is no such topic: make it, or correct its name",
    "_UNKNOWN_PARTITION": "there is no such topic: make it, or correct its name",
    "UNKNOWN_TOPIC_OR_PART": "there is no such topic: make it, or correct its name",
    "TOPIC_AUTHORIZATION_FAILED": "this user may not use the topic: give it the right to",
    "CLUSTER_AUTHORIZATION_FAILED": "this user may not do that with the cluster: give it the right to",
    "GROUP_AUTHORIZATION_FAILED": "this user may not use the group: give it the right to",
    "NOT_ENOUGH_REPLICAS": "too few copies of the topic are in sync: see which broker is away",
    "NOT_ENOUGH_REPLICAS_AFTER_APPEND": "too few copies of the topic are in sync: see which broker is away",
}


def said(error: "KafkaError") -> str:
    """An error of the library in words."""
    return WORDS.get(error.name(), f"the broker says {error.name()}: {error.str()}")


def logger() -> logging.Logger:
    """The library repeats each failed connection: that is for those who look for it."""
    quiet = logging.getLogger("librdkafka")
    quiet.setLevel(logging.CRITICAL)
    return quiet


def library() -> Any:
    """The library, which only those who have a Kafka install."""
    try:
        import confluent_kafka
    except ImportError:
        raise ConfigurationError(
            "confluent-kafka is not installed: run `pip install 'storecue[kafka]'`", reason="missing_extra"
        ) from None
    return confluent_kafka


def leave(consumer: "Consumer") -> None:
    """Close a consumer and leave its group, so that others take over at once. librdkafka (2.16) may wait for itself for
    ever, where a rebalance comes while it closes: then the others are told by the end of the session."""
    leaving = threading.Thread(target=consumer.close, name="kafka-leaving", daemon=True)
    leaving.start()
    leaving.join(_LEAVING)
    if leaving.is_alive():
        log.warning("kafka.not_left", hint="the library does not come to an end; the session will tell the others")
