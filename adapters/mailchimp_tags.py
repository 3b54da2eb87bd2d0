"""Mailchimp's tags, which are static segments under another name: their ids, and many members of one tag in a call."""

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any
from urllib.parse import quote

from adapters.destination import Change, Fit
from adapters.errors import DeliveryError, Rejected, setting_up
from adapters.http import Http
from adapters.outcomes import chunked
from adapters.shape import count, entries, records, word

SEGMENT = 500
"""Members to add, and as many to remove, in one call."""


class Tags:
    """The tags of one audience."""

    def __init__(self, http: Http, path: str) -> None:
        self._http = http
        self._path = f"{path}/segments"
        self._ids: dict[str, str] | None = None

    def missing(self, names: Sequence[str]) -> list[str]:
        """Those that the audience does not have, asked anew."""
        self._ids = None
        return [name for name in names if name.lower() not in self._known()]

    def foresee(self, names: Sequence[str]) -> list[Fit]:
        """What would become of these tags."""
        missing = set(self.missing(names))
        return [Fit(name, "created" if name in missing else "exists", "tag") for name in names]

    @setting_up()
    def id_of(self, name: str) -> str:
        """The id of a tag, made when it is missing."""
        if name.lower() in self._known():
            return self._known()[name.lower()]
        body = {"name": name, "static_segment": []}
        try:
            answer = self._http.call("POST", self._path, body=body, repeatable=False)
        except DeliveryError as error:
            self._ids = None  # it may exist after all: the next try looks first
            if isinstance(error, Rejected) and error.reason != "unknown_result" and name.lower() in self._known():
                return self._known()[name.lower()]  # a member was tagged with it by name since we looked
            raise
        self._known()[name.lower()] = str(answer.at("id"))
        return self._known()[name.lower()]

    def exists(self, id_: str) -> bool:
        path = f"{self._path}/{quote(id_, safe='')}"
        return self._http.call("GET", path, query={"fields": "id"}, expect=(404,)).status != 404

    def change(self, tag_id: str, add: Sequence[str], remove: Sequence[str]) -> dict[str, str]:
        """Why not, by lower-case address, for those that Mailchimp would not add or remove. At most SEGMENT of each."""
        body = {"members_to_add": list(add), "members_to_remove": list(remove)}
        answer = self._http.call("POST", f"{self._path}/{quote(tag_id, safe='')}", body=body)
        return {
            str(email).lower(): word(error, "error")[:500]
            for error in records(answer.data, "errors")
            for email in entries(error, "email_addresses")
        }

    def bring(self, changes: Sequence[Change]) -> set[str]:
        """Brings the tags of members to their difference, a tag at a time; the addresses, in lower case, of those whom
        Mailchimp would not have in this way. It does not tell of addresses that are not on the list."""
        refused: set[str] = set()
        for tag, (added, removed) in _by_tag(changes).items():
            if not added and tag.lower() not in self._known():
                continue  # nobody has a tag that does not exist
            tag_id = self.id_of(tag)
            for add, remove in _pieces(added, removed):
                try:
                    refused |= self.change(tag_id, add, remove).keys()
                except Rejected as error:
                    if error.reason == "not_found":
                        self._ids = None  # somebody deleted the tag: written by name it is made again
                    refused |= {email.lower() for email in (*add, *remove)}
        return refused

    def _known(self) -> dict[str, str]:
        """Ids by name in lower case: Mailchimp knows no two that differ in case only."""
        if self._ids is None:
            found: list[dict[str, Any]] = []
            total = 1
            while len(found) < total:
                query: dict[str, object] = {"count": 1000, "offset": len(found), "type": "static"}
                query["fields"] = "segments.id,segments.name,total_items"
                page = self._http.call("GET", self._path, query=query).data
                found += records(page, "segments")
                total = count(page, "total_items") if records(page, "segments") else 0
            self._ids = {word(segment, "name").lower(): word(segment, "id") for segment in found}
        return self._ids


def calls_of(changes: Sequence[Change]) -> int:
    """How many calls `Tags.bring` makes."""
    return sum(len(list(_pieces(*both))) for both in _by_tag(changes).values())


def _by_tag(changes: Sequence[Change]) -> dict[str, tuple[list[str], list[str]]]:
    """The addresses to add to each tag and to remove from it."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    for change in changes:
        for place, tags in enumerate((change.tags_added, change.tags_removed)):
            for tag in tags:
                found.setdefault(tag, ([], []))[place].append(change.email)
    return dict(sorted(found.items()))


def _pieces(add: Sequence[str], remove: Sequence[str]) -> Iterable[tuple[Sequence[str], Sequence[str]]]:
    """Additions and removals in pairs of pieces, as many as one call takes of each."""
    return zip_longest(chunked(add, SEGMENT), chunked(remove, SEGMENT), fillvalue=())
