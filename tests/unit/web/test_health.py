import re
import shutil
import threading
from itertools import pairwise
from unittest.mock import Mock

import pytest
from populated import AUTHORISED, NOW
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.exc import OperationalError

from connector.app import create_app
from connector.web.current import of
from connector.web.pages import prose

_ORDER = ("kind", "source", "destination", "segment", "topic", "status", "reason", "le")


def scraped(http):
    answer = http.get("/metrics")
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain")
    families = text_string_to_metric_families(answer.get_data(as_text=True))
    return {
        (sample.name, *(sample.labels[name] for name in _ORDER if name in sample.labels)): sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith("storecue_")
    }


def test_alive_is_answered_without_asking_anything(shop):
    shop.services.close()
    assert shop.http.get("/healthz").get_json() == {"status": "ok"}


def test_ready_when_database_and_log_take_writes(window):
    answer = window.http.get("/readyz")
    assert answer.status_code == 200
    assert answer.get_json() == {
        "status": "ok",
        "checks": [{"name": "database", "ok": True}, {"name": "log", "ok": True}],
    }


@pytest.mark.parametrize(("which", "checks"), [("database", [False, True]), ("inbox", [True, False])])
def test_not_ready_while_one_of_them_refuses(shop, which, checks):
    engine = getattr(shop.services, which).engine
    with engine.connect() as connection:
        connection.exec_driver_sql("pragma query_only = on")
    engine.pool.dispose()
    broken = shop.http

    def refuse(*_):
        raise engine.dialect.loaded_dbapi.OperationalError("database or disk is full")

    from sqlalchemy import event

    event.listen(engine, "before_cursor_execute", refuse)
    answer = broken.get("/readyz")
    assert answer.status_code == 503
    assert [check["ok"] for check in answer.get_json()["checks"]] == checks
    event.remove(engine, "before_cursor_execute", refuse)
    assert broken.get("/readyz").status_code == 200


def test_metrics_tell_the_state_of_the_database(window):
    told = scraped(window.http)
    assert told["storecue_lag",] == 2
    assert told["storecue_lag_seconds",] == 120
    assert told["storecue_deliveries_processed_total", "shop", "orders/create"] == 1
    assert told["storecue_deliveries_skipped_total", "shop", "unknown_topic"] == 3
    assert told["storecue_pushes_total", "klaviyo", "applied"] == 2
    assert told["storecue_dead_letters_open", "delivery", "no_total"] == 1
    assert told["storecue_destination_pending", "klaviyo"] == 0
    assert told["storecue_destination_pending", "mailchimp"] == 1
    assert told["storecue_destination_oldest_pending_seconds", "mailchimp"] == 180
    assert told["storecue_destination_pending_cues", "mailchimp"] == 1
    assert told["storecue_destination_active", "klaviyo"] == 1
    assert told["storecue_destination_active", "mailchimp"] == 0
    assert told["storecue_segment_members", "vip"] == 1


def test_metrics_tell_how_full_the_disk_is(shop):
    free = shutil.disk_usage(shop.services.settings.data_dir).free
    families = text_string_to_metric_families(shop.http.get("/metrics").get_data(as_text=True))
    found = {(s.name, s.labels.get("database")): s.value for family in families for s in family.samples}
    assert found["storecue_disk_free_bytes", None] == pytest.approx(free, rel=0.05)
    folder = shop.services.settings.data_dir
    for database, name in (("state", "storecue.db"), ("log", "inbox.db")):
        size = sum(path.stat().st_size for path in folder.glob(f"{name}*") if not path.name.endswith("-shm"))
        assert found["storecue_database_bytes", database] == pytest.approx(size, rel=0.05)


