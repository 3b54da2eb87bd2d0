"""Every destination against its recordings: a call on the adapter, the requests it must make, what must come of it.

A recording is a JSON file in tests/recorded/destinations/<kind>/:

    about      one sentence
    settings   list_id, options, jobs (what the process before had noted)
    call       a method of Destination with its arguments
    exchanges  requests expected, each with its response; a request without response loses its connection, one with
               response "silence" times out; an `archive` in place of a body is sent as a gzipped tar, from a storage
               service that must not see the headers. Their order is free: calls may run side by side.
    outcomes | held | result | raises      what the call gives

account.json beside them has the `credentials` of all, and the `headers` that every request must carry.

Inside any list, {"$each": [first, last], "of": item} stands for one item per number, with {n} in its strings replaced;
{md5:text} becomes the MD5 of the text, as Mailchimp's paths want it; {repeat:x:80000} that many x.
"""

import importlib.util
import io
import json
import os
import re
import sys
import tarfile
from dataclasses import asdict
from hashlib import md5
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
import requests
import responses

from adapters import DESTINATIONS
from adapters.destination import Account, Change, Cue, FieldSpec, Membership, Settings, Wanted
from adapters.errors import DeliveryError

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests/recorded/destinations"
RECORDINGS = sorted(path for path in FOLDER.glob("*/*.json") if path.stem != "account")
ACCOUNTS = {path.parent.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*/account.json"))}
KINDS = {"apply": Change, "send": Cue, "update_list": Membership, "provision": FieldSpec, "read": Wanted}


class FakeClock:
    """A clock that only sleeping moves."""

    def __init__(self, at: float) -> None:
        self.at = at

    def time(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds


def expanded(value: Any) -> Any:
    if isinstance(value, str):
        value = re.sub(r"\{repeat:(.):(\d+)\}", lambda match: match[1] * int(match[2]), value)
        return re.sub(r"\{md5:([^}]+)\}", lambda match: md5(match[1].encode()).hexdigest(), value)
    if isinstance(value, dict):
        return {expanded(name): expanded(item) for name, item in value.items()}
    if not isinstance(value, list):
        return value
    items = []
    for item in value:
        if isinstance(item, dict) and "$each" in item:
            first, last = item["$each"]
            text = json.dumps(item["of"])
            items += [expanded(json.loads(text.replace("{n}", str(n)))) for n in range(first, last + 1)]
        else:
            items.append(expanded(item))
    return items


def published_contract() -> ModuleType | None:
    """The checker of the vendors' published documents, where the folder with them is at hand."""
    folder = Path(os.environ.get("STORECUE_SHARED", ROOT.parent / "shared")) / "specs"
    if not (folder / "contract.py").exists():
        return None
    spec = importlib.util.spec_from_file_location("published_contract", folder / "contract.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CONTRACT = published_contract()
NOT_AT_HAND = {("klaviyo", "GET", "/api/profile-bulk-import-jobs")}
"""Published by the vendor (the one here on 2026-04-15), but not among the documents in that folder."""


def departures(kind: str, method: str, path: str, query: dict[str, str], body: Any) -> list[str]:
    """Every way in which a request departs from the vendor's published document."""
    if CONTRACT is None or kind not in ("klaviyo", "mailchimp") or (kind, method, path) in NOT_AT_HAND:
        return []
    found = CONTRACT.problems(kind, method, path.removeprefix("/3.0") or "/", query, body)
    for operation in (body or {}).get("operations", ()) if isinstance(body, dict) else ():
        inner = json.loads(operation["body"]) if "body" in operation else None
        found += CONTRACT.problems(kind, operation["method"], operation["path"], operation.get("params", {}), inner)
    return list(found)


def built(call: dict[str, Any]) -> list[Any]:
    """The call's arguments, objects made into the dataclass that the method takes."""
    kind = KINDS.get(call["method"])

    def item(value: Any) -> Any:
        if kind is None or not isinstance(value, dict):
            return value
        return kind(**{name: tuple(v) if name.startswith("tags") else v for name, v in value.items()})

    return [[item(v) for v in a] if isinstance(a, list) else item(a) for a in call["arguments"]]


def archive(results: list[Any]) -> bytes:
    """A gzipped tar of one JSON file, as Mailchimp packs the results of a batch."""
    packed, content = io.BytesIO(), json.dumps(results).encode()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        entry = tarfile.TarInfo("./results.json")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


class Script:
    """The vendor: gives each expected request its answer once, and collects what was asked beyond that."""

    def __init__(self, kind: str, exchanges: list[dict[str, Any]]) -> None:
        self.kind = kind
        self.left = list(exchanges)
        self.surprises: list[Any] = []

    def answer(self, request: Any) -> tuple[int, dict[str, str], bytes]:
        parts = urlsplit(request.url)
        asked = {
            "method": request.method,
            "path": unquote(parts.path),
            "query": dict(parse_qsl(parts.query)),
            "body": json.loads(request.body) if request.body else None,
        }
        account = ACCOUNTS[self.kind]
        assert not any(secret in request.url for secret in account["credentials"].values())
        elsewhere = (parts.hostname or "").endswith(".amazonaws.com")
        for name, value in account["headers"].items():
            assert request.headers.get(name) == (None if elsewhere else value)
        if not elsewhere:
            self.surprises += departures(self.kind, asked["method"], parts.path, asked["query"], asked["body"])
        for exchange in self.left:
            expected = {"query": {}, "body": None, **exchange["request"]}
            if expected == asked:
                self.left.remove(exchange)
                return self.played(exchange.get("response"))
        self.surprises.append(asked)
        return 418, {}, b'{"message": "no such request in the recording"}'

    def played(self, response: Any) -> tuple[int, dict[str, str], bytes]:
        if response is None:
            raise requests.ConnectionError("Connection aborted.")
        if response == "silence":
            raise requests.ReadTimeout("Read timed out.")
        if "archive" in response:
            return response["status"], {}, archive(response["archive"])
        body = response.get("body")
        raw = body.encode() if isinstance(body, str) else b"" if body is None else json.dumps(body).encode()
        return response["status"], response.get("headers", {}), raw


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_recording(path: Path) -> None:
    recording = expanded(json.loads(path.read_text()))
    assert len(recording.keys() & {"outcomes", "held", "result", "raises"}) == 1, "it says not what the call gives"
    kind = path.parent.name
    settings = recording.get("settings", {})
    credentials = ACCOUNTS[kind]["credentials"]
    clock = FakeClock(1_763_719_200.0)
    destination = DESTINATIONS[kind](Settings(credentials=credentials, **settings), clock)
    script = Script(kind, recording["exchanges"])
    raised = result = None
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            mock.add_callback(method, re.compile(r"https://.*"), callback=script.answer)
        try:
            result = getattr(destination, recording["call"]["method"])(*built(recording["call"]))
        except DeliveryError as error:
            raised = error
        finally:
            destination.close()

    assert script.surprises == []
    assert script.left == []
    if "raises" in recording:
        assert raised is not None, f"gave {result}"
        expected = recording["raises"]
        assert {"error": type(raised).__name__, "reason": raised.reason} == {
            "error": expected["error"],
            "reason": expected["reason"],
        }
        if "retry_after" in expected:
            assert raised.retry_after == pytest.approx(expected["retry_after"])  # type: ignore[attr-defined]
        if "says" in expected:
            assert expected["says"] in str(raised)
        assert not any(secret in repr(raised) for secret in credentials.values())
    else:
        assert raised is None, repr(raised)
    if "result" in recording:
        if isinstance(result, Account):
            told = asdict(result) | {"notes": list(result.notes)}
            assert told == {"notes": [], **recording["result"]}
        else:
            assert result == recording["result"]
    if "held" in recording:
        told = {held.key: json.loads(json.dumps(asdict(held))) for held in result}
        absent = {"remote_id": None, "email": "", "tags": [], "fields": {}, "consent": None}
        absent |= {"first_name": None, "last_name": None}
        assert told == {held["key"]: {**absent, **held} for held in recording["held"]}
    if "outcomes" in recording:
        assert result is not None
        told = {outcome.key: asdict(outcome) for outcome in result}
        assert len(told) == len(result)
        assert told.keys() == {outcome["key"] for outcome in recording["outcomes"]}
        for outcome in recording["outcomes"]:
            defaults = {"reason": "", "field": None, "remote_id": None}
            for name, value in {**defaults, **outcome}.items():
                if name == "says":
                    assert value in told[outcome["key"]]["message"]
                else:
                    assert told[outcome["key"]][name] == value, name


def test_every_vendor_has_an_account_and_recordings() -> None:
    assert ACCOUNTS.keys() == {kind for kind in DESTINATIONS if kind != "console"}
    assert {path.parent.name for path in RECORDINGS} == {kind for kind in DESTINATIONS if kind != "console"}


@pytest.mark.parametrize(
    "method", ["check_login", "apply", "send", "provision", "ensure_list", "update_list", "read", "unite", "forget"]
)
def test_every_method_of_the_port_is_recorded(method: str) -> None:
    recorded = {path.parent.name for path in RECORDINGS if json.loads(path.read_text())["call"]["method"] == method}
    assert recorded == set(ACCOUNTS)
