"""What people say about being written to."""

from collections.abc import Mapping, Sequence

from connector.clock import Millis
from connector.pipeline.batch import Batch, Meant
from connector.pipeline.timeline import change
from connector.profiles import consent
from connector.profiles.store import Person


def apply_consent(meant: Sequence[Meant], persons: Mapping[int, Person], batch: Batch, now: Millis) -> None:
    """Change `persons` by the consents in `meant`, in their order."""
    for one in meant:
        if not one.normalised.consents or one.person is None:
            continue
        with batch.stumbles.of(one.record):
            person = persons[one.person]
            after = consent.apply(person.consent, one.normalised.consents, one.delivery.source)
            for channel, word in after.items():
                before = person.consent.get(channel, {}).get("state", "unknown")
                if before != word["state"]:
                    data = {"channel": channel, "from": before, "to": word["state"], "source": word["source"]}
                    batch.changes.append(change(person.id, "consent", data, now))
            if after != person.consent:
                person.consent, person.changed = after, True
