"""Custom events of HubSpot (Enterprise): defined at their first use, sent with an id that makes a repeat harmless."""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from adapters.destination import Clock, Cue, Outcome
from adapters.http import Http
from adapters.outcomes import bisect, chunked, in_turn, refuse
from adapters.shape import records, word
from adapters.values import instant, slug, text

_BATCH = 500
_LONGEST_NAME, _LONGEST_VALUE = 50, 256
_DAY = 86_400.0


class Events:
    """Cues as custom events. `wanted`: the operator says that the plan has them; a 403 has the last word for a day."""

    def __init__(self, http: Http, version: str, clock: Clock, wanted: bool) -> None:
        self._http = http
        self._path = f"/events/{version}"
        self._clock = clock
        self._wanted = wanted
        self._look_again = 0.0
        self._names: dict[str, str] = {}
        self._properties: dict[str, set[str]] = {}

    def offered(self) -> bool:
        return self._wanted and self._clock.time() >= self._look_again

    def not_in_plan(self) -> None:
        """A 403 came: nothing is asked for a day. A restart asks once more."""
        self._look_again = self._clock.time() + _DAY

    def check(self) -> bool:
        """Whether this key and plan may send events; True as well when none are wanted."""
        if not self._wanted:
            return True
        path = f"{self._path}/event-definitions"
        return self._http.call("GET", path, query={"limit": 1}, expect=(403,)).status != 403

    def send(self, cues: Sequence[Cue], portal: Callable[[], str]) -> list[Outcome]:
        """One Outcome per cue. `portal` asks for the account's id, which is in the name of every event."""
        for name in sorted({cue.name for cue in cues}):
            self._define(name, portal, {slug(word) for cue in cues if cue.name == name for word in cue.properties})
        return in_turn((piece, self._complete) for piece in chunked(cues, _BATCH))

    def _define(self, name: str, portal: Callable[[], str], words: set[str]) -> None:
        """Makes the event exist with properties of these names."""
        if name not in self._names:
            body = {
                "label": name[:_LONGEST_NAME],
                "name": slug(name)[:_LONGEST_NAME],
                "primaryObject": "CONTACT",
                "includeDefaultProperties": True,
                "propertyDefinitions": [_property(word) for word in sorted(words)],
            }
            answer = self._http.call("POST", f"{self._path}/event-definitions", body=body, expect=(409,))
            full, known = word(answer.data, "fullyQualifiedName") or f"pe{portal()}_{body['name']}", words
            if answer.status == 409:
                answer = self._http.call("GET", f"{self._path}/event-definitions/{full}")
                known = {word(held, "name") for held in records(answer.data, "properties")}
            self._names[name], self._properties[name] = full, known
        for missing in sorted(words - self._properties[name]):
            path = f"{self._path}/event-definitions/{self._names[name]}/property"
            self._http.call("POST", path, body=_property(missing), expect=(409,))
        self._properties[name] = self._properties[name] | words

    def _complete(self, cues: Sequence[Cue]) -> list[Outcome]:
        def send(some: Sequence[Cue]) -> list[Outcome]:
            inputs = [self._completion(cue) for cue in some]
            path, body = ("/send", inputs[0]) if len(inputs) == 1 else ("/send/batch", {"inputs": inputs})
            self._http.call("POST", self._path + path, body=body)
            return [Outcome(cue.key, "applied", remote_id=cue.remote_id) for cue in some]

        return bisect(cues, send, refuse)

    def _completion(self, cue: Cue) -> dict[str, Any]:
        return {
            "eventName": self._names[cue.name],
            "uuid": str(uuid5(NAMESPACE_URL, f"storecue:{cue.key}")),  # HubSpot drops a repeat for a year
            "occurredAt": instant(cue.at),
            "properties": {slug(name): text(value)[:_LONGEST_VALUE] for name, value in cue.properties.items()},
            **({"objectId": cue.remote_id} if cue.remote_id else {"email": cue.email}),
        }


def _property(name: str) -> dict[str, str]:
    return {"name": name, "label": name, "type": "string"}
