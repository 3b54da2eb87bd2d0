"""What a destination's account says of a person's consent, put in line as a delivery of our own: nobody configures this
source, and nobody outside can send to it."""

from hashlib import blake2b

import orjson

from connector.clock import Millis
from connector.domain import Consent, Delivery, Identifier, Json, Normalised
from connector.ports import New
from connector.sources.filing import email_key

SOURCE = "readback:"
"""How its name begins, before that of the destination. No configured source has a colon in its name."""

TOPIC = "consent"


def delivery(destination: str, email: str, held: str, ours: Json, at: Millis) -> New:
    """The word of a destination as a delivery for the log: it holds `held` (unsubscribed, suppressed), `ours` is what
    the profile says, `at` the instant of the read. One contradiction is one delivery, however often it is read."""
    body = orjson.dumps({"email": email, "held": held, "at": at}, option=orjson.OPT_SORT_KEYS)
    known = orjson.dumps([destination, email, held, ours and [ours["state"], ours["at"]]])
    return New(
        key=email_key(email.encode()),
        source=f"{SOURCE}{destination}",
        delivery_id=f"consent-{blake2b(known, digest_size=16).hexdigest()}",
        topic=TOPIC,
        received_at=at,
        headers="{}",
        body=body,
    )


def normalise(delivery: Delivery) -> Normalised:
    """Whoever has the address is unsubscribed since the read, whatever the reason there (a complaint, a bounce, their
    own wish); somebody whom we know no more stays unknown."""
    word = orjson.loads(delivery.body)
    return Normalised(
        identifiers=(Identifier("email", word["email"]),),
        consents=(Consent("email", "unsubscribed", word["at"]),),
        known_only=True,
    )
