"""Kinesis, by boto3: each shard read from where the table of positions says, children after their parents; written in
rounds in which no key has two records, because a call may take some of its records and throttle others."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, NoReturn

import structlog

from adapters.destination import Option
from connector.clock import Millis
from connector.errors import ConfigurationError, StreamUnavailable
from connector.storage.database import Database
from connector.streams import store
from connector.streams.port import Account, Lag, Poison, Record, Row, Takes, Written

log = structlog.get_logger("streams")

_LOOK_EVERY = 5.0  # seconds between looks for shards: splits and merges
_IDLE = 1.0  # seconds until a shard that had nothing is asked again; a shard answers 5 calls a second
_BETWEEN = 0.2
_LONGEST_REST = 30.0
_AT = "at:"  # how a position begins that is an instant
_THROTTLED = frozenset({"ProvisionedThroughputExceededException", "LimitExceededException", "KMSThrottlingException"})
_WORDS = {
    "ResourceNotFoundException": ("no_topic", "there is no such stream: make it, or correct its name or the region"),
    "AccessDeniedException": ("unauthorized", "these credentials may not use the stream: give them the right to"),
    "UnrecognizedClientException": ("unauthorized", "the credentials are refused: see access_key_id"),
    "InvalidSignatureException": ("unauthorized", "the credentials are refused: see secret_access_key"),
    "ExpiredTokenException": ("unauthorized", "the credentials have expired: see session_token"),
}
_CALL = 500  # records of a call
_CALL_BYTES = 5 * 1024 * 1024
_LARGEST = 1024 * 1024  # bytes of a record with its key
_AGGREGATED = b"\xf3\x89\x9a\xc2"  # how a record of several begins that Amazon's producer library has packed


class Kinesis:
    """Brokers of kind `kinesis`."""

    takes: ClassVar[Takes] = Takes(
        credentials=("access_key_id", "secret_access_key", "session_token"),
        options={
            "region": Option(r"[a-z]{2}(-[a-z]+)+-\d", "eu-west-1"),
            "start": Option("earliest|latest", "earliest"),
            "endpoint": Option(r"https?://\S+", "https://kinesis.internal.example.com"),
        },
        topic=Option(r"[A-Za-z0-9_.-]{1,128}", "site-clicks"),
    )

    def __init__(self, account: Account) -> None:
        self._account = account

    def check(self, wait: float) -> str:
        """How many shards the stream has. Raises StreamUnavailable."""
        topic = self._account.config.topic
        found = _ask(_client(self._account, wait).describe_stream_summary, StreamName=topic)
        summary = found["StreamDescriptionSummary"]
        return f"stream {topic} is {summary['StreamStatus']} and has {summary['OpenShardCount']} open shards"

    def reading(self, database: Database) -> "KinesisReading":
        return KinesisReading(self._account, database)

    def writing(self) -> "KinesisWriting":
        return KinesisWriting(self._account)


@dataclass(slots=True)
class _Shard:
    """A shard as far as it is read. `ended`: its last record was given out."""

    id: str
    parents: tuple[str, ...]
    closed: bool
    sequence: str
    finished: bool
    ended: bool = False
    iterator: str | None = None
    ask_at: float = 0.0
    rests: int = 0
    behind: Millis | None = None


class KinesisReading:
    """Every shard of a stream, read by one holder."""

    def __init__(self, account: Account, database: Database) -> None:
        self._name, self._topic = account.config.name, account.config.topic
        self._start = account.config.options.get("start", "earliest")
        self._database = database
        self._client = _client(account, 10.0)
        self._shards: dict[str, _Shard] = {}
        self._look_at = float("-inf")

    def read(self, limit: int, wait: float, now: Millis) -> list[Record]:
        """Records of one shard: shards take turns, by how long ago they were asked."""
        if time.monotonic() >= self._look_at:
            self._look(now)
        ready = [shard for shard in self._shards.values() if self._may_be_read(shard)]
        shard = min(ready, key=lambda one: one.ask_at, default=None)
        left = wait if shard is None else min(wait, shard.ask_at - time.monotonic())
        if left > 0:
            time.sleep(left)
        if shard is None or shard.ask_at > time.monotonic():
            return []
        return self._read(shard, limit)

    def _may_be_read(self, shard: _Shard) -> bool:
        parents = (self._shards[one] for one in shard.parents if one in self._shards)  # what is past retention is gone
        return not shard.finished and not shard.ended and all(parent.finished for parent in parents)

    def _read(self, shard: _Shard, limit: int) -> list[Record]:
        try:
            if shard.iterator is None:
                shard.iterator = self._iterator(shard)
            found = self._client.get_records(ShardIterator=shard.iterator, Limit=limit)
        except Exception as error:
            code = _code(error)
            if code == "ExpiredIteratorException":
                shard.iterator = None
            elif code in _THROTTLED:
                shard.rests += 1
                shard.ask_at = time.monotonic() + min(2.0**shard.rests / 2, _LONGEST_REST)
                log.info("stream.throttled", stream=self._name, shard=shard.id)
            else:
                shard.ask_at = time.monotonic() + _IDLE
                _fail(error)
            return []
        shard.rests, shard.behind = 0, found.get("MillisBehindLatest")
        shard.iterator = found.get("NextShardIterator")
        records = [self._record(shard.id, one) for one in found["Records"]]
        if records:
            shard.sequence = found["Records"][-1]["SequenceNumber"]
        # The end of a split shard is told by a missing iterator; a listing that says it is closed does as well.
        if shard.iterator is None or (shard.closed and not records and not shard.behind):
            shard.ended, self._look_at = True, float("-inf")
            if not records:
                self._finish(shard)
        shard.ask_at = time.monotonic() + (_BETWEEN if records or shard.behind else _IDLE)
        return records

    def _record(self, shard: str, found: Mapping[str, Any]) -> Record:
        at = found.get("ApproximateArrivalTimestamp")
        return Record(
            place=f"{self._topic}/{shard}/{found['SequenceNumber']}",
            shard=shard,
            key=found["PartitionKey"],
            headers=_packed(found["Data"]),
            body=found["Data"],
            at=None if at is None else int(at.timestamp() * 1000),
        )

    def _iterator(self, shard: _Shard) -> str:
        where: dict[str, Any] = {"ShardIteratorType": "TRIM_HORIZON"}
        if shard.sequence.startswith(_AT):
            instant = datetime.fromtimestamp(int(shard.sequence.removeprefix(_AT)) / 1000, UTC)
            where = {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": instant}
        elif shard.sequence:
            where = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": shard.sequence}
        ask = self._client.get_shard_iterator
        try:
            found = ask(StreamName=self._topic, ShardId=shard.id, **where)
        except Exception as error:
            if _code(error) != "InvalidArgumentException" or not shard.sequence:
                raise
            # The position is of a stream that was deleted and made anew, or older than what is kept.
            log.warning("stream.position_lost", stream=self._name, shard=shard.id)
            found = ask(StreamName=self._topic, ShardId=shard.id, ShardIteratorType="TRIM_HORIZON")
        return str(found["ShardIterator"])

    def _look(self, now: Millis) -> None:
        """Learn the shards there are."""
        listed = list(self._listed())
        with self._database.read() as connection:
            known = store.positions(connection, self._name, self._topic)
        if not known and self._start == "latest":
            closed = {one["ShardId"]: ("", True) for one in listed if _is_closed(one)}
            known = {one["ShardId"]: (f"{_AT}{now}", False) for one in listed} | closed
            with self._database.tx() as tx:
                store.set_positions(tx, self._name, self._topic, known)
        before, self._shards = self._shards, {}
        for one in listed:
            id_ = one["ShardId"]
            sequence, finished = known.get(id_, ("", False))
            parents = tuple(one[name] for name in ("ParentShardId", "AdjacentParentShardId") if one.get(name))
            shard = before.get(id_) or _Shard(id_, parents, False, sequence, finished)
            shard.closed = _is_closed(one)
            self._shards[id_] = shard
        self._look_at = time.monotonic() + _LOOK_EVERY

    def _listed(self) -> Iterator[Mapping[str, Any]]:
        asked: dict[str, Any] = {"StreamName": self._topic}
        while True:
            page = _ask(self._client.list_shards, **asked)
            yield from page["Shards"]
            if not page.get("NextToken"):
                return
            asked = {"NextToken": page["NextToken"]}

    def rest(self, wait: float) -> list[Record]:
        time.sleep(wait)
        return []

    def is_ours(self, record: Record) -> bool:
        return True

    def bury(self, poison: Sequence[Poison]) -> list[Poison]:
        """Nothing: a stream for dead letters would cost as much as the one for the living."""
        return list(poison)

    def settle(self, records: Sequence[Record]) -> None:
        """Note the last of each shard. A shard whose last record is settled is read to its end."""
        heads = {record.shard: record.place.rpartition("/")[2] for record in records}
        ended = {shard for shard in heads if shard in self._shards and self._shards[shard].ended}
        with self._database.tx() as tx:
            places = {shard: (sequence, shard in ended) for shard, sequence in heads.items()}
            store.set_positions(tx, self._name, self._topic, places)
        for shard in ended:
            self._shards[shard].finished = True

    def _finish(self, shard: _Shard) -> None:
        with self._database.tx() as tx:
            store.set_positions(tx, self._name, self._topic, {shard.id: (shard.sequence, True)})
        shard.finished = True

    def lag(self) -> Lag:
        """How far the shard that is furthest behind is behind, by the clock of the broker."""
        known = [shard.behind for shard in self._shards.values() if shard.behind is not None and not shard.finished]
        return Lag(millis=max(known)) if known else Lag()

    def close(self) -> None:
        self._client.close()


class KinesisWriting:
    """Puts records by the call of many."""

    def __init__(self, account: Account) -> None:
        self._topic = account.config.topic
        self._client = _client(account, 5.0)

    def write(self, rows: Sequence[Row], stopped: Callable[[], bool]) -> Written:
        refused = [(row, f"the record is larger than {_LARGEST} bytes") for row in rows if _size(row) > _LARGEST]
        left = [row for row in rows if _size(row) <= _LARGEST]
        done: list[int] = []
        while left and not stopped():
            try:
                taken = self._put(_round(left))
            except StreamUnavailable:
                if done or refused:
                    break
                raise
            if not taken:
                if done or refused:
                    break
                raise StreamUnavailable("the stream throttles us: give it more shards", reason="throttled")
            done += taken
            left = [row for row in left if row.id not in taken]
        return Written(done, refused)

    def _put(self, rows: Sequence[Row]) -> set[int]:
        records = [{"Data": row.body.encode(), "PartitionKey": row.key} for row in rows]
        try:
            answer = self._client.put_records(StreamName=self._topic, Records=records)
        except Exception as error:
            if _code(error) in _THROTTLED:
                return set()
            _fail(error)
        return {row.id for row, one in zip(rows, answer["Records"], strict=True) if not one.get("ErrorCode")}

    def close(self) -> None:
        self._client.close()


def _round(rows: Sequence[Row]) -> list[Row]:
    """The first row of each key, as many as fit into a call."""
    found: dict[str, Row] = {}
    size = 0
    for row in rows:
        if row.key not in found:
            size += _size(row)
            if len(found) == _CALL or size > _CALL_BYTES:
                break
            found[row.key] = row
    return list(found.values())


def _size(row: Row) -> int:
    return len(row.body.encode()) + len(row.key)


def _packed(data: bytes) -> dict[str, str]:
    return {"content-encoding": "aggregated"} if data.startswith(_AGGREGATED) else {}


def _is_closed(listed: Mapping[str, Any]) -> bool:
    return listed["SequenceNumberRange"].get("EndingSequenceNumber") is not None


def _client(account: Account, patience: float) -> Any:
    """The client: no retries of its own beyond one, because whoever calls it knows when to come back."""
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise ConfigurationError(
            "boto3 is not installed: run `pip install 'storecue[kinesis]'`", reason="missing_extra"
        ) from None
    given = account.credentials
    try:
        session = boto3.session.Session(
            aws_access_key_id=given.get("access_key_id"),
            aws_secret_access_key=given.get("secret_access_key"),
            aws_session_token=given.get("session_token"),
            region_name=account.config.options.get("region"),
        )
        return session.client(
            "kinesis",
            endpoint_url=account.config.options.get("endpoint"),
            config=Config(connect_timeout=3, read_timeout=patience, retries={"total_max_attempts": 2}),
        )
    except BotoCoreError as error:
        raise StreamUnavailable(f"{error}: see the options of the stream", reason="misconfigured") from None


def _ask(call: Callable[..., Any], **words: Any) -> Any:
    try:
        return call(**words)
    except Exception as error:
        _fail(error)


def _code(error: Exception) -> str:
    response = getattr(error, "response", None)
    return str(response["Error"]["Code"]) if isinstance(response, dict) and "Error" in response else ""


def _fail(error: Exception) -> NoReturn:
    """Raises StreamUnavailable for what the other end, or the way to it, does; anything else as it is."""
    from botocore.exceptions import BotoCoreError, NoCredentialsError

    if code := _code(error):
        reason, words = _WORDS.get(code, ("throttled" if code in _THROTTLED else "refused", f"the answer is {code}"))
        raise StreamUnavailable(words, reason=reason) from None
    if isinstance(error, NoCredentialsError):
        raise StreamUnavailable("there are no credentials: write them, or give this machine a role") from None
    if isinstance(error, BotoCoreError):
        raise StreamUnavailable(f"no answer ({type(error).__name__}): see that this machine reaches it") from None
    raise error
