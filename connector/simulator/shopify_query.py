"""GraphQL as far as the fake Admin API needs it: what a query selects and with what, and that part of an object."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[A-Za-z_][A-Za-z0-9_]*|-?[0-9]+|[{}()\[\]:!$]')


@dataclass
class Field:
    """One selected field: `alias` is its name in the answer; `wants` what is selected of its value, by alias."""

    name: str
    alias: str
    arguments: dict[str, Any] = field(default_factory=dict)
    wants: "dict[str, Field]" = field(default_factory=dict)


def parse(query: str, variables: Mapping[str, Any] = {}) -> tuple[bool, dict[str, Field]]:
    """Whether it is a mutation, and what is selected at the root. ValueError or IndexError for what is no query."""
    tokens = _TOKEN.findall(query)
    mutation = tokens[0] == "mutation"
    at, depth = 0, 0
    while tokens[at] != "{" or depth:
        depth += {"(": 1, ")": -1}.get(tokens[at], 0)
        at += 1
    return mutation, _Reading(tokens, at, variables).selection()


class _Reading:
    def __init__(self, tokens: list[str], at: int, variables: Mapping[str, Any]) -> None:
        self._tokens, self._at, self._variables = tokens, at, variables

    def take(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1]

    def peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def selection(self) -> dict[str, Field]:
        found: dict[str, Field] = {}
        if self.take() != "{":
            raise ValueError("a selection begins with {")
        while self.peek() != "}":
            name = alias = self.take()
            if self.peek() == ":":
                self.take()
                name = self.take()
            one = Field(name, alias)
            if self.peek() == "(":
                self.take()
                while self.peek() != ")":
                    key, _ = self.take(), self.take()
                    one.arguments[key] = self.value()
                self.take()
            if self.peek() == "{":
                one.wants = self.selection()
            found[alias] = one
        self.take()
        return found

    def value(self) -> Any:
        token = self.take()
        if token == "$":
            return self._variables.get(self.take())
        if token.startswith('"'):
            return token[1:-1].replace('\\"', '"')
        if token == "{":
            found = {}
            while self.peek() != "}":
                key, _ = self.take(), self.take()
                found[key] = self.value()
            self.take()
            return found
        if re.fullmatch(r"-?[0-9]+", token):
            return int(token)
        return {"true": True, "false": False, "null": None}.get(token, token)


def pick(value: Any, wants: Mapping[str, Field]) -> Any:
    """What is selected of a value; a field that it lacks is null, a connection holds at most `first`."""
    if isinstance(value, list):
        return [pick(one, wants) for one in value]
    if not isinstance(value, dict) or not wants:
        return value
    found = {}
    for alias, one in wants.items():
        inner = value.get(one.name)
        first = one.arguments.get("first")
        if isinstance(inner, dict) and isinstance(inner.get("nodes"), list) and first is not None:
            inner = {**inner, "nodes": inner["nodes"][:first]}
        elif isinstance(inner, list) and first is not None:
            inner = inner[:first]
        if one.name == "edges" and inner is None and "nodes" in value:
            inner = [{"node": node} for node in value["nodes"]]
        found[alias] = pick(inner, one.wants)
    return found


def cost(wants: Mapping[str, Field]) -> int:
    """About what Shopify charges: a point for an object, for a connection as often as it may have members."""
    total = 0
    for one in wants.values():
        if not one.wants:
            continue
        first = one.arguments.get("first")
        total += 2 + int(first) * (1 + cost(one.wants)) if isinstance(first, int) else 1 + cost(one.wants)
    return total
