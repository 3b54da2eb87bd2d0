"""storecue.yaml as plain values, with the line of every one of them.

Scalars are read as YAML 1.2 reads them, not 1.1: `NO` is Norway, `12:30` and `2026-10-15` are texts, 010 is ten.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import yaml
from yaml.composer import Composer, ComposerError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from connector.domain import Json
from connector.errors import ConfigurationError

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 80  # rules may be nested 30 deep, at two levels each
MAX_VALUES = 50_000  # after aliases are written out: what a bomb of them would exceed

_TAG = "tag:yaml.org,2002:"
_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong: where (JSON pointer; line, 0 when unknown) and what would be right."""

    pointer: str
    message: str
    line: int = 0


class InvalidConfiguration(ConfigurationError):
    """The configuration is not valid; `problems` in the order of their lines, the message has one line for each."""

    def __init__(self, problems: list[Problem], origin: str = "") -> None:
        self.problems = sorted(problems, key=lambda problem: problem.line)
        super().__init__("\n".join(_sentence(problem, origin) for problem in self.problems))


@dataclass(frozen=True, slots=True)
class Document:
    """A configuration as it was written. `lines` by JSON pointer; `origin` names the file; `folder` is where it lies,
    from which its relative `file:` references are counted."""

    value: Json
    lines: Mapping[str, int] = field(default_factory=dict)
    origin: str = ""
    folder: Path | None = None

    def line(self, pointer: str) -> int:
        """The line of the value at a JSON pointer, or of the nearest thing around it; 0 when unknown."""
        while pointer and pointer not in self.lines:
            pointer = pointer.rpartition("/")[0]
        return self.lines.get(pointer, 0)

    def invalid(self, problems: list[tuple[str, str]]) -> InvalidConfiguration:
        """The error for these (pointer, message) pairs, with their lines."""
        return InvalidConfiguration(
            [Problem(pointer, message, self.line(pointer)) for pointer, message in problems], self.origin
        )


def read(path: Path) -> Document:
    """The document in a file. Raises InvalidConfiguration, or ConfigurationError when it cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    return parse(data, origin=str(path), folder=path.absolute().parent)


def parse(data: bytes | str, *, origin: str = "storecue.yaml", folder: Path | None = None) -> Document:
    """The document in a YAML text. Raises InvalidConfiguration."""
    if len(data) > MAX_BYTES:
        raise InvalidConfiguration([Problem("", f"is larger than {MAX_BYTES // 1024} KB")], origin)
    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
        node = _Loader(text).get_single_node()
        if node is None:
            raise _Fault("is empty; it must start with `version: 1`", 1)
        reading = _Reading()
        value = reading.value(node, "")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InvalidConfiguration([Problem("", "is not UTF-8 text; save it as UTF-8", line)], origin) from None
    except ReaderError as error:
        line = text[: error.position].count("\n") + 1
        message = f"has the control character #x{error.character:02x}; remove it"
        raise InvalidConfiguration([Problem("", message, line)], origin) from None
    except yaml.MarkedYAMLError as error:
        raise InvalidConfiguration([_explained(error)], origin) from None
    except _Fault as fault:
        raise InvalidConfiguration([Problem(fault.pointer, fault.message, fault.line)], origin) from None
    return Document(value, reading.lines, origin, folder)


def escaped(key: str) -> str:
    """A key as one step of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")


def nearest(word: str, known: list[str]) -> str:
    """`did you mean "x"?` for a word that is close to a known one, else the list of the known ones."""
    close = get_close_matches(word, known, n=1, cutoff=0.6)
    return f'did you mean "{close[0]}"?' if close else f"use one of {', '.join(known)}" if known else "there are none"


def _sentence(problem: Problem, origin: str) -> str:
    place = f"{origin}:{problem.line}" if origin and problem.line else origin
    separator = " " if problem.pointer else ": "
    where = separator.join(part for part in (place, problem.pointer) if part) if place else problem.pointer
    return f"{where}: {problem.message}" if where else problem.message


# --- reading ---------------------------------------------------------------------------------------------------------


