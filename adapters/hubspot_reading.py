"""What HubSpot holds of contacts: found by record id or address, shown by our names, with what they consented to."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from adapters.destination import Clock, Consent, Held, Wanted
from adapters.http import Http
from adapters.hubspot_properties import TAGS
from adapters.hubspot_values import held_value
from adapters.outcomes import chunked, look_up
from adapters.shape import dig, records, stated, word

_BATCH = 100
_NAMES = ("email", "hs_additional_emails", "hs_merged_object_ids", "hs_email_optout", "firstname", "lastname")
# Asked for where the account defines them: HubSpot sends no marketing mail to whom they concern.
_BLOCKED = ("hs_email_hard_bounce_reason_enum", "hs_email_quarantined")
_DAY = 86_400.0
_STATES: dict[str, Consent] = {"SUBSCRIBED": "subscribed", "UNSUBSCRIBED": "unsubscribed"}


class Reading:
    """Reads contacts of one account. `subscription`: id or name of the subscription type that our mails belong to."""

    def __init__(self, http: Http, version: str, clock: Clock, pool: ThreadPoolExecutor, subscription: str) -> None:
        self._http = http
        self._pool = pool
        self._contacts = f"/crm/objects/{version}/contacts"
        self._preferences = f"/communication-preferences/{version}"
        self._clock = clock
        self._subscription = subscription.strip().lower()
        self._look_again = 0.0

    def record_ids(self, emails: Iterable[str]) -> dict[str, str]:
        """Record ids by lower-case address, first or additional, of the contacts that exist."""
        found = self._find("email", emails, ("email", "hs_additional_emails"))
        return {email: word(contact, "id") for email, contact in found.items() if word(contact, "id")}

    def held(self, wanted: Sequence[Wanted], defined: Mapping[str, Mapping[str, Any]]) -> list[Held]:
        """One Held for each, in their order."""
        kinds = {n: word(defined[n], "type") for want in wanted for n in want.fields if n in defined}
        blocked = [name for name in (*_BLOCKED, f"hs_email_optout_{self._subscription}") if name in defined]
        shown = (*_NAMES, TAGS, *blocked, *sorted(kinds))
        by_id = self._find("id", [want.remote_id for want in wanted if want.remote_id], shown)
        lost = [want.email for want in wanted if want.remote_id not in by_id]
        by_email = self._find("email", lost, shown)
        found = [by_id.get(want.remote_id or "") or by_email.get(want.email.lower()) for want in wanted]
        consents = self._consents(word(contact, "properties", "email").lower() for contact in found if contact)
        return [self._held(want, contact, kinds, consents) for want, contact in zip(wanted, found, strict=True)]

    def check(self) -> bool:
        """Whether this key may read consent by subscription type; True as well when none is configured."""
        if not self._subscription:
            return True
        return self._http.call("GET", f"{self._preferences}/definitions", expect=(403, 404)).status < 400

    def _find(self, by: str, values: Iterable[str], properties: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The contacts that exist, by `id` (also those they had before a merge) or `email` (first or additional)."""

        def find(some: Sequence[str]) -> dict[str, dict[str, Any]]:
            body: dict[str, Any] = {"inputs": [{"id": value} for value in some], "properties": list(properties)}
            body |= {"propertiesWithHistory": [], **({"idProperty": "email"} if by == "email" else {})}
            answer = self._http.call("POST", f"{self._contacts}/batch/read", body=body)
            own = _ids if by == "id" else _emails
            return {name: contact for contact in records(answer.data, "results") for name in own(contact)}

        pieces = list(chunked(sorted({value.lower() for value in values}), _BATCH))
        found: dict[str, dict[str, Any]] = {}
        for part in self._pool.map(lambda piece: look_up(piece, _BATCH, find), pieces):
            found |= part
        return found

    def _consents(self, emails: Iterable[str]) -> dict[str, Consent]:
        """What people said to our subscription type, by address; nothing for a day once the key may not ask."""

        def find(some: Sequence[str]) -> dict[str, Consent]:
            path, query = f"{self._preferences}/statuses/batch/read", {"channel": "EMAIL"}
            answer = self._http.call("POST", path, query=query, body={"inputs": list(some)}, expect=(403, 404))
            if answer.status >= 400:
                self._look_again = self._clock.time() + _DAY
            return {
                word(person, "subscriberIdString").lower(): _STATES[word(status, "status")]
                for person in records(answer.data, "results")
                for status in records(person, "statuses")
                if self._subscription in (word(status, "subscriptionId"), word(status, "subscriptionName").lower())
                if word(status, "status") in _STATES
            }

        if not self._subscription or self._clock.time() < self._look_again:
            return {}
        return look_up(sorted({email for email in emails if email}), _BATCH, find)

    def _held(
        self,
        want: Wanted,
        contact: Mapping[str, Any] | None,
        kinds: Mapping[str, str],
        consents: Mapping[str, Consent],
    ) -> Held:
        if contact is None:
            return Held(want.key, "missing")
        held, emails = dig(contact, "properties"), _emails(contact)
        return Held(
            want.key,
            "found" if want.remote_id in (None, word(contact, "id")) else "merged",
            word(contact, "id"),
            want.email.lower() if want.email.lower() in emails else word(held, "email").lower(),
            tuple(sorted(tag for tag in word(held, TAGS).split(";") if tag)),
            {n: held_value(n, kinds[n], word(held, n), v) if n in kinds else None for n, v in want.fields.items()},
            self._consent(held, consents.get(word(held, "email").lower())),
            stated(held, "firstname"),
            stated(held, "lastname"),
        )

    def _consent(self, held: Any, told: Consent | None) -> Consent | None:
        """The strictest of what is known: blocked, out of everything, out of our type; and only then in it."""
        if word(held, _BLOCKED[0]) or word(held, _BLOCKED[1]) == "true":
            return "suppressed"
        outs = ("hs_email_optout", f"hs_email_optout_{self._subscription}")
        return "unsubscribed" if any(word(held, name) == "true" for name in outs) else told


def _emails(contact: Mapping[str, Any]) -> list[str]:
    """Its address and the additional ones, in lower case."""
    held = dig(contact, "properties")
    return [e.lower() for e in (word(held, "email"), *word(held, "hs_additional_emails").split(";")) if e]


def _ids(contact: Mapping[str, Any]) -> list[str]:
    """Its id and those of the contacts merged into it: a merge gives a new one, and the old ones lead there (2025)."""
    merged = word(contact, "properties", "hs_merged_object_ids").split(";")
    return [id_ for id_ in (word(contact, "id"), *merged) if id_]
