"""Standard Webhooks 1.0 (https://www.standardwebhooks.com): whoever signs that way, mapped as storecue.yaml says.

Without a mapping the envelope that the specification recommends is read: `type`, `timestamp`, `data`.
"""

import binascii
from collections.abc import Mapping, Sequence
from dataclasses import replace

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from connector.domain import Delivery, Json, Normalised, RawRequest, StoreInfo
from connector.ports import Claim
from connector.sources import signatures
from connector.sources.filing import delivery_id
from connector.sources.generic import Generic
from connector.sources.mapping import compiled, usual_person
from connector.sources.signatures import STANDARD_WEBHOOKS, base64_bytes

_DEFAULTS: dict[str, Json] = {
    "event": "$.type",
    "at": "$.timestamp",
    "person": usual_person("$.data"),
    "properties": "$.data",
}
_HINT = "It is the signing secret (whsec_...) that the sender shows for this endpoint, or its public key (whpk_...)"
_PUBLIC = "whpk_"


class StandardWebhooks:
    """The source of kind `standard_webhooks`. A secret is `whsec_...`, or a public key `whpk_...` for v1a."""

    kind = "standard_webhooks"

    def __init__(self, options: Mapping[str, Json] | None = None) -> None:
        self._inner = Generic(compiled(options or {}, _DEFAULTS))

    def configured(self, options: Mapping[str, Json]) -> "StandardWebhooks":
        """A source with this mapping (see sources.mapping), in place of what the specification recommends."""
        return StandardWebhooks(options)

    def verify(self, request: RawRequest, secrets: Sequence[str]) -> None:
        """Returns when a secret or a public key fits one of the stated signatures; RejectedDelivery 401 otherwise."""
        public = [secret for secret in secrets if secret.startswith(_PUBLIC)]
        if public and (stated := _asymmetric(request)) is not None and _signed_by(public, stated):
            signatures.refuse_stale(stated.at, request.received_at)
            return
        private = [secret for secret in secrets if not secret.startswith(_PUBLIC)]
        signatures.verify(STANDARD_WEBHOOKS, request, private, _HINT)

    def claim(self, request: RawRequest) -> tuple[Claim, ...]:
        """A claim under the message's id for each event."""
        found = self._inner.claim(replace(request, query=""))
        stated = request.headers.get("webhook-id", "")
        if len(found) == 1:
            return (found[0]._replace(delivery_id=delivery_id(stated, found[0].topic, request.body)),)
        return tuple(
            claim._replace(delivery_id=delivery_id(f"{stated[:180]}/{number}", claim.topic, request.body))
            for number, claim in enumerate(found)
        )

    def normalise(self, delivery: Delivery, store: StoreInfo) -> Normalised:
        """What the event means. UnprocessableEvent names the place in the mapping that cannot be read."""
        return self._inner.normalise(delivery, store)


def _asymmetric(request: RawRequest) -> signatures.Stated | None:
    try:
        return signatures.read_standard_webhook_v1a(request)
    except ValueError:
        return None


def _signed_by(public: Sequence[str], stated: signatures.Stated) -> bool:
    for text in public:
        try:
            key = Ed25519PublicKey.from_public_bytes(base64_bytes(text.removeprefix(_PUBLIC)))
        except (binascii.Error, ValueError):
            continue  # a secret that is no key has signed nothing
        for signature in stated.signatures:
            try:
                key.verify(signature, stated.message)
            except InvalidSignature:
                continue
            return True
    return False
