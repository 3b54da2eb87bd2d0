"""What would change between two configurations, and how `storecue plan` shows it. Pure; no secret is in it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from connector.config.entries import KINDS, Entry, entries_of, same
from connector.config.secrets import is_encrypted, is_reference
from connector.domain import ADMIN_SECRETS, Configuration, Json

Action = Literal["create", "update", "delete", "reorder"]


@dataclass(frozen=True, slots=True)
class ValueChange:
    """One value of an object, before and after; None is none. `name` such as `credentials.api_key`, masked."""

    name: str
    old: Json
    new: Json


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """One configured object to create, update or delete, or one kind's objects to reorder (`name` is empty)."""

    action: Action
    kind: str
    name: str
    values: tuple[ValueChange, ...] = ()


def diff(current: Configuration, wanted: Configuration) -> list[ConfigChange]:
    """What turns `current` into `wanted`, kind by kind: new and changed objects in their order, then deletions."""
    old, new = _by_kind(current), _by_kind(wanted)
    return [change for kind in KINDS for change in _of_kind(kind, old.get(kind, {}), new.get(kind, {}))]


def render(changes: list[ConfigChange]) -> str:
    """The changes as text for people: a line per object (+ new, ~ changed, - deleted), its values indented below."""
    if not changes:
        return "Nothing to change."
    lines: list[str] = []
    for change in changes:
        alone = change.kind in ("store", "identity") or not change.name
        title = change.kind if alone else f"{change.kind} {change.name}"
        if change.action == "reorder":
            title = f"order of the {change.kind}s"
        lines.append(f"{_SIGNS[change.action]} {title}")
        lines += [f"    {value.name}: {_shown(change.action, value)}" for value in change.values]
    counts = {action: sum(change.action == action for change in changes) for action in _SIGNS}
    lines += ["", f"{counts['create']} to create, {counts['update']} to change, {counts['delete']} to delete"]
    return "\n".join(lines)


_SIGNS: dict[Action, str] = {"create": "+", "update": "~", "delete": "-", "reorder": "~"}


def _shown(action: Action, value: ValueChange) -> str:
    return _text(value.new) if action == "create" else f"{_text(value.old)} -> {_text(value.new)}"


def _text(value: Json) -> str:
    if value is None:
        return "(none)"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _by_kind(configuration: Configuration) -> dict[str, dict[str, Entry]]:
    found: dict[str, dict[str, Entry]] = {}
    for entry in entries_of(configuration):
        found.setdefault(entry.kind, {})[entry.name] = entry
    return found


def _of_kind(kind: str, old: Mapping[str, Entry], new: Mapping[str, Entry]) -> Iterator[ConfigChange]:
    for name, entry in new.items():
        before = old[name].definition if name in old else {}
        values = tuple(_value_changes(before, entry.definition))
        if name not in old:
            yield ConfigChange("create", kind, name, tuple(value for value in values if value.new not in (None, False)))
        elif values:
            yield ConfigChange("update", kind, name, values)
    for name in old:
        if name not in new:
            yield ConfigChange("delete", kind, name)
    before_order, after_order = [name for name in old if name in new], [name for name in new if name in old]
    if before_order != after_order:
        yield ConfigChange(
            "reorder", kind, "", (ValueChange("order", ", ".join(before_order), ", ".join(after_order)),)
        )


def _value_changes(old: Mapping[str, Json], new: Mapping[str, Json]) -> Iterator[ValueChange]:
    before, after = dict(_spread(old)), dict(_spread(new))
    for name in dict.fromkeys([*after, *before]):
        left, right = before.get(name), after.get(name)
        if not same(left, right):
            yield ValueChange(name, _masked(name, left), _masked(name, right, left))


def _spread(definition: Mapping[str, Json]) -> Iterator[tuple[str, Json]]:
    """The values of an object, those of its credentials, secrets and options one by one."""
    for name, value in definition.items():
        if name in ("credentials", "options", "admin") and value:
            yield from ((f"{name}.{key}", item) for key, item in value.items())
        elif name == "secrets":
            yield from ((f"{name}.{index}", item) for index, item in enumerate(value))
        else:
            yield name, value


_ADMIN_SECRETS = tuple(f"admin.{key}" for key in ADMIN_SECRETS)


def _masked(name: str, value: Json, before: Json = None) -> Json:
    secret = name.startswith(("credentials.", "secrets.")) or name in _ADMIN_SECRETS
    if not secret or value is None or is_reference(value):
        return value
    if not is_encrypted(value):
        return "(a secret)"
    return "(encrypted, another)" if before is not None and is_encrypted(before) else "(encrypted)"
