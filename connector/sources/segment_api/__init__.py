"""The Segment-compatible tracking API as a source: what sites, apps and servers tell us of what people do.

web.tracking answers its addresses under /v1; this says which key opens, which events a request holds and what each
means. A server's key is a secret, and what it says of people is taken for true. A browser's key is public: whatever
comes with it is a visitor's word, which ties nobody known to anything (domain.Normalised.unverified).
"""

import hmac
from collections.abc import Sequence

from connector.domain import Delivery, Normalised, RawRequest, StoreInfo
from connector.errors import RejectedDelivery
from connector.ports import Claim
from connector.sources.segment_api.calls import Grant, open_call, split
from connector.sources.segment_api.meaning import meaning


class SegmentApi:
    """The source of kind `segment_api`. Its secrets are the write keys of servers."""

    kind = "segment_api"

    def verify(self, request: RawRequest, secrets: Sequence[str]) -> None:
        """Returns when the request has the write key of a server; RejectedDelivery 401 otherwise."""
        key = open_call(request).key.encode()
        fits = [hmac.compare_digest(key, secret.encode()) for secret in secrets]  # each is tried: timing tells nothing
        if not any(fits):
            raise RejectedDelivery(
                "the write key fits none of this source's secrets; send it as the user of Authorization: Basic, or as "
                "`writeKey` in the body",
                status=401,
                reason="bad_write_key",
            )

    def claim(self, request: RawRequest) -> tuple[Claim, ...]:
        """A claim for each event of the request. RejectedDelivery 400 when it cannot be opened."""
        return split(open_call(request), Grant("server"))

    def normalise(self, delivery: Delivery, store: StoreInfo) -> Normalised:
        """What the event means. UnprocessableEvent says which field could not be understood, by JSON pointer."""
        return meaning(delivery, store)
