"""What claims have in common: the id of a delivery whose sender gives none, and keys without an address in them."""

from hashlib import blake2b

_LONGEST_ID = 200


def delivery_id(stated: str | None, topic: str, body: bytes) -> str:
    """The sender's own id, else `body:` and a digest: the same words on the same topic are the same delivery."""
    id_ = (stated or "").strip()
    if 0 < len(id_) <= _LONGEST_ID and "#" not in id_:  # what follows a # says that it is a replay
        return id_
    digest = blake2b(id_.encode("utf-8", "replace"), digest_size=16)
    digest.update(topic.encode())
    digest.update(body)
    return f"body:{digest.hexdigest()}"


def email_key(address: bytes) -> str:
    """The customer key of somebody known by e-mail alone. Keys are stored and logged, so it is a hash."""
    return f"email:{blake2b(address.lower(), digest_size=12).hexdigest()}"