def test_metrics_say_that_the_database_cannot_be_asked(shop, monkeypatch):
    of(shop.app).metrics.accepted("shop", 0.001)
    refused = OperationalError("SELECT 1", {}, Exception("connection refused"))
    with monkeypatch.context() as broken:
        for way in ("read", "tx"):
            broken.setattr(shop.services.database, way, Mock(side_effect=refused))
        told = scraped(shop.http)
    assert told["storecue_database_known",] == 0
    assert told["storecue_disk_free_bytes",] > 0
    assert told["storecue_acknowledgement_seconds_count",] == 1
    assert not [name for name in told if name[0].startswith(("storecue_lag", "storecue_deliveries"))]
    told = scraped(shop.http)
    assert told["storecue_database_known",] == 1
    assert told["storecue_deliveries_accepted_total", "shop"] == 1  # what could not be written was kept


def test_what_one_process_counts_all_processes_tell(shop):
    other = create_app(services=shop.services, now=lambda: NOW)
    mine, theirs = of(shop.app).metrics, of(other).metrics
    mine.accepted("shop", 0.003)
    mine.accepted("shop", 0.2)
    theirs.accepted("shop", 0.003)
    theirs.rejected("shop", "bad_signature")
    theirs.flush()
    told = scraped(shop.http)
    assert told["storecue_deliveries_accepted_total", "shop"] == 3
    assert told["storecue_deliveries_rejected_total", "shop", "bad_signature"] == 1
    assert told["storecue_acknowledgement_seconds_count",] == 2
    assert told["storecue_acknowledgement_seconds_bucket", "0.005"] == 1
    assert scraped(other.test_client())["storecue_deliveries_accepted_total", "shop"] == 3
    theirs.close()


def test_no_count_is_lost_between_threads_and_flushes(shop):
    metrics = of(shop.app).metrics

    def count():
        for _ in range(300):
            metrics.accepted("shop", 0.001)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        metrics.flush()
    for thread in threads:
        thread.join()
    assert scraped(shop.http)["storecue_deliveries_accepted_total", "shop"] == 2400


def test_a_flush_that_fails_keeps_the_counts(shop, monkeypatch):
    metrics = of(shop.app).metrics
    metrics.accepted("shop", 0.001)
    with monkeypatch.context() as broken:
        broken.setattr(shop.services.database, "tx", lambda **_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            metrics.flush()
    assert scraped(shop.http)["storecue_deliveries_accepted_total", "shop"] == 1


def test_senders_of_nonsense_cannot_fill_our_memory(shop):
    metrics = of(shop.app).metrics
    for number in range(5000):
        metrics.rejected(f"made-up-{number}", "no_source")
    assert sum(name[0] == "storecue_deliveries_rejected_total" for name in scraped(shop.http)) == 1000


def test_members_are_counted_anew_every_half_minute(shop):
    def vips():
        return scraped(shop.http)["storecue_segment_members", "vip"]

    assert vips() == 1
    with shop.services.database.tx() as tx:
        tx.exec_driver_sql("update membership set matched = 0")
    assert vips() == 1
    shop.clock[0] += 30_000
    assert vips() == 0


def test_buckets_ascend(window):
    told = scraped(window.http)
    bounds = [float(name[1]) for name in told if name[0] == "storecue_acknowledgement_seconds_bucket"]
    assert all(left < right for left, right in pairwise(bounds)) and len(bounds) > 5


def test_the_page_describes_every_route_without_foreign_content(window):
    page = window.http.get("/docs").get_data(as_text=True)
    for path in window.http.get("/openapi.json").get_json()["paths"]:
        assert path in page
    assert re.findall(r"<script|<style|<iframe|http-equiv|<[^>]* (?:style|on[a-z]+)=", page) == []
    assert re.findall(r"(?:src|href)=\"(?!#|/static/docs.css|/openapi)[^\"]*", page) == []
    assert AUTHORISED["Authorization"] not in page


def test_a_description_is_escaped_and_its_backticks_are_code():
    assert prose("send `<b>` & wait") == "send <code>&lt;b&gt;</code> &amp; wait"
