"""Klaviyo's import jobs: many profiles in one call, imported later; followed to their end, across restarts too."""

import threading
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qs, quote

import orjson

from adapters.destination import Change, Clock, Outcome
from adapters.errors import DeliveryError, Rejected, Transient
from adapters.http import Answer, Http, judge
from adapters.klaviyo_profiles import Item
from adapters.shape import count, dig, records, word

_PATH = "/api/profile-bulk-import-jobs"
_PROFILES, _BYTES = 10_000, 4_800_000
_POLLS = (0.5, 1.5, 4, 10, 18, 26)
"""Seconds before each look at a job: few, because they count as calls. A minute in all; then its profiles are to be
tried again, and the next call waits on."""

_ONCE = (0.0,)
_LOOK_ASIDE = 0.1  # seconds
_LONGEST_JOB = 900.0
_NO_ANSWER = (502, 504, 524)
"""A gateway that gave up: whether the job was started nobody knows."""

JOBS = 8
"""Import jobs under way at a time."""

_NOTES = ("import", *(f"import {number}" for number in range(2, JOBS + 1)))

T = TypeVar("T")


class _Person(NamedTuple):
    """One profile of a job, as it is noted: no address stands there, only its digest."""

    key: str
    email: str
    remote_id: str | None
    digest: str


class _Job(NamedTuple):
    """A job under way, and until when (epoch seconds) it is waited for. "" is the id of one whose start was not
    answered. note: the name it is noted under."""

    id: str
    until: float
    people: Sequence[_Person]
    note: str


class _Begun(NamedTuple):
    """A job that was begun, None when nobody was left for it, and the outcomes of those that were refused by name."""

    job: _Job | None
    refused: list[Outcome]


class Ended(NamedTuple):
    """What became of a job: outcomes, and the keys of those who have to answer for themselves."""

    outcomes: list[Outcome]
    again: set[str]


