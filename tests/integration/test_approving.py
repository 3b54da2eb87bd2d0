"""What waits to be pushed, shown and approved: at the command line and through the API."""

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from sqlalchemy import event, insert

from connector.app import create_app
from connector.cli import main
from connector.config.settings import Settings
from connector.jobs import Jobs
from connector.storage.tables import sync_state
from connector.sync.outlook import listed, outlook
from tests.conftest import CONFIG, NOON, order
from tests.integration.test_guard import PIN, people, pushed_shop, review, vips, waiting
from tests.integration.test_sync import Synced

TOKEN = {"Authorization": "Bearer a-token"}


@pytest.fixture
def synced(tmp_path: Path) -> Iterator[Synced]:
    synced = Synced(tmp_path)
    yield synced
    synced.close()


def storecue(synced: Synced, *arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(main, [*arguments, "--data", str(synced.shop.services.settings.data_dir)], input=answer)


class Api:
    """The API over the shop's data."""

    def __init__(self, synced: Synced) -> None:
        folder = synced.shop.services.settings.data_dir
        settings = Settings.from_environment({"STORECUE_API_TOKEN": "a-token"}, data_dir=folder)
        self.client = create_app(settings, now=lambda: synced.shop.time).test_client()

    def get(self, path: str, expect: int = 200) -> Any:
        answer = self.client.get(f"/api/v1{path}", headers=TOKEN)
        assert answer.status_code == expect, answer.text
        return answer.json

    def post(self, path: str, body: Any, expect: int = 200) -> Any:
        answer = self.client.post(f"/api/v1{path}", json=body, headers=TOKEN)
        assert answer.status_code == expect, answer.text
        return answer.json


def held_shop(synced: Synced) -> None:
    """12 contacts there, 10 of which another rule would change."""
    pushed_shop(synced, 12, big=2)
    synced.configure("klaviyo", rules=PIN)
    synced.push()


def test_the_plan_is_told_in_numbers_and_by_profile(synced: Synced) -> None:
    held_shop(synced)
    synced.shop.work()
    people(synced, 1, first=13)
    result = storecue(synced, "destination", "plan", "klaviyo")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[:7] == [
        "klaviyo: 11 contacts to push, 0 cues wait for theirs",
        "  new: 1",
        "  changed: 10",
        "  tag recent-buyers: 1 added, 0 removed",
        "  tag vip: 11 added, 0 removed",
        "  field orders_count: 1",
        "  field total_spent: 1",
    ]
    assert (
        "  held: 10 (10 contacts change (83 % of 12); held until you run `storecue destination approve klaviyo`"
        in result.stdout
    )
    assert result.stdout.count(": changed, held: +vip\n") == 10
    assert "  profile 13: new: +recent-buyers +vip orders_count=1 total_spent=20\n" in result.stdout
    assert "@" not in result.stdout
    assert synced.writes("klaviyo") == 12, "nothing was sent"


def test_twenty_are_shown_and_all_of_them_on_request(synced: Synced) -> None:
    people(synced, 25)
    synced.configure("klaviyo")
    few, everybody = (storecue(synced, "destination", "plan", "klaviyo", *flags) for flags in ([], ["--all"]))
    assert few.stdout.count("  profile ") == 20
    assert few.stdout.endswith("and 5 more: --all shows them\n")
    assert everybody.stdout.count("  profile ") == 25
    told = json.loads(storecue(synced, "destination", "plan", "klaviyo", "--all", "--json").stdout)
    assert [one["profile_id"] for one in told["items"]] == list(range(1, 26))
    assert (told["contacts"], told["new"], told["held"]["changes"]) == (25, 25, 25)
    assert told["tags"] == {"recent-buyers": {"added": 25, "removed": 0}}


def test_addresses_are_counted_and_never_shown(synced: Synced) -> None:
    rules = CONFIG.replace("fields:\n", "fields:\n  mail: {from: traits.email}\n")
    synced.configure("klaviyo", rules=rules)
    people(synced, 2)
    synced.push()
    stamp = {"created_at": "2026-11-01T10:00:00Z", "updated_at": "2026-11-18T12:00:00Z"}
    synced.deliver({"id": 601, "email": "moved@example.com", "first_name": "Ada", **stamp}, topic="customers/update")
    result = storecue(synced, "destination", "plan", "klaviyo")
    assert "  moved to another address: 1\n" in result.stdout
    assert 'mail="(address)"' in result.stdout
    assert "@" not in result.stdout
    assert "@" not in json.dumps(Api(synced).get("/destinations/klaviyo/plan"))


def test_who_may_not_be_made_is_told_apart(synced: Synced) -> None:
    people(synced, 3)
    synced.configure("klaviyo", create_contacts="never")
    assert (
        "  only if they are there (create_contacts): 3\n" in storecue(synced, "destination", "plan", "klaviyo").stdout
    )


def test_the_plan_is_read_in_the_order_of_the_table(synced: Synced) -> None:
    """A sort would hold everything in memory."""
    people(synced, 3)
    synced.configure("klaviyo")
    said: list[tuple[str, Any]] = []
    engine = synced.shop.services.database.engine

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        said.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    with synced.shop.services.database.read() as connection:
        assert len(list(listed(connection, "klaviyo"))) == 3
    event.remove(engine, "before_cursor_execute", note)
    [(statement, parameters)] = [one for one in said if "ORDER BY" in one[0]]
    with engine.connect() as connection:
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
    assert plan[0] == "SEARCH sync_state USING PRIMARY KEY (destination=?)"
    assert not any("TEMP B-TREE" in step for step in plan)


def test_the_plan_of_many_is_never_in_memory_as_a_whole(synced: Synced) -> None:
    synced.configure("klaviyo")
    database, shown = synced.shop.services.database, {"tags": ["vip"], "fields": {"note": "x" * 2_500}, "create": True}
    with database.tx() as tx:
        rows = [
            {
                "profile_id": number,
                "desired": json.dumps(shown | {"email": f"p{number}@example.com", "subscribed": None}),
            }
            for number in range(1, 2_001)
        ]
        same = {"destination": "klaviyo", "pending": 1, "due_at": NOON, "changed_at": NOON}
        tx.execute(insert(sync_state), [row | same for row in rows])
    with database.read() as connection:
        outlook(connection, "klaviyo")  # the first time fills caches
        tracemalloc.start()
        found = outlook(connection, "klaviyo")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert (found.contacts, found.fields["note"], found.tags_added["vip"]) == (2_000, 2_000, 2_000)
    assert peak < 3_000_000, "all of it would be 6 MB and more"


@pytest.mark.parametrize(("answer", "code", "pushed"), [("y\n", 0, 12), ("n\n", 1, 2), ("\n", 1, 2)])
def test_approve_asks(synced: Synced, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, pushed: int) -> None:
    held_shop(synced)
    monkeypatch.setattr("connector.cli.approving._somebody_is_there", lambda: True)
    result = storecue(synced, "destination", "approve", "klaviyo", answer=answer)
    assert result.exit_code == code, result.output
    assert result.stdout.startswith("klaviyo: 10 contacts change (83 % of 12)\nPush 10 changes to klaviyo? [y/N]")
    synced.push()
    assert vips(synced) == pushed


def test_approve_refuses_where_nobody_can_be_asked(synced: Synced) -> None:
    held_shop(synced)
    result = storecue(synced, "destination", "approve", "klaviyo")
    assert result.exit_code == 2
    assert result.stderr == "storecue: nobody can be asked here: look at the numbers, then say --yes\n"
    assert review(synced).hold is not None
    result = storecue(synced, "destination", "approve", "klaviyo", "--yes")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "10 changes are pushed to klaviyo now.")
    assert synced.push() == 10
    assert storecue(synced, "destination", "approve", "klaviyo", "--yes").stdout == "Nothing is held at klaviyo.\n"


