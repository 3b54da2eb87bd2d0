"""Mailchimp's batches: many operations in one call, done there in no order, their results in a gzipped tar."""

import re
import threading
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Any, NamedTuple
from urllib.parse import quote

import orjson

from adapters.archive import json_files
from adapters.destination import Clock
from adapters.errors import DeliveryError, Rejected, Transient
from adapters.http import Answer, Http, parse
from adapters.shape import count, records, word

BATCH = 1_000
"""Operations in one batch: what the vendor's guides use; no limit is published."""

_FEW = 500
_LOOKS_AT_FEW = (0.5, 1.5, 4.0, 10.0, 18.0, 26.0)
_LOOKS = (2.0, 8.0, 20.0, 30.0)
_LOOKS_AGAIN = (0.0, 20.0, 40.0)
"""Seconds before each look at a batch, a minute in all. Each look is a call: a full batch is looked at less often."""

_LONGEST = 900.0  # seconds: then a batch is not waited for any more
BATCHES = 4
"""Batches that write, under way at a time."""

_NOTES = ("batch", *(f"batch {number}" for number in range(2, BATCHES + 1)))
_GATEWAYS = (502, 504, 524)  # nobody knows whether the batch was started
_SKEW = 60.0  # seconds by which the vendor's clock may be behind ours

# Where the results of a batch may lie, up to the slash that ends the host.
_RESULT_PLACE = re.compile(
    r"https://([a-z0-9-]+\.)*(mailchimp\.com|mailchimp[a-z0-9.-]*\.s3[a-z0-9.-]*\.amazonaws\.com)/"
)

Operation = Mapping[str, Any]
"""`method`, `path` below /3.0, `params` and `body` (a JSON text)."""
Batch = Mapping[str, Any]
"""A batch as Mailchimp shows it."""


class Job(NamedTuple):
    """A batch that writes. id: "" until its start was answered; stage: what it does, `members` or `tags`; until: epoch
    seconds; members: a digest of each by key, in the order of its operations; emails: digests of their addresses; note:
    the name it is noted under."""

    id: str
    stage: str
    until: float
    members: Mapping[str, str]
    emails: Sequence[str] = ()
    note: str = _NOTES[0]


