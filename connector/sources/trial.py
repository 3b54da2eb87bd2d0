"""What a request would mean, without keeping it or doing anything: for whoever writes a mapping."""

from dataclasses import asdict
from typing import Any

from connector.domain import Delivery, Json, Normalised, RawRequest, StoreInfo
from connector.errors import RejectedDelivery, UnprocessableEvent
from connector.ports import Greets, Source

_MOST = 20


def try_out(source: Source, name: str, request: RawRequest, store: StoreInfo) -> list[dict[str, Json]]:
    """One entry per delivery, of the first 20: `topic`, `key`, and `means` or `refused`. No signature is looked at."""
    if isinstance(source, Greets) and (reply := source.greet(request, ())) is not None:
        return [{"greeting": {"status": reply.status, "body": reply.body.decode("utf-8", "replace")}}]
    try:
        claims = source.claim(request)
    except RejectedDelivery as refused:
        return [{"refused": {"reason": refused.reason, "detail": refused.message}}]
    found = []
    for claim in claims[:_MOST]:
        body = request.body if claim.body is None else claim.body
        delivery = Delivery(name, claim.delivery_id, claim.topic, request.received_at, claim.headers, body)
        entry: dict[str, Json] = {"topic": claim.topic, "key": claim.key}
        try:
            entry["means"] = said(source.normalise(delivery, store))
        except UnprocessableEvent as refused:
            entry["refused"] = {"reason": refused.reason, "detail": refused.message}
        found.append(entry)
    return found


def said(meant: Normalised) -> dict[str, Any]:
    """As JSON, and only what differs from a Normalised that says nothing."""
    silence = asdict(Normalised())
    return {key: value for key, value in asdict(meant).items() if value != silence[key]}
