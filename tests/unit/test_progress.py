"""`storecue status`: how things stand, and the bars of running refills."""

from typing import Any

from connector import progress

READ = {
    "last_verification": {
        "state": "done",
        "at": 1_795_000_000_000,
        "checked": 200,
        "contacts": 1_000,
        "drifted": 3,
        "repaired": 2,
        "error": "",
    },
    "engagement": None,
}


STREAM = {
    "name": "clicks",
    "kind": "kafka",
    "topic": "site-clicks",
    "direction": "read",
    "state": "active",
    "message": "",
    "lag": None,
    "lag_ms": None,
}


def status(*refills: tuple[str, int, int]) -> dict[str, Any]:
    return {
        "log": {"name": "database", "partitions": 16, "message": ""},
        "lag": 1234,
        "oldest_waiting_at": 1_795_000_000_000,
        "parked": {"customers": 2, "deliveries": 5, "oldest_at": 1_795_000_000_000},
        "at": 1_795_000_060_000,
        "processes": [
            {"id": "shop-1/4711", "kind": "worker", "since": 1_795_000_000_000, "until": 1_795_000_067_200},
        ],
        "turns": [
            {"work": "push", "name": "klaviyo", "process": "shop-1/4711", "since": 1_795_000_000_000, "until": None},
        ],
        "partitions": [{"part": 3, "head": 2_000, "position": 766, "lag": 1_234}],
        "destinations": [
            {"name": "klaviyo", "state": "unauthorized", "pending": 7, "message": "the key was refused"} | READ,
            {"name": "hubspot", "state": "active", "pending": 0, "message": ""} | dict.fromkeys(READ),
        ],
        "streams": [
            STREAM | {"lag": 1_207},
            STREAM | {"name": "facts", "state": "failing", "message": "no broker answers", "lag_ms": 1_500},
        ],
        "sources": [
            {"source": "shop", "state": "stopped", "waiting": 12, "message": "put the access token into `admin`"},
            {"source": "crm", "state": "active", "waiting": 0, "message": ""},
        ],
        "erasures": [{"destination": "hubspot", "state": "dead", "contacts": 2, "since": 1_795_000_000_000}],
        "dead_letters": [{"kind": "delivery", "reason": "not_json", "count": 2}],
        "refills": [{"segment": name, "position": done, "last": last} for name, done, last in refills],
    }


def test_a_line_for_each_thing_to_know() -> None:
    assert progress.lines(status()).splitlines() == [
        "log: database, 16 partitions",
        "deliveries waiting: 1,234 in 1 of 16 partitions, the oldest since 2026-11-18T11:06:40.000Z",
        "parked: 5 deliveries of 2 customers, tried again by themselves (since 2026-11-18T11:06:40.000Z)",
        "worker shop-1/4711, since 2026-11-18T11:06:40.000Z, for 7 s unless it renews",
        "push klaviyo: shop-1/4711, since 2026-11-18T11:06:40.000Z",
        "klaviyo: unauthorized, 7 contacts to push (the key was refused)",
        "  200 of 1,000 contacts read back at 2026-11-18T11:06:40.000Z: 3 differed, 2 put right",
        "hubspot: active, 0 contacts to push",
        "stream clicks (kafka site-clicks): active, 1,207 to read",
        "stream facts (kafka site-clicks): failing, 1.5 s behind (no broker answers)",
        "source shop: stopped, 12 things to fetch (put the access token into `admin`)",
        "source crm: active, 0 things to fetch",
        "hubspot: 2 contacts were NOT erased: `storecue privacy list` says why (since 2026-11-18T11:06:40.000Z)",
        "dead letters: 2 delivery, not_json",
        "no segment is being refilled",
    ]


def test_the_bars_stay_until_the_last_refill_is_done(monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(progress.time, "sleep", lambda _seconds: None)
    looks = iter([status(("vip", 10, 100), ("", 0, 100)), status(("", 50, 100)), status()])
    progress.refills(lambda: next(looks), stay=True)
    shown = capsys.readouterr().out
    assert "vip" in shown
    assert "desired states" in shown
    assert "100/100" in shown
    assert next(looks, None) is None, "it looked until nothing was left"


def test_one_look_without_staying(capsys) -> None:  # type: ignore[no-untyped-def]
    progress.refills(lambda: status(("vip", 10, 100)), stay=False)
    assert "10/100" in capsys.readouterr().out


def test_a_log_that_cannot_be_asked_says_why() -> None:
    told = status() | {
        "log": {"name": "topic t of b:9092", "partitions": 0, "message": "no broker answers: see that it runs"},
        "lag": None,
        "oldest_waiting_at": None,
        "partitions": [],
    }
    assert progress.lines(told).splitlines()[:2] == [
        "log: topic t of b:9092, 0 partitions (no broker answers: see that it runs)",
        "deliveries waiting: not known",
    ]
