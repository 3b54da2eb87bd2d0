"""Bodies nested deeper than anybody means it: refused for good, and not answered as a fault of ours that is to be sent
again for ever."""

import pytest

from connector.domain import RawRequest
from connector.errors import RejectedDelivery
from connector.sources import SOURCES, configured

_HEADERS = {
    "content-type": "application/json",
    "x-shopify-topic": "orders/create",
    "x-wc-webhook-topic": "order.created",
    "ce-id": "1",
    "ce-type": "t",
    "ce-source": "s",
    "ce-specversion": "1.0",
}


@pytest.mark.parametrize("opening, closing", [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize("depth", [200, 300, 600, 1020])
@pytest.mark.parametrize("kind", SOURCES)
def test_a_deep_body_is_taken_or_refused_by_every_source(kind: str, depth: int, opening: str, closing: str) -> None:
    source = SOURCES[kind]
    if kind == "generic":
        source = configured(source, {"each": "$.events[*]", "event": "Signed Up", "person": {"email": "$.email"}})
    deep = opening * depth + ("1" if closing == "}" else "") + closing * depth
    for body in (deep, f"[{deep}]", f'{{"id": "1", "events": [{{"x": 1}}, {deep}], "data": {deep}}}'):
        request = RawRequest("POST", "/webhooks/x/y", _HEADERS, body.encode(), "", 1)
        try:
            source.claim(request)
        except RejectedDelivery as refused:
            assert refused.status in (400, 415)
