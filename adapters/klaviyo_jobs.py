"""Klaviyo's import jobs: many profiles in one call, imported later; followed to their end, across restarts too."""

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qs, quote

import orjson

from adapters.destination import Clock, Outcome
from adapters.errors import DeliveryError, Transient
from adapters.http import Answer, Http, judge
from adapters.klaviyo_profiles import Item
from adapters.shape import count, dig, records, word

_PATH = "/api/profile-bulk-import-jobs"
_PROFILES, _BYTES = 10_000, 4_800_000
_POLLS = (0.5, 1.5, 4, 10, 18, 26)
"""Seconds before each look at a job: few, because they count as calls. A minute in all; then its profiles are to be
tried again, and the next call waits on."""

_ONCE = (0.0,)
_LONGEST_JOB = 900.0
_NO_ANSWER = (502, 504, 524)
"""A gateway that gave up: whether the job was started nobody knows."""

_NOTE = "import"

T = TypeVar("T")


class _Person(NamedTuple):
    """One profile of a job, as it is noted: no address stands there, only its digest."""

    key: str
    email: str
    remote_id: str | None
    digest: str


class _Job(NamedTuple):
    """A job under way, and until when (epoch seconds) it is waited for. "" is the id of one whose start was not
    answered."""

    id: str
    until: float
    people: Sequence[_Person]


class Ended(NamedTuple):
    """What became of a job: outcomes, and the keys of those who have to answer for themselves."""

    outcomes: list[Outcome]
    again: set[str]


class Imports:
    """The import jobs of one account, one at a time. The one under way stands in `notes` before it is waited for: a
    later one, and a single call, would be undone by it if it ended last."""

    def __init__(self, http: Http, clock: Clock, notes: MutableMapping[str, str]) -> None:
        self._http = http
        self._clock = clock
        self._notes = notes
        self._told: dict[tuple[str, str], Outcome] = {}

    def run(self, items: Sequence[Item]) -> Ended:
        """Imports these profiles and waits for it. Raises Rejected when the job is refused and nobody says for which
        profile, Transient when it does not end in time or nobody knows whether it has started."""
        people = [_Person(i.key, _email_digest(i.change.email), i.change.remote_id, i.digest) for i in items]
        job = _Job("", self._clock.time() + _LONGEST_JOB, people)
        answer = self._start(job, items)
        if answer.status == 400:
            refused = _by_person(records(answer.data, "errors"), people)
            if not refused or None in refused:
                raise judged(answer, 0.0)
            rest = [item for item in items if item.key not in refused]
            ended = self.run(rest) if rest else Ended([], set())
            return Ended(_rejected(refused) + ended.outcomes, ended.again)
        job = job._replace(id=str(answer.at("data", "id")))
        self._note(job)
        return self._concluded(job, _POLLS)

    def earlier(self, wanted: Mapping[str, str]) -> dict[str, Outcome]:
        """The outcomes, by key, of those whose digest is the one in the job that an earlier call, or an earlier
        process, has not seen the end of. Raises Transient while that is under way. Each is told once, and none after
        something else was wanted."""
        job = self._noted()
        if job is not None:
            self._told = self._ended(job)
        found = {key: self._told[key, digest] for key, digest in wanted.items() if (key, digest) in self._told}
        self._told = {known: outcome for known, outcome in self._told.items() if known[0] not in wanted}
        return found

    def _ended(self, job: _Job) -> dict[tuple[str, str], Outcome]:
        """The outcomes, by key and digest, of a job that was under way."""
        overdue = self._overdue(job)
        digests = {person.key: person.digest for person in job.people}
        try:
            if job.id:
                outcomes = self._concluded(job, _ONCE if overdue else _POLLS).outcomes
                return {(outcome.key, digests[outcome.key]): outcome for outcome in outcomes}
            if not overdue:
                self._wait_for_unknown()
        except Transient:
            if not overdue:
                raise
        self._strike()
        return {}

    def wait_for(self, email: str) -> None:
        """Returns once no job is under way that has this address in it: it would make the profile anew. Raises
        Transient when that takes too long."""
        job = self._noted()
        if job is None or self._overdue(job):
            return
        if not job.id:
            self._wait_for_unknown()
        elif _email_digest(email) in {person.email for person in job.people}:
            self._failures(job.id, _POLLS)

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
            self._strike()
            raise
        if answer.status in _NO_ANSWER:
            raise _unanswered()
        if answer.status == 400:
            self._strike()
        return answer

    def _concluded(self, job: _Job, polls: Sequence[float]) -> Ended:
        """What became of a job, waited for; raises Transient when it does not end in time."""
        failed = self._failures(job.id, polls)
        refused = _by_person(self._errors(job.id), job.people) if failed else {}
        self._strike()
        # With an id, the profile may only have been merged away. And when some profile failed and nobody says which,
        # each of the others has to answer for itself.
        unclear = None in refused or len(refused) < failed
        again = {p.key for p in job.people if (p.remote_id if p.key in refused else unclear)}
        fine = [p for p in job.people if p.key not in refused and p.key not in again]
        done = [Outcome(p.key, "applied", remote_id=p.remote_id) for p in fine]
        return Ended(done + [outcome for outcome in _rejected(refused) if outcome.key not in again], again)

    def _failures(self, job_id: str, polls: Sequence[float]) -> int:
        """How many profiles failed, once the job is complete."""
        for wait in polls:
            self._clock.sleep(wait)
            path = f"{_PATH}/{quote(job_id, safe='')}"
            answer = self._http.call("GET", path, family="import-job-status", expect=(404,))
            status = word(answer.data, "data", "attributes", "status")
            if status == "complete":
                return count(answer.data, "data", "attributes", "failed_count")
            if answer.status == 404 or status == "cancelled":
                self._strike()
                told = "knows the import job no more" if answer.status == 404 else "cancelled the import job"
                raise Transient(f"Klaviyo {told}", reason="job_cancelled", retry_after=10.0)
        raise _pending()

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
        query: dict[str, object] = {"filter": 'any(status,["queued","processing"])', "page[size]": 100}
        for wait in _POLLS:
            self._clock.sleep(wait)
            answer = self._http.call("GET", _PATH, query=query, family="import-jobs", expect=(400, 404))
            if not records(answer.data, "data"):
                return
        raise _pending()

    # --- what is noted

    def _noted(self) -> _Job | None:
        """The job under way; None when there is none."""
        try:
            told = orjson.loads(self._notes.get(_NOTE, "{}"))
            return _Job(str(told["id"]), float(told["until"]), [_Person(*person) for person in told["people"]])
        except (KeyError, TypeError, ValueError):
            return None

    def _overdue(self, job: _Job) -> bool:
        """Whether a job has been waited for long enough: one more look, then it is given up."""
        return self._clock.time() >= job.until

    def _note(self, job: _Job) -> None:
        self._notes[_NOTE] = orjson.dumps({**job._asdict(), "people": [[*person] for person in job.people]}).decode()

    def _strike(self) -> None:
        self._notes.pop(_NOTE, None)


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


def _pending() -> Transient:
    return Transient("Klaviyo has not finished the import job", reason="job_pending", retry_after=30.0)


def _unanswered() -> Transient:
    return Transient("Klaviyo did not say whether the import has started", reason="no_answer", retry_after=5.0)