class Imports:
    """The import jobs of one account, several side by side and nobody in two of them. Those under way stand in `notes`
    before they are waited for: a later one, and a single call, about somebody in them would be undone if they ended
    last."""

    def __init__(self, http: Http, clock: Clock, pool: ThreadPoolExecutor, notes: MutableMapping[str, str]) -> None:
        self._http = http
        self._pool = pool
        self._clock = clock
        self._notes = notes
        self.told: dict[tuple[str, str], Outcome] = {}  # by key and digest: of jobs whose end nobody asked for yet
        self._under_way: dict[str, _Job] | None = None
        self._lock = threading.Lock()
        self.meanwhile: Callable[[], None] | None = None
        self.aside = False  # true while `meanwhile` runs: nothing is to be waited for then
        self.hushed = False  # true while some who are being applied are in no job yet: nobody may go past them

    def run(self, items: Sequence[Item]) -> Ended:
        """Imports these profiles and waits for it. Raises Rejected when the job is refused and nobody says for which
        profile, Transient when it does not end in time or nobody knows whether it has started."""
        begun = self._begun(items)
        job = begun.job
        if job is None:
            return Ended(begun.refused, set())
        ended = self._concluded(job, self._looked_at([job], _POLLS)[job.note])
        return Ended(begun.refused + ended.outcomes, ended.again)

    def run_all(self, pieces: Sequence[Sequence[Item]]) -> list[Ended | DeliveryError]:
        """What became of each of at most `room` pieces that are imported side by side: as `run` tells of one."""

        def begin(items: Sequence[Item]) -> _Begun | DeliveryError:
            try:
                return self._begun(items)
            except DeliveryError as error:
                return error

        begun = list(self._pool.map(begin, pieces))
        jobs = [one.job for one in begun if isinstance(one, _Begun) and one.job]
        counts = self._looked_at(jobs, _POLLS)

        def conclude(one: "_Begun | DeliveryError") -> Ended | DeliveryError:
            if isinstance(one, DeliveryError):
                return one
            try:
                ended = self._concluded(one.job, counts[one.job.note]) if one.job else Ended([], set())
            except DeliveryError as error:
                return error
            return Ended(one.refused + ended.outcomes, ended.again)

        return [conclude(one) for one in begun]

    def room(self) -> int:
        """How many more jobs may be begun."""
        return JOBS - len(self._known())

    def concern(self, changes: Iterable[Change]) -> set[str]:
        """The keys of those of these changes that are about somebody in a job under way."""
        people = [person for job in self._known().values() for person in job.people]
        keys, emails = {person.key for person in people}, {person.email for person in people}
        if not people:
            return set()
        return {
            c.key
            for c in changes
            if c.key in keys
            or _email_digest(c.email) in emails
            or (c.previous_email and _email_digest(c.previous_email) in emails)
        }

    def earlier(self, wanted: Mapping[str, str], *, look: bool) -> dict[str, Outcome]:
        """The outcomes, by key, of those whose digest is the one in a job that an earlier call, or an earlier process,
        has not seen the end of. look: at those under way, for a minute if need be. Each is told once, and none after
        something else was wanted."""
        jobs = list(self._known().values()) if look else []
        counts = self._looked_at([job for job in jobs if job.id], _POLLS if all(map(self._waits, jobs)) else _ONCE)
        for job in jobs:
            self.told |= self._ended(job, counts.get(job.note))
        found = {key: self.told[key, digest] for key, digest in wanted.items() if (key, digest) in self.told}
        self.told = {known: outcome for known, outcome in self.told.items() if known[0] not in wanted}
        return found

    def _ended(self, job: _Job, failed: int | DeliveryError | None) -> dict[tuple[str, str], Outcome]:
        """The outcomes, by key and digest, of a job that was under way; none while it still is."""
        digests = {person.key: person.digest for person in job.people}
        try:
            if job.id:
                outcomes = self._concluded(job, failed).outcomes
                return {(outcome.key, digests[outcome.key]): outcome for outcome in outcomes}
            if self._waits(job):
                self._wait_for_unknown()
        except Transient:
            if self._waits(job):
                return {}
        self._strike(job)
        return {}

    def wait_for(self, email: str) -> None:
        """Returns once no job is under way that has this address in it: it would make the profile anew. Raises
        Transient when that takes too long."""
        for job in filter(self._waits, list(self._known().values())):
            if _email_digest(email) not in {person.email for person in job.people}:
                continue
            if not job.id:
                self._wait_for_unknown()
            elif isinstance(found := self._looked_at([job], _POLLS)[job.note], DeliveryError):
                raise found

    def _begun(self, items: Sequence[Item]) -> "_Begun":
        """The job of these profiles, without those that Klaviyo refuses by name; raises as `run` does."""
        people = [_Person(i.key, _email_digest(i.change.email), i.change.remote_id, i.digest) for i in items]
        with self._lock:
            known = self._known()
            free = next((name for name in _NOTES if name not in known), None)
            if free is None:
                raise pending()
            job = known[free] = _Job("", self._clock.time() + _LONGEST_JOB, people, free)
        answer = self._start(job, items)
        if answer.status == 400:
            refused = _by_person(records(answer.data, "errors"), people)
            if not refused or None in refused:
                raise judged(answer, 0.0)
            rest = [item for item in items if item.key not in refused]
            begun = self._begun(rest) if rest else _Begun(None, [])
            return _Begun(begun.job, _rejected(refused) + begun.refused)
        job = job._replace(id=str(answer.at("data", "id")))
        self._note(job)
        return _Begun(job, [])

    def _start(self, job: _Job, items: Sequence[Item]) -> Answer:
        """The answer to the start of a job: 202, or 400 and what is wrong with which profile."""
        profiles = {"data": [orjson.Fragment(item.profile) for item in items]}
        body = {"data": {"type": "profile-bulk-import-job", "attributes": {"profiles": profiles}}}
        expect = (400, *_NO_ANSWER)
        self._note(job)  # first: the process may die before it has read the answer
        try:
            answer = self._http.call("POST", _PATH, body=body, family="import-job", expect=expect, repeatable=False)
        except DeliveryError as error:
            if error.reason in ("unknown_result", "unreadable_answer"):
                raise _unanswered() from None
            self._strike(job)
            raise
        if answer.status in _NO_ANSWER:
            raise _unanswered()
        if answer.status == 400:
            self._strike(job)
        return answer

    def _concluded(self, job: _Job, failed: int | DeliveryError | None) -> Ended:
        """What became of a job, of which so many profiles failed; raises what it ended with instead."""
        if failed is None or isinstance(failed, DeliveryError):
            if failed is not None and failed.reason == "job_cancelled":
                self._strike(job)
            raise failed or pending()
        refused = _by_person(self._errors(job.id), job.people) if failed else {}
        self._strike(job)
        # With an id, the profile may only have been merged away. And when some profile failed and nobody says which,
        # each of the others has to answer for itself.
        unclear = None in refused or len(refused) < failed
        again = {p.key for p in job.people if (p.remote_id if p.key in refused else unclear)}
        fine = [p for p in job.people if p.key not in refused and p.key not in again]
        done = [Outcome(p.key, "applied", remote_id=p.remote_id) for p in fine]
        return Ended(done + [outcome for outcome in _rejected(refused) if outcome.key not in again], again)

    def _looked_at(self, jobs: Sequence[_Job], polls: Sequence[float]) -> dict[str, int | DeliveryError]:
        """By note, how many profiles of each job failed, or why that is not known: `job_pending` of those that do not
        end in time."""
        found: dict[str, int | DeliveryError] = {}
        for wait in polls if jobs else ():
            self._rest(wait)
            left = [job for job in jobs if job.note not in found]
            try:
                # Of several, those that are under way are told in one call; only the others are asked for singly.
                going = self._going() if len(left) > 1 else set()
                ended = [job for job in left if job.id not in going]
                counts = self._pool.map(lambda job: self._failed(job.id), ended)
                found |= {job.note: n for job, n in zip(ended, counts, strict=True) if n is not None}
            except DeliveryError as error:
                return {job.note: found.get(job.note, error) for job in jobs}
            if len(found) == len(jobs):
                return found
        return {job.note: found.get(job.note, pending()) for job in jobs}

    def _rest(self, seconds: float) -> None:
        """Sleeps, and lets others be told meanwhile."""
        until = self._clock.monotonic() + seconds
        while self.meanwhile and not self.aside and not self.hushed and self._clock.monotonic() < until:
            self.aside = True
            try:
                self.meanwhile()
            finally:
                self.aside = False
            self._clock.sleep(max(0.0, min(_LOOK_ASIDE, until - self._clock.monotonic())))
        self._clock.sleep(max(0.0, until - self._clock.monotonic()))

    def _failed(self, job_id: str) -> int | DeliveryError | None:
        """How many profiles of a job failed, or that it came to nothing; None while it is under way."""
        path = f"{_PATH}/{quote(job_id, safe='')}"
        answer = self._http.call("GET", path, family="import-job-status", expect=(404,))
        status = word(answer.data, "data", "attributes", "status")
        if status == "complete":
            return count(answer.data, "data", "attributes", "failed_count")
        if answer.status == 404 or status == "cancelled":
            told = "knows the import job no more" if answer.status == 404 else "cancelled the import job"
            return Transient(f"Klaviyo {told}", reason="job_cancelled", retry_after=10.0)
        return None

    def _going(self) -> set[str]:
        """The ids of imports under way in the account, of a hundred at most; none where that may not be asked."""
        query: dict[str, object] = {"filter": 'any(status,["queued","processing"])', "page[size]": 100}
        try:
            answer = self._http.call("GET", _PATH, query=query, family="import-jobs")
        except Rejected:
            return set()
        return {word(job, "id") for job in records(answer.data, "data")}

    def _errors(self, job_id: str) -> list[dict[str, Any]]:
        path = f"{_PATH}/{quote(job_id, safe='')}/import-errors"
        query: dict[str, object] = {"page[size]": 100}
        errors: list[dict[str, Any]] = []
        while True:
            page = self._http.call("GET", path, query=query, family="import-job-errors").data
            errors += [found for error in records(page, "data") if isinstance(found := error.get("attributes"), dict)]
            # The link is absolute, on the vendor's own host: only its cursor is of use behind a base_url.
            cursor = parse_qs(word(page, "links", "next").partition("?")[2]).get("page[cursor]")
            if not cursor or cursor[0] == query.get("page[cursor]"):
                return errors
            query["page[cursor]"] = cursor[0]

    def _wait_for_unknown(self) -> None:
        """Returns once no import is under way in the account: one of ours may be among them, under an id that we were
        not told. Raises Transient when that takes too long."""
        for wait in _POLLS:
            self._clock.sleep(wait)
            if not self._going() - {job.id for job in self._known().values()}:
                return
        raise pending()

    # --- what is noted

    def _known(self) -> dict[str, _Job]:
        """The jobs under way, by note; what an earlier process noted is read once."""
        if self._under_way is None:
            kept = {name: note for name, note in self._notes.items() if name in _NOTES}
            self._under_way = {name: job for name, note in kept.items() if (job := _noted(name, note)) is not None}
        return self._under_way

    def _waits(self, job: _Job) -> bool:
        """Whether a job is still waited for; if not, one more look and it is given up."""
        return self._clock.time() < job.until

    def _note(self, job: _Job) -> None:
        told = {"id": job.id, "until": job.until, "people": [[*person] for person in job.people]}
        self._known()[job.note] = job
        self._notes[job.note] = orjson.dumps(told).decode()

    def _strike(self, job: _Job) -> None:
        self._known().pop(job.note, None)
        self._notes.pop(job.note, None)


