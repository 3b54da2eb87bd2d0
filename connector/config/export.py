"""A configuration written back as storecue.yaml. Secrets stay references or encrypted values."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import yaml

from connector.config import field_types
from connector.config.entries import entries_of
from connector.config.kinds import Kinds, creation_policy, known_kinds
from connector.config.yaml_file import IMPLICIT_TYPES
from connector.domain import AdminConfig, Configuration, Json, VerifyConfig

_SECTIONS = {
    "source": "sources",
    "destination": "destinations",
    "stream": "streams",
    "field": "fields",
    "segment": "segments",
}
_DESTINATION_DEFAULTS: dict[str, Json] = {
    "credentials": {},
    "list_id": None,
    "base_url": None,
    "allow_insecure": False,
    "dry_run": False,
    "segments": None,
    "lists": False,
    "events": False,
    "backfill": False,
    "duplicates": "leave",
    "at_most_every": "1m",
    "wait_for_more": False,
    "options": {},
    "verify": asdict(VerifyConfig()),
    "engagement": None,
}

_ADMIN_DEFAULTS = (None, False, AdminConfig("").version)


def to_yaml(configuration: Configuration, kinds: Kinds | None = None) -> str:
    """YAML text that means this configuration again, in its order; what is the default is left out."""
    kinds = kinds or known_kinds()
    file: dict[str, Any] = {"version": 1}
    for kind, name, definition in entries_of(configuration):
        defaults = _defaults(kind, name, definition, kinds)
        written = {key: value for key, value in definition.items() if key not in defaults or value != defaults[key]}
        if written.get("admin"):
            written["admin"] = {key: value for key, value in written["admin"].items() if value not in _ADMIN_DEFAULTS}
        if kind in _SECTIONS:
            file.setdefault(_SECTIONS[kind], {})[name] = written
        else:
            file[kind] = written
    text: str = yaml.dump(file, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)
    return text


def _defaults(kind: str, name: str, definition: Mapping[str, Json], kinds: Kinds) -> Mapping[str, Json]:
    if kind == "destination":
        known = kinds.destinations.get(definition["kind"])
        return _DESTINATION_DEFAULTS | ({"create_contacts": creation_policy(known)} if known else {})
    if kind == "source":
        return {"browser": None, "shop": None, "silent_after": None, "options": {}, "admin": None}
    if kind == "stream":
        return {"into": None, "publish": [], "credentials": {}, "options": {}}
    if kind == "field":
        guessed = {"type": field_types.type_of(definition["from"]), "label": field_types.label_of(name)}
        return {**guessed, "destinations": None}
    return {}


class _Dumper(yaml.SafeDumper):
    """Quotes whatever YAML 1.1 or 1.2 would not read as a text, indents lists, and writes no aliases."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # PyYAML 6.0.3 writes next line and the line separators as they are in single quotes, and reads them as line ends.
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _text)
for _tag, _pattern, _first in IMPLICIT_TYPES:
    _Dumper.add_implicit_resolver(_tag, _pattern, _first)
