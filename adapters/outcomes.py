"""From errors to one Outcome per item, and the search for the items that spoil a batch."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Protocol, TypeVar

from adapters.destination import Outcome
from adapters.errors import DeliveryError, Misconfigured, Rejected, Transient, Unauthorized

_HALTS = frozenset(
    {"rate_limited", "unreachable", "out", "migration", "stood_back"}
)  # nothing was sent, or nothing was done
_SILENCE = frozenset({"unavailable", "timed_out", "no_answer", "unreadable_answer"})
_LOOK_ASIDE = 0.1  # seconds
_OUT = _SILENCE | {"unreachable", "out"}


class Keyed(Protocol):
    """Anything that carries the key given back in its Outcome."""

    @property
    def key(self) -> str: ...


T = TypeVar("T")
V = TypeVar("V")
K = TypeVar("K", bound=Keyed)


def halts(error: DeliveryError) -> bool:
    """True when the error concerns the whole account, so that further items would meet the same."""
    return isinstance(error, Unauthorized | Misconfigured) or error.reason in _HALTS


def is_silence(reason: str) -> bool:
    """True when the vendor gave no usable answer: the account is out, or it stumbles over this one item."""
    return reason in _SILENCE


def is_halt(reason: str) -> bool:
    """True when a failure with this reason is the account's: nothing was done, and nothing speaks against the item."""
    return reason in _HALTS


def is_out(reason: str) -> bool:
    """True when a failure with this reason may mean that the whole account is out."""
    return reason in _OUT


def outcome_of(key: str, error: DeliveryError) -> Outcome:
    """What an error means for one item: rejected for good, or to be tried again."""
    if isinstance(error, Rejected):
        return Outcome(key, "rejected", error.reason, error.message, field=error.field)
    wait = error.retry_after if isinstance(error, Transient) else 0.0
    return Outcome(key, "retry", error.reason, error.message, retry_after=wait)


def refuse(item: Keyed, error: Rejected) -> Outcome:
    """The outcome of an item that a vendor refused: what `bisect` does with it unless the vendor has more to try."""
    return outcome_of(item.key, error)


def not_there(key: str) -> Outcome:
    """The outcome of an item whose contact is not at the vendor and may not be created."""
    return Outcome(key, "skipped", "not_on_list", "there is no such contact")


def settle(items: Sequence[Keyed], results: Sequence[Outcome | DeliveryError]) -> list[Outcome]:
    """One Outcome per item; raises the error when the whole account refused and nothing was done."""
    errors = [result for result in results if isinstance(result, DeliveryError)]
    if errors and len(errors) == len(results) and all(map(halts, errors)):
        raise max(errors, key=lambda error: getattr(error, "retry_after", float("inf")))
    return [
        outcome_of(item.key, result) if isinstance(result, DeliveryError) else result
        for item, result in zip(items, results, strict=True)
    ]


def each(pool: ThreadPoolExecutor, items: Sequence[K], act: Callable[[K], Outcome]) -> list[Outcome]:
    """`act` on every item, several at a time; one Outcome per item in their order. Stops calling once the account
    refuses as a whole, and raises that when nothing was done."""
    refusals: list[DeliveryError] = []

    def attempt(item: K) -> Outcome | DeliveryError:
        if refusals:
            return refusals[0]
        try:
            return act(item)
        except DeliveryError as error:
            if halts(error):
                refusals.append(error)
            return error

    return settle(items, [attempt(items[0])] if len(items) == 1 else list(pool.map(attempt, items)))


Send = Callable[[Sequence[K]], list[Outcome]]


def in_turn(pieces: Iterable[tuple[Sequence[K], Send[K]]]) -> list[Outcome]:
    """The outcomes of each piece by its own call, in turn; after an error the rest is not tried. Raises that error
    when nothing was done."""
    done: list[Outcome] = []
    failure: DeliveryError | None = None
    for items, send in pieces:
        if failure is None:
            try:
                done += send(items)
                continue
            except DeliveryError as error:
                if not done:
                    raise
                failure = error
        done += [outcome_of(item.key, failure) for item in items]
    return done