def _noted(name: str, note: str) -> _Job | None:
    """A job as it was noted; None when that cannot be read."""
    try:
        told = orjson.loads(note)
        return _Job(str(told["id"]), float(told["until"]), [_Person(*person) for person in told["people"]], name)
    except (KeyError, TypeError, ValueError):
        return None


def sized(items: Sequence[T], weigh: Callable[[T], int], most: int = _PROFILES) -> Iterable[list[T]]:
    """Pieces of at most `most` items and of no more bytes than a request may have, in order. weigh: an item's bytes."""
    piece: list[T] = []
    size = 0
    for item in items:
        weight = weigh(item) + 1
        if piece and (len(piece) == most or size + weight > _BYTES):
            yield piece
            piece, size = [], 0
        piece.append(item)
        size += weight
    if piece:
        yield piece


def judged(answer: Answer, now: float) -> DeliveryError:
    """The error that an answer of Klaviyo means."""
    error = next(iter(records(answer.data, "errors")), {})
    return judge(answer, now, _sentence(error), culprit=_field(error))


def _by_person(errors: Sequence[Mapping[str, Any]], people: Sequence[_Person]) -> dict[str | None, Mapping[str, Any]]:
    """The vendor's errors by the key of whom they mean: by pointer, else by the address in the payload it returns. None
    stands for those that name nobody of ours."""
    by_email = {person.email: person.key for person in people}
    found: dict[str | None, Mapping[str, Any]] = {}
    for error in errors:
        _, _, where = word(error, "source", "pointer").partition("/profiles/data/")
        index = where.partition("/")[0]
        payload = dig(error, "original_payload")
        email = word(payload, "email") or word(payload, "attributes", "email")
        if index.isdecimal() and int(index) < len(people):
            found[people[int(index)].key] = error
        else:
            found[by_email.get(_email_digest(email))] = error
    return found


def _rejected(refused: Mapping[str | None, Mapping[str, Any]]) -> list[Outcome]:
    return [
        Outcome(key, "rejected", "rejected", _sentence(error), field=_field(error))
        for key, error in refused.items()
        if key is not None
    ]


def _sentence(error: Mapping[str, Any]) -> str:
    return (word(error, "detail") or word(error, "title") or word(error, "code"))[:500]


def _field(error: Mapping[str, Any]) -> str | None:
    """The attribute or property that an error points to; None when it means the whole profile."""
    pointer = word(error, "source", "pointer")
    _, _, where = (pointer.partition("/profiles/data/")[2] or pointer).partition("/attributes/")
    return where.rsplit("/", 1)[-1] or None


def _email_digest(email: str) -> str:
    return blake2b(email.lower().encode(errors="replace"), digest_size=8).hexdigest()


def pending() -> Transient:
    return Transient("Klaviyo has not finished the import job", reason="job_pending", retry_after=30.0)


def _unanswered() -> Transient:
    return Transient("Klaviyo did not say whether the import has started", reason="no_answer", retry_after=5.0)
