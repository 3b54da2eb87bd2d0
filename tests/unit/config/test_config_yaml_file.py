import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.config.yaml_file import MAX_BYTES, InvalidConfiguration, parse, read
from connector.errors import ConfigurationError


def message_of(text):
    with pytest.raises(InvalidConfiguration) as caught:
        parse(text)
    return str(caught.value)


def test_scalars_are_those_of_yaml_1_2():
    text = """
    country: NO
    flag: on
    time: 12:30
    revision: 2026-10-15
    octal: 010
    number: -3
    decimal: 1.5e3
    yes: true
    nothing:
    tilde: ~
    infinity: .inf
    hex: 0x10
    =: plain
    <: plain
    """
    assert parse(text).value == {
        "country": "NO",
        "flag": "on",
        "time": "12:30",
        "revision": "2026-10-15",
        "octal": 10,
        "number": -3,
        "decimal": 1500.0,
        "yes": True,
        "nothing": None,
        "tilde": None,
        "infinity": ".inf",
        "hex": "0x10",
        "=": "plain",
        "<": "plain",
    }


def test_every_value_has_its_line():
    document = parse("a:\n  - x\n  - {b: 1,\n     c/d~e: 2}\n\nf:\n\n  g: 3\n")
    assert {pointer: document.line(pointer) for pointer in ("/a", "/a/0", "/a/1", "/a/1/c~1d~0e", "/f", "/f/g")} == {
        "/a": 1,
        "/a/0": 2,
        "/a/1": 3,
        "/a/1/c~1d~0e": 4,
        "/f": 6,
        "/f/g": 8,
    }
    assert document.line("/f/missing/deep") == 6
    assert document.line("/missing") == 1


def test_aliases_are_written_out():
    assert parse("a: &x [1]\nb: *x").value == {"a": [1], "b": [1]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "storecue.yaml:1: is empty; it must start with `version: 1`"),
        ("# nothing\n", "storecue.yaml:1: is empty; it must start with `version: 1`"),
        ("a: 1\nb: 2\na: 3", "storecue.yaml:3 /a: is given twice, first in line 1; keep one of them"),
        ("x:\n  y: {b: 1, b: 2}", "storecue.yaml:2 /x/y/b: is given twice, first in line 2; keep one of them"),
        ("a:\n\tb: 1", "storecue.yaml:2: a tab cannot indent or start a value in YAML; use spaces"),
        ("a: 1\nb: {x: 1, >: 5}", 'storecue.yaml:2: an operator that starts with > must be in quotes, such as ">="'),
        ("a:\n  >=: 5", 'storecue.yaml:2: an operator that starts with > must be in quotes, such as ">="'),
        (
            "a: {trait: x, !=: 5}",
            "storecue.yaml:1 /a: !=: is a YAML tag, which is not supported; an operator such as != must be in quotes",
        ),
        (
            "a: !!python/object/apply:os.system [id]",
            "storecue.yaml:1 /a: !!python/object/apply:os.system is a YAML tag, which is not supported; "
            "an operator such as != must be in quotes",
        ),
        ("a: 1\n---\nb: 2", "storecue.yaml:2: must be one document; remove the line --- and what follows it"),
        ("a:\n- &x [*x]", "storecue.yaml:2 /a/0/0: contains itself through an alias (*name)"),
        (
            "a: *b",
            "storecue.yaml:1: this alias (*name) has no anchor (&name) above it; a text starting with * needs quotes",
        ),
        ("a: &x {}\nb:\n  <<: *x", "storecue.yaml:3 /b/<<: merge keys (<<) are not supported; write the keys out"),
        ("? [a]\n: 1", "storecue.yaml:1: has a list or an object where the name of a key is expected"),
        ("a: b: c", "storecue.yaml:1: a colon starts a second value here; put the text in quotes, or indent"),
        ("a: @b", "storecue.yaml:1: a text that starts with @ must be in quotes"),
        ("a: 1\nb: c\x07", "storecue.yaml:2: has the control character #x07; remove it"),
        (
            'a: "\\0"',
            "storecue.yaml:1 /a: has a character that is no text (NUL or half of a surrogate pair); remove it",
        ),
        (
            'a: "\\ud83d"',
            "storecue.yaml:1 /a: has a character that is no text (NUL or half of a surrogate pair); remove it",
        ),
        ("a: 1e400", "storecue.yaml:1 /a: 1e400 is too large a number; if it is an id, write it in quotes"),
        (
            "a: 9223372036854775808",
            "storecue.yaml:1 /a: 9223372036854775808 is too large a number; if it is an id, write it in quotes",
        ),
        ("[" * 100, "storecue.yaml:1: is nested deeper than 80 levels"),
        ("x: 1\n" + " " * MAX_BYTES, "storecue.yaml: is larger than 1024 KB"),
    ],
)
def test_an_error_says_where_and_what_would_be_right(text, message):
    assert message_of(text) == message


def test_a_bomb_of_aliases_is_refused_before_it_is_large():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert "has more than 50000 values once its aliases (*name) are written out" in message_of("\n".join(lines))


def test_a_tower_of_aliases_is_refused():
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 100)]
    assert "is nested deeper than 80 levels once its aliases" in message_of("\n".join(lines))


def test_files(tmp_path):
    path = tmp_path / "storecue.yaml"
    with pytest.raises(ConfigurationError, match=r"storecue.yaml: cannot be read: No such file"):
        read(path)
    path.write_bytes(b"\xef\xbb\xbfa: 1")  # a byte order mark, as Windows editors leave it
    assert read(path).value == {"a": 1}
    assert read(path).folder == tmp_path
    path.write_bytes(b"a: 1\nb: \xe9")
    with pytest.raises(InvalidConfiguration, match=r"storecue.yaml:2: is not UTF-8 text; save it as UTF-8"):
        read(path)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    try:
        value = parse(text).value
    except InvalidConfiguration as error:
        assert error.problems[0].line >= 1
    else:
        json.dumps(value, allow_nan=False).encode("utf-8")


@given(st.text(alphabet="ab:- []{}&*!|>'\"%@\n#,?=<~0.e\t", max_size=40))
def test_any_punctuation_is_read_or_refused(text):
    try:
        parse(text)
    except InvalidConfiguration as error:
        assert error.problems[0].line >= 1
