"""What is wrong with the streams of a configuration: what each kind takes, where it reads to, what it publishes."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from connector.config.yaml_file import nearest
from connector.streams import BROKERS
from connector.streams.port import Takes

_Found = Iterator[tuple[str, str]]


def stream_problems(streams: Mapping[str, Any], sources: Mapping[str, Any]) -> _Found:
    """Problems as (JSON pointer, message)."""
    for name, entry in streams.items():
        here = f"/streams/{name}"
        if (entry["into"] is None) == (not entry["publish"]):
            yield here, "needs one of the two: into, the source that it is read to, or publish, what is written to it"
        elif entry["into"] is not None and entry["into"] not in sources:
            yield f"{here}/into", f'there is no source "{entry["into"]}"; {nearest(entry["into"], list(sources))}'
        broker = BROKERS.get(entry["kind"])
        if broker is None:
            known = nearest(entry["kind"], list(BROKERS))
            yield f"{here}/kind", f'"{entry["kind"]}" is not a kind of stream; {known}'
            continue
        yield from _kind_problems(here, entry, broker.takes)


def _kind_problems(here: str, entry: Mapping[str, Any], takes: Takes) -> _Found:
    kind = entry["kind"]
    if not re.fullmatch(takes.topic.pattern, entry["topic"], re.ASCII):
        yield f"{here}/topic", f"must look like {takes.topic.example}"
    for name in takes.needs:
        if name not in entry["credentials"]:
            hint = f'{{{name}: "env:NAME"}}, where NAME is an environment variable'
            yield f"{here}/credentials/{name}", f"is missing; {kind} needs it: {hint}"
    for key, known in (("credentials", [*takes.needs, *takes.credentials]), ("options", list(takes.options))):
        for name in entry[key]:
            if name not in known:
                yield f"{here}/{key}/{name}", f"is not known to {kind}; {nearest(name, known)}"
    for name, option in takes.options.items():
        if name in entry["options"] and not re.fullmatch(option.pattern, entry["options"][name], re.ASCII):
            yield f"{here}/options/{name}", f"must look like {option.example}"