def side_by_side(
    pool: ThreadPoolExecutor,
    pieces: Sequence[tuple[Sequence[K], Send[K]]],
    meanwhile: Callable[[], None] | None = None,
) -> list[Outcome]:
    """The outcomes of each piece by its own call, several at a time; an error of one is told of its items. Raises when
    nothing was done. The calls must not use `pool` themselves: they would wait for each other."""
    refusals: list[DeliveryError] = []

    def attempt(piece: tuple[Sequence[K], Send[K]]) -> list[Outcome] | DeliveryError:
        items, send = piece
        if refusals:
            return refusals[0]
        try:
            return send(items)
        except DeliveryError as error:
            if halts(error):
                refusals.append(error)
            return error

    if len(pieces) == 1 and meanwhile is None:
        results = [attempt(pieces[0])]
    else:
        calls = [pool.submit(attempt, piece) for piece in pieces]
        while meanwhile and wait(calls, _LOOK_ASIDE).not_done:
            meanwhile()
        results = [call.result() for call in calls]
    return told((items, result) for (items, _), result in zip(pieces, results, strict=True))


def told(pieces: Iterable[tuple[Sequence[Keyed], list[Outcome] | DeliveryError]]) -> list[Outcome]:
    """The outcomes of pieces, an error being that of each of its items. Raises when nothing was done."""
    results = list(pieces)
    errors = [result for _, result in results if isinstance(result, DeliveryError)]
    if errors and len(errors) == len(results):
        raise max(errors, key=lambda error: getattr(error, "retry_after", float("inf")))
    done: list[Outcome] = []
    for items, result in results:
        done += [outcome_of(item.key, result) for item in items] if isinstance(result, DeliveryError) else result
    return done


def chunked(items: Sequence[T], size: int) -> Iterable[Sequence[T]]:
    """Pieces of at most `size`, in order."""
    return (items[start : start + size] for start in range(0, len(items), size))


def look_up(items: Sequence[str], size: int, find: Callable[[Sequence[str]], dict[str, V]]) -> dict[str, V]:
    """What `find` finds, asked for at most `size` items at a time; an item for which it is refused is not found."""
    found: dict[str, V] = {}
    pieces = list(chunked(items, size))
    while pieces:
        piece = pieces.pop()
        try:
            found |= find(piece)
        except Rejected:
            pieces += chunked(piece, (len(piece) + 1) // 2) if len(piece) > 1 else ()
    return found


def bisect(items: Sequence[K], send: Send[K], refuse: Callable[[K, Rejected], Outcome]) -> list[Outcome]:
    """One Outcome per item where a vendor refuses a whole batch for one bad item: each bad item goes to `refuse`,
    which raises nothing but Transient or Unauthorized.

    Costs one call when nothing is bad, and at most ceil(log2 n) + 1 further calls per bad item: a failing batch is
    halved, one half is tried, and what is known to fail is never tried again as it stands. A 404 is not divided:
    what is missing is the place that all of them were to go to.
    """
    done: list[Outcome] = []
    pending = list(items)
    suspects: list[K] = []
    try:
        while pending:
            try:
                done += send(pending)
                return done
            except Rejected as error:
                refusal = error
            if refusal.reason == "not_found":
                return done + [refuse(item, refusal) for item in pending]
            suspects, pending = pending, []
            while len(suspects) > 1:
                middle = len(suspects) // 2
                half, other = suspects[:middle], suspects[middle:]
                try:
                    done += send(half)
                    suspects = other
                except Rejected as error:
                    refusal = error
                    suspects, pending = half, other + pending
            done.append(refuse(suspects[0], refusal))
            suspects = []
    except DeliveryError as error:
        if not done:
            raise
        done += [outcome_of(item.key, error) for item in suspects + pending]
    return done
