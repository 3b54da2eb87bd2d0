"""What an account makes of our fields, and what it holds: told before anything is pushed, and compared afterwards."""

import threading
from collections.abc import Callable
from contextlib import closing
from queue import Empty, SimpleQueue
from typing import TypeVar

from marshmallow import Schema, fields, validate

from adapters.destination import Fit
from adapters.errors import DeliveryError, Transient
from connector.domain import DestinationConfig, VerifyConfig
from connector.reporting import verifications as report
from connector.reporting.pages import Row
from connector.sync import store
from connector.sync.contract import Contract, contract
from connector.web import current
from connector.web.api.routes import Noun
from connector.web.api.shapes import Flag, instant
from connector.web.problems import Refused, not_found

verification = Noun(
    "verification", __name__, "What an account will make of our fields, and whether it is as we left it."
)

_PATIENCE = 20.0  # seconds that a request waits for the vendor
_AT_ONCE = threading.BoundedSemaphore(2)  # a vendor that hangs must not take every thread of this process

Found = TypeVar("Found")


# --- before the first push -------------------------------------------------------------------------------------------


class FieldFitAnswer(Schema):
    """What would become of one field."""

    name = fields.String(required=True, metadata={"examples": ["total_spent"]})
    fate = fields.String(required=True, metadata={"description": "`exists`, `created` or `refused`."})
    kind = fields.String(required=True, metadata={"description": "What holds it there.", "examples": ["merge field"]})
    message = fields.String(required=True, metadata={"description": "Why it is refused."})
    longest = fields.Integer(required=True, allow_none=True, metadata={"description": "Bytes of text that are kept."})
    beyond = fields.String(required=True, metadata={"description": "A longer text is `cut` or `left_out`."})
    profiles = fields.Integer(required=True, metadata={"description": "Profiles that have a value."})
    too_long = fields.Integer(required=True, metadata={"description": "Those whose text is longer than that."})


class TagFitAnswer(Schema):
    """What would become of one tag."""

    name = fields.String(required=True, metadata={"examples": ["vip"]})
    fate = fields.String(required=True, metadata={"description": "`exists`, `created` or `refused`."})
    kind = fields.String(required=True, metadata={"description": "What holds it there.", "examples": ["tag"]})
    message = fields.String(required=True, metadata={"description": "Why it is refused."})
    profiles = fields.Integer(required=True, metadata={"description": "Profiles that would have it."})


class SlotsAnswer(Schema):
    """Where the vendor counts fields: how many more are needed, and for how many there is room."""

    needed = fields.Integer(required=True)
    free = fields.Integer(required=True)


class ExampleAnswer(Schema):
    """A profile as it would be pushed."""

    profile_id = fields.Integer(required=True)
    tags = fields.List(fields.String(), required=True)
    fields_ = fields.Dict(keys=fields.String(), required=True, data_key="fields", attribute="fields")


class FieldContractAnswer(Schema):
    """What pushing to a destination would come to."""

    contacts = fields.Integer(required=True, metadata={"description": "Profiles that it would show."})
    refused = fields.Boolean(required=True, metadata={"description": "Something would not be taken."})
    fields_ = fields.List(fields.Nested(FieldFitAnswer), required=True, data_key="fields", attribute="fields")
    tags = fields.List(fields.Nested(TagFitAnswer), required=True)
    slots = fields.Nested(SlotsAnswer, required=True, allow_none=True)
    examples = fields.List(fields.Nested(ExampleAnswer), required=True)


@verification.endpoint("GET", "/destinations/<name>/check", answers=FieldContractAnswer, refuses=(404, 422, 502, 503))
def check_destination(name: str) -> Row:
    """What the vendor would make of every field and tag. The account is asked and not changed."""
    config, services = _configured(name), current.services()

    def ask() -> Contract:
        with closing(services.connect(config)) as adapter:
            return contract(services.database, adapter, config, services.configuration())

    return _told(_in_time(name, ask))


def _told(found: Contract) -> Row:
    slots = found.forecast.slots
    return {
        "contacts": found.contacts,
        "refused": bool(found.refused()),
        "fields": [
            {
                **_fit(fit),
                "longest": fit.longest,
                "beyond": fit.beyond,
                "profiles": found.filled[fit.name],
                "too_long": found.cut[fit.name],
            }
            for fit in found.forecast.fields
        ],
        "tags": [{**_fit(fit), "profiles": found.tagged[fit.name]} for fit in found.forecast.tags],
        "slots": None if slots is None else {"needed": slots[0], "free": slots[1]},
        "examples": [
            {"profile_id": one.profile_id, "tags": list(one.tags), "fields": dict(one.fields)} for one in found.examples
        ],
    }


def _fit(fit: Fit) -> Row:
    return {"name": fit.name, "fate": fit.fate, "kind": fit.kind, "message": fit.message}


