"""The lists of a fake HubSpot account: made, found by name, and filled by record id."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

from connector.simulator.vendors.account import Route, route
from connector.simulator.vendors.hubspot_portal import iso
from connector.simulator.vendors.schemas.hubspot import REQUESTS
from connector.simulator.vendors.server import Request, Response


class Refuse(Protocol):
    """Answers with HubSpot's error body."""

    def __call__(self, status: int, message: str, **more: Any) -> NoReturn: ...


@dataclass
class StoredList:
    id: str
    name: str
    processing_type: str
    members: set[str] = field(default_factory=set)


class Lists:
    """Lists of one account. `people`: the record ids there are; `numbers`: where the next id comes from."""

    def __init__(
        self, people: Collection[str], numbers: Iterator[int], now: Callable[[], float], refuse: Refuse
    ) -> None:
        self._people = people
        self._numbers = numbers
        self._now = now
        self._refuse = refuse
        self._lists: dict[str, StoredList] = {}

    def routes(self, lists: str) -> Sequence[Route]:
        """What is answered below this path."""
        return (
            route("POST", lists, self._create_list, REQUESTS["list"]),
            route("POST", f"{lists}/search", self._search_lists, REQUESTS["list_search"]),
            route("GET", f"{lists}/object-type-id/0-1/name/{{name}}", self._read_list_by_name),
            route("GET", f"{lists}/{{id}}", self._read_list),
            route("GET", f"{lists}/{{id}}/memberships", self._read_memberships),
            route("PUT", f"{lists}/{{id}}/memberships/add-and-remove", self._move, REQUESTS["add_and_remove"]),
            route("PUT", f"{lists}/{{id}}/memberships/add", self._add, REQUESTS["record_ids"]),
            route("PUT", f"{lists}/{{id}}/memberships/remove", self._remove, REQUESTS["record_ids"]),
        )

    def of(self, record: str) -> list[str]:
        """The names of the lists that hold a contact."""
        return sorted(held.name for held in self._lists.values() if record in held.members)

    def drop(self, record: str) -> None:
        for held in self._lists.values():
            held.members.discard(record)

    def _create_list(self, request: Request, _: Mapping[str, str]) -> Response:
        body = request.json
        if any(held.name == body["name"] for held in self._lists.values()):
            self._refuse(400, f"A list named {body['name']} already exists.", subCategory="ILS.DUPLICATE_LIST_NAMES")
        held = StoredList(str(next(self._numbers)), body["name"], body["processingType"])
        self._lists[held.id] = held
        return Response(200, {"list": self._shown_list(held)})

    def _shown_list(self, held: StoredList) -> dict[str, Any]:
        return {
            "listId": held.id,
            "name": held.name,
            "objectTypeId": "0-1",
            "processingType": held.processing_type,
            "processingStatus": "COMPLETE",
            "listVersion": 1,
            "additionalProperties": {"hs_list_size": str(len(held.members))},
        }

    def _read_list(self, _: Request, parts: Mapping[str, str]) -> Response:
        return Response(200, {"list": self._shown_list(self._known_list(parts["id"]))})

    def _read_list_by_name(self, _: Request, parts: Mapping[str, str]) -> Response:
        held = next((held for held in self._lists.values() if held.name == parts["name"]), None)
        if held is None:
            self._refuse(404, f"List does not exist with name {parts['name']}.", subCategory="ILS.LIST_NOT_FOUND")
        return Response(200, {"list": self._shown_list(held)})

    def _search_lists(self, request: Request, _: Mapping[str, str]) -> Response:
        body = request.json
        query, wanted = body.get("query", "").lower(), body.get("listIds")
        found = [
            held
            for held in self._lists.values()
            if query in held.name.lower() and (wanted is None or held.id in wanted)
        ]
        start, size = body.get("offset", 0), body.get("count", 20)
        page = found[start : start + size]
        answer = {
            "lists": [self._shown_list(held) for held in page],
            "total": len(found),
            "offset": start + len(page),
            "hasMore": start + len(page) < len(found),
        }
        return Response(200, answer)

    def _known_list(self, id_: str) -> StoredList:
        if id_ not in self._lists:
            self._refuse(404, f"List does not exist with ID {id_}.", subCategory="ILS.LIST_NOT_FOUND")
        return self._lists[id_]

    def _read_memberships(self, _: Request, parts: Mapping[str, str]) -> Response:
        members = sorted(self._known_list(parts["id"]).members, key=int)
        now = iso(self._now())
        return Response(200, {"results": [{"recordId": id_, "membershipTimestamp": now} for id_ in members]})

    def _move(self, request: Request, parts: Mapping[str, str]) -> Response:
        return self._moved(parts["id"], request.json["recordIdsToAdd"], request.json["recordIdsToRemove"])

    def _add(self, request: Request, parts: Mapping[str, str]) -> Response:
        return self._moved(parts["id"], request.json, [])

    def _remove(self, request: Request, parts: Mapping[str, str]) -> Response:
        return self._moved(parts["id"], [], request.json)

    def _moved(self, list_id: str, to_add: list[str], to_remove: list[str]) -> Response:
        held = self._known_list(list_id)
        if held.processing_type == "DYNAMIC":
            self._refuse(400, "Memberships of a DYNAMIC list cannot be changed.")
        known = [id_ for id_ in to_add if id_ in self._people]
        removed = [id_ for id_ in to_remove if id_ in held.members]
        held.members.difference_update(removed)
        held.members.update(known)
        answer = {
            "recordsIdsAdded": known,  # sic: the vendor's spelling differs from recordIdsMissing
            "recordIdsRemoved": removed,
            "recordIdsMissing": [id_ for id_ in [*to_add, *to_remove] if id_ not in self._people],
        }
        return Response(200, answer)