class Batches:
    """The batches of one account. Two operations on a member belong into two: nobody knows which comes first."""

    def __init__(self, http: Http, clock: Clock, insecure: bool, notes: MutableMapping[str, str]) -> None:
        self._http = http
        self._clock = clock
        self._insecure = insecure
        self._notes = notes
        self._under_way: dict[str, Job] | None = None
        self._lock = threading.Lock()

    def begin(
        self, stage: str, members: Mapping[str, str], emails: Iterable[str], operations: Sequence[Operation]
    ) -> Job:
        """A batch that writes, noted so that a later call or process can wait for it. The note is made before, because
        a start that nobody answered may have been one. Raises Transient (`job_pending`) when as many are under way as
        there may be."""
        with self._lock:
            known = {job.note for job in self.noted()}
            free = next((name for name in _NOTES if name not in known), None)
            if free is None:
                raise pending()
            job = Job("", stage, self._clock.time() + _LONGEST, members, [_digest(email) for email in emails], free)
            self._note(job)
        try:
            job = job._replace(id=self.start(operations))
        except DeliveryError as error:
            if error.reason != "no_answer":
                self.strike(job)
            raise
        self._note(job)
        return job

    def noted(self) -> list[Job]:
        """The batches that were begun and may be under way."""
        if self._under_way is None:
            kept = [Job(**{**orjson.loads(note), "note": name}) for name, note in self._notes.items() if name in _NOTES]
            self._under_way = {job.note: job for job in kept}
        return [job for job in list(self._under_way.values()) if self._clock.time() < job.until]

    def strike(self, job: Job) -> None:
        """A batch that was noted has ended, or nobody knows of it."""
        if self._under_way:
            self._under_way.pop(job.note, None)
        self._notes.pop(job.note, None)

    def concern(self, job: Job, key: str, emails: Iterable[str | None]) -> bool:
        """Whether a batch is about this contact, by its key or one of its addresses."""
        return key in job.members or any(email and _digest(email) in job.emails for email in emails)

    def outlast(self, job: Job) -> None:
        """Returns when a noted batch has ended; raises Transient (`job_pending`) when that takes too long, Rejected
        when there is no such batch."""
        if job.id:
            self.ended(job.id, len(job.members), again=True)
            return
        # Whatever was started since then, by whomever, may be the one whose start was not answered.
        query = {"count": 1000, "fields": "batches.id,batches.status,batches.submitted_at"}
        known = {other.id for other in self.noted()}
        for batch in records(self._http.call("GET", "/3.0/batches", query=query).data, "batches"):
            if (
                word(batch, "id") not in known
                and batch.get("status") != "finished"
                and _started(batch) >= job.until - _LONGEST - _SKEW
            ):
                self.ended(word(batch, "id"), 0, again=True)

    def start(self, operations: Sequence[Operation]) -> str:
        """The id of a batch of these operations, each known by its position."""
        numbered = [{**operation, "operation_id": str(index)} for index, operation in enumerate(operations)]
        body = {"operations": numbered}
        try:
            answer = self._http.call("POST", "/3.0/batches", body=body, expect=_GATEWAYS, repeatable=False)
        except Rejected as error:
            if error.reason != "unknown_result":
                raise
            raise Transient(error.message, reason="no_answer", retry_after=5.0) from None
        if answer.status in _GATEWAYS:
            raise Transient(f"{answer.status}: the gateway gave up waiting", reason="no_answer", retry_after=30.0)
        return str(answer.at("id"))

    def ended(self, batch_id: str, size: int, *, again: bool = False, once: bool = False) -> Batch:
        """The batch once it has ended. Raises Transient (`job_pending`) when that takes more than a minute, Rejected
        when there is no such batch. again: it was waited for before; once: one look is enough."""
        for wait in (0.0,) if once else _LOOKS_AGAIN if again else _LOOKS if size > _FEW else _LOOKS_AT_FEW:
            self._clock.sleep(wait)
            batch: Batch = self._http.call("GET", self._path(batch_id)).data
            if batch.get("status") == "finished":
                return batch
        raise pending()

    def answers(self, batch: Batch, size: int) -> dict[int, Answer]:
        """The answers to the operations of a batch that has ended, by position; some may be missing."""
        place = word(batch, "response_body_url")
        if not place and not count(batch, "errored_operations"):
            return {position: Answer(200, {}, b"", {}) for position in range(size)}
        try:
            files = self._unpacked(place)
        except Transient as error:
            if error.reason == "unreadable_answer":
                raise
            # An address of results is good for ten minutes; asking for the batch again gives another.
            files = self._unpacked(
                word(self._http.call("GET", self._path(word(batch, "id"))).data, "response_body_url")
            )
        found = (result for file in files for result in records([file], 0))
        return {int(word(r, "operation_id")): _answer(r) for r in found if word(r, "operation_id").isdigit()}

    def _note(self, job: Job) -> None:
        self.noted()
        told = {name: value for name, value in job._asdict().items() if name != "note"}
        if self._under_way is not None:
            self._under_way[job.note] = job
        self._notes[job.note] = orjson.dumps(told).decode()

    def _path(self, batch_id: str) -> str:
        return f"/3.0/batches/{quote(batch_id, safe='')}"

    def _unpacked(self, place: str) -> list[Any]:
        """The files of an archive of results, from where Mailchimp says it lies."""
        ours = place.startswith(f"{self._http.address}/") or _RESULT_PLACE.match(place)
        if not ours and not self._insecure:
            message = f"the batch's results lie at {place[:60]}, which is not Mailchimp's"
            raise Transient(message, reason="unreadable_answer", retry_after=300.0)
        try:
            return json_files(self._http.fetch(place))
        except ValueError as error:
            message = f"the batch's results cannot be read: {error}"
            raise Transient(message, reason="unreadable_answer", retry_after=30.0) from None


def pending() -> Transient:
    """The error that a batch under way means for those who wait for it."""
    return Transient("Mailchimp has not finished the batch", reason="job_pending", retry_after=30.0)


def _digest(email: str) -> str:
    return blake2b(email.lower().encode(errors="replace"), digest_size=8).hexdigest()


def _started(batch: Batch) -> float:
    try:
        return datetime.fromisoformat(word(batch, "submitted_at")).timestamp()
    except ValueError:
        return float("inf")


def _answer(result: Mapping[str, Any]) -> Answer:
    raw = word(result, "response").encode()
    return Answer(count(result, "status_code"), {}, raw, parse(raw)[1])