def _in_time(name: str, ask: Callable[[], Found]) -> Found:
    """What `ask` finds out at the vendor. It runs in a thread of its own, so that an account that hangs costs the
    caller some seconds and us one of few threads, which ends by the adapter's own timeouts."""
    if not _AT_ONCE.acquire(blocking=False):
        raise _unavailable(f"others are asking; {name} was not asked", 5)
    answers: SimpleQueue[Found | Exception] = SimpleQueue()

    def work() -> None:
        try:
            answers.put(ask())
        except Exception as error:  # it is raised again where somebody hears of it
            answers.put(error)
        finally:
            _AT_ONCE.release()

    threading.Thread(target=work, name=f"check-{name}", daemon=True).start()
    try:
        answer = answers.get(timeout=_PATIENCE)
    except Empty:
        raise _unavailable(f"{name} did not answer within {_PATIENCE:.0f} seconds", 60) from None
    if isinstance(answer, Transient):
        raise _unavailable(
            f"{name} could not be asked: {answer.message}", max(1, round(answer.retry_after))
        ) from answer
    if isinstance(answer, DeliveryError):
        raise Refused(502, f"{name} refuses: {answer.message}", reason="vendor_refused") from answer
    if isinstance(answer, Exception):
        raise answer
    return answer


def _unavailable(detail: str, seconds: int) -> Refused:
    return Refused(503, detail, reason="vendor_unavailable", headers={"Retry-After": str(seconds)})


# --- read back -------------------------------------------------------------------------------------------------------


class DifferenceAnswer(Schema):
    """One way in which contacts differ from what was pushed."""

    difference = fields.String(required=True, metadata={"examples": ["field total_spent", "tag vip lost", "missing"]})
    count = fields.Integer(required=True)
    profiles = fields.List(fields.Integer(), required=True, metadata={"description": "Some of them."})


class VerificationAnswer(Schema):
    """What reading a destination back came to."""

    id = fields.Integer(required=True)
    destination = fields.String(required=True, metadata={"examples": ["klaviyo"]})
    nightly = fields.Boolean(required=True, metadata={"description": "false: somebody asked for it."})
    state = fields.String(
        required=True, metadata={"description": "`wanted` until the sender has read; `done`, `failed`."}
    )
    at = instant("When it was asked for, then when it ended.", required=True)
    sample = fields.Integer(required=True)
    repair = fields.Boolean(required=True)
    contacts = fields.Integer(required=True, metadata={"description": "Contacts that could have been read."})
    checked = fields.Integer(required=True, metadata={"description": "Those that were read."})
    drifted = fields.Integer(required=True, metadata={"description": "Those that differ."})
    repaired = fields.Integer(required=True, metadata={"description": "Those that the next push puts right."})
    differences = fields.List(fields.Nested(DifferenceAnswer), required=True)
    error = fields.String(required=True, metadata={"description": "Why it failed, or why nothing was put right."})


class VerificationList(Schema):
    """The latest, newest first."""

    items = fields.List(fields.Nested(VerificationAnswer), required=True)


class VerificationsQuery(Schema):
    """How many."""

    limit = fields.Integer(load_default=20, validate=validate.Range(1, 200), metadata={"description": "At most."})


class VerifyBody(Schema):
    """What to read."""

    sample = fields.Integer(
        load_default=VerifyConfig().sample,
        strict=True,
        validate=validate.Range(1, 10_000),
        metadata={"description": "How many contacts."},
    )
    repair = Flag(load_default=False, metadata={"description": "Push again what differs; nobody is made anew."})


@verification.endpoint(
    "POST",
    "/destinations/<name>/verify",
    body=VerifyBody,
    answers=VerificationAnswer,
    status=202,
    refuses=(404, 409, 422),
)
def verify_destination(wanted: Row, name: str) -> tuple[Row, int, dict[str, str]]:
    """Have a sample of the contacts read back. The destination's sender does it as soon as nothing is to be pushed;
    where to look for the result stands in `Location`."""
    config, now = _configured(name), current.now()
    with current.services().database.tx() as tx:
        account = store.account_row(tx, name)
        state = "active" if account is None else account["state"]
        if state != "active" or config.dry_run:
            raise Refused(409, f"{name} is {'in dry run' if config.dry_run else state}: its sender reads nothing now")
        asked = store.want_verification(tx, name, wanted["sample"], wanted["repair"], now)
        told = report.verification_of(tx, asked)
    return told, 202, {"Location": f"/api/v1/destinations/{name}/verifications"}


@verification.endpoint(
    "GET",
    "/destinations/<name>/verifications",
    query=VerificationsQuery,
    answers=VerificationList,
    refuses=(404, 422),
)
def list_verifications(asked: Row, name: str) -> Row:
    """What the latest read-backs of a destination came to, nightly ones and those that were asked for."""
    _configured(name)
    with current.services().database.read() as connection:
        return {"items": report.verifications(connection, name, asked["limit"])}


def _configured(name: str) -> DestinationConfig:
    config = current.services().configuration().destinations.get(name)
    if config is None:
        raise not_found("destination")
    return config