class _Fault(Exception):
    def __init__(self, message: str, line: int, pointer: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.pointer = pointer


IMPLICIT_TYPES = tuple(
    (_TAG + tag, re.compile(rf"^(?:{pattern})\Z"), first)
    for tag, pattern, first in (
        ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
        ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
        ("int", r"[-+]?[0-9]+", list("-+0123456789")),
        ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+0123456789.")),
    )
)
"""What a plain scalar is, as (tag, pattern, first characters): YAML 1.2's core schema without infinities."""


class _Resolver(BaseResolver):
    """YAML 1.2's core schema: what a plain scalar is."""


for _implicit in IMPLICIT_TYPES:
    _Resolver.add_implicit_resolver(*_implicit)


class _Loader(Reader, Scanner, Parser, Composer, _Resolver):
    """PyYAML up to the tree of nodes; nothing that constructs objects is in it."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        _Resolver.__init__(self)
        self._depth = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _Fault(f"is nested deeper than {MAX_DEPTH} levels", self.line + 1)
        node: Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Reading:
    """The walk from nodes to values that notes the lines. Aliases are written out, so they are counted as often."""

    def __init__(self) -> None:
        self.lines: dict[str, int] = {}
        self._count = 0
        self._open: list[Node] = []  # the way down to here: an alias of one of these has no end

    def value(self, node: Node, pointer: str) -> Json:
        line = node.start_mark.line + 1
        self.lines.setdefault(pointer, line)
        self._count += 1
        if self._count > MAX_VALUES:
            raise _Fault(f"has more than {MAX_VALUES} values once its aliases (*name) are written out", line)
        if len(self._open) > MAX_DEPTH:
            raise _Fault(f"is nested deeper than {MAX_DEPTH} levels once its aliases (*name) are written out", line)
        if any(node is above for above in self._open):
            raise _Fault("contains itself through an alias (*name)", line, pointer)
        self._open.append(node)
        value: Json
        if isinstance(node, MappingNode):
            value = self.mapping(node, pointer)
        elif isinstance(node, SequenceNode):
            _expect_tag(node, "seq", pointer)
            value = [self.value(item, f"{pointer}/{index}") for index, item in enumerate(node.value)]
        else:
            value = _scalar(node, pointer)
        self._open.pop()
        return value

    def mapping(self, node: MappingNode, pointer: str) -> dict[str, Json]:
        _expect_tag(node, "map", pointer)
        result: dict[str, Json] = {}
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                raise _Fault("has a list or an object where the name of a key is expected", line, pointer)
            if key_node.tag.removeprefix(_TAG) not in _SCALARS:
                raise _tagged(key_node, pointer)
            key = key_node.value
            _expect_clean(key, line, pointer)
            below = f"{pointer}/{escaped(key)}"
            if key == "<<" and key_node.style is None:
                raise _Fault("merge keys (<<) are not supported; write the keys out", line, below)
            if key in result:
                raise _Fault(f"is given twice, first in line {first[key]}; keep one of them", line, below)
            first[key] = line
            self.lines[below] = line
            result[key] = self.value(value_node, below)
        return result


def _scalar(node: Node, pointer: str) -> Json:
    line = node.start_mark.line + 1
    text = node.value
    _expect_clean(text, line, pointer)
    read = _SCALARS.get(node.tag.removeprefix(_TAG))
    if read is None:
        raise _tagged(node, pointer)
    try:
        return read(text)
    except ValueError:
        message = f"{text[:40]} is too large a number; if it is an id, write it in quotes"
        raise _Fault(message, line, pointer) from None


def _whole(text: str) -> int:
    if len(text) > 20 or abs(int(text)) > _LARGEST:
        raise ValueError
    return int(text)


def _decimal(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


_SCALARS: dict[str, Callable[[str], Json]] = {
    "null": lambda text: None,
    "bool": lambda text: text.lower() == "true",
    "int": _whole,
    "float": _decimal,
    "str": str,
}


def _expect_tag(node: Node, tag: str, pointer: str) -> None:
    if node.tag != _TAG + tag:
        raise _tagged(node, pointer)


def _tagged(node: Node, pointer: str) -> _Fault:
    written = node.tag.replace(_TAG, "!!")
    message = f"{written} is a YAML tag, which is not supported; an operator such as != must be in quotes"
    return _Fault(message, node.start_mark.line + 1, pointer)


def _expect_clean(text: str, line: int, pointer: str) -> None:
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise _Fault("has a character that is no text (NUL or half of a surrogate pair); remove it", line, pointer)


# What PyYAML says > what to do about it. Its own sentence is kept for everything else.
_HINTS = (
    ("'\\t'", "a tab cannot indent or start a value in YAML; use spaces"),
    ("found character '>'", 'an operator that starts with > must be in quotes, such as ">="'),
    ("expected the node content, but found '>'", 'an operator that starts with > must be in quotes, such as ">="'),
    ("found character '@'", "a text that starts with @ must be in quotes"),
    ("found character '`'", "a text that starts with ` must be in quotes"),
    ("found character '%'", "a text that starts with % must be in quotes"),
    ("chomping or indentation indicators", 'an operator that starts with > must be in quotes, such as ">="'),
    ("expected a single document", "must be one document; remove the line --- and what follows it"),
    ("found undefined alias", "this alias (*name) has no anchor (&name) above it; a text starting with * needs quotes"),
    ("found duplicate anchor", "an anchor (&name) is given twice; rename one of them"),
    ("mapping values are not allowed here", "a colon starts a second value here; put the text in quotes, or indent"),
    ("could not find expected ':'", "a key without a colon and a space after it"),
)


def _explained(error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    said = ", ".join(part for part in (error.context, error.problem) if part)
    said = said if isinstance(error, ComposerError) or not error.note else f"{said} ({error.note})"
    hint = next((hint for words, hint in _HINTS if words in said), None)
    return Problem("", hint or f"is not YAML: {said}", mark.line + 1 if mark else 0)
