"""Nobody's address is shown, in whatever it stands."""

import pytest

from connector.sync.discretion import hidden, without_addresses


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("no such list", "no such list"),
        ("a@b.example", "(address)"),
        ("<a@b.example> is taken", "<(address)> is taken"),
        ("Ada (a@b.example), Bob (c@d.example)", "Ada ((address)), Bob ((address))"),
        ("a@b(c)d@e", "(address))(address)"),
        ("a@b>c@d", "(address)>(address)"),
        ("one@@two", "(address)"),
        ("at @ noon, x@ and @y", "at @ noon, x@ and @y"),
    ],
)
def test_addresses_are_left_out(text: str, shown: str) -> None:
    assert without_addresses(text) == shown


def test_values_of_every_shape() -> None:
    value = {"a": ["a@b.example", 1], "b": {"c": "to a@b.example"}, "d": None}
    assert hidden(value) == {"a": ["(address)", 1], "b": {"c": "to (address)"}, "d": None}


@pytest.mark.parametrize("end", ["", "@", "@)", " a@b.example", "@b.example"])
def test_a_long_word_takes_no_longer_than_its_length(end: str) -> None:
    """It took the square of it: an hour for this one."""
    word = "x" * 500_000
    assert without_addresses(word + end) == {"@b.example": "(address)", " a@b.example": word + " (address)"}.get(
        end, word + end
    )