def test_approve_waits_for_the_count(synced: Synced, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed_shop(synced, 12)
    monkeypatch.setattr(Jobs, "step", lambda *_: False)
    synced.configure("klaviyo", rules=PIN)
    result = storecue(synced, "destination", "approve", "klaviyo", "--yes")
    assert result.exit_code == 2
    assert "the refill is at 0 %; try again when it is done" in result.stderr
    assert Api(synced).post("/destinations/klaviyo/approve", {"changes": 1}, expect=409)["reason"] == "conflict"


def test_status_tells_what_is_held(synced: Synced) -> None:
    held_shop(synced)
    told = storecue(synced, "status").stdout
    assert "klaviyo: held, 10 contacts to push (10 contacts change (83 % of 12); held until you run" in told
    api = Api(synced)
    row = api.get("/destinations/klaviyo")
    assert row["state"] == "held"
    assert (row["held"]["changes"], row["held"]["contacts"], row["held"]["accepted"]) == (10, 10, 12)
    assert 'storecue_destination_held{destination="klaviyo"} 10.0' in api.client.get("/metrics", headers=TOKEN).text
    assert 'storecue_destination_active{destination="klaviyo"} 1.0' in api.client.get("/metrics", headers=TOKEN).text


def test_nobody_approves_what_they_have_not_seen(synced: Synced) -> None:
    held_shop(synced)
    api = Api(synced)
    plan = api.get("/destinations/klaviyo/plan?contacts=2")
    assert [(one["kind"], one["held"], one["tags_added"]) for one in plan["items"]] == [("changed", True, ["vip"])] * 2
    assert plan["held"]["changes"] == 10
    refused = api.post("/destinations/klaviyo/approve", {"changes": 9}, expect=409)
    assert refused["detail"].startswith("10 changes are held, not 9")
    synced.configure("klaviyo", rules=PIN.replace("within: 7d", "within: 1h"))
    assert api.post("/destinations/klaviyo/approve", {}, expect=422)
    synced.shop.at(NOON + 1)
    row = api.post("/destinations/klaviyo/approve", {"changes": review(synced).hold.changes})  # type: ignore[union-attr]
    assert (row["state"], row["held"]) == ("active", None)
    assert synced.push() >= 10
    assert api.post("/destinations/klaviyo/approve", {"changes": 10}, expect=409)["detail"] == "nothing is held"
    assert api.post("/destinations/none/approve", {"changes": 1}, expect=404)
    assert api.get("/destinations/none/plan", expect=404)


def test_own_news_does_not_spoil_the_number_that_was_seen(synced: Synced) -> None:
    held_shop(synced)
    synced.deliver(order(3001, customer=603, email="person3@example.com", total="1.00"))
    synced.push()
    row = Api(synced).get("/destinations/klaviyo")
    assert (row["held"]["changes"], row["held"]["contacts"]) == (10, 9)
    Api(synced).post("/destinations/klaviyo/approve", {"changes": 10})
    assert synced.push() == 9


def test_apply_says_what_will_be_held_and_yes_approves_it(synced: Synced, tmp_path: Path) -> None:
    people(synced, 12)
    file = tmp_path / "storecue.yaml"
    account = {
        "kind": "klaviyo",
        "credentials": {"api_key": "pk_test"},
        "base_url": synced.klaviyo.url,
        "allow_insecure": True,
    }
    file.write_text(CONFIG + yaml.safe_dump({"destinations": {"klaviyo": account}}))
    result = storecue(synced, "apply", "--config", str(file))
    assert "Held until you run `storecue destination approve klaviyo`: a first push of 12 contacts" in result.stdout
    synced.shop.worker.refresh(force=True)
    synced.shop.work()
    assert synced.push() == 0
    file.write_text(PIN + yaml.safe_dump({"destinations": {"klaviyo": account}}))
    result = storecue(synced, "apply", "--config", str(file), "--yes")
    assert "Held" not in result.stdout
    synced.shop.worker.refresh(force=True)
    synced.shop.work()
    assert synced.push() == 12
    assert waiting(synced) == 0


def test_an_empty_shop_hears_nothing_of_it(synced: Synced, tmp_path: Path) -> None:
    file = tmp_path / "storecue.yaml"
    file.write_text(CONFIG + "destinations: {klaviyo: {kind: klaviyo, credentials: {api_key: pk_test}}}\n")
    assert "Held" not in storecue(synced, "apply", "--config", str(file)).stdout
