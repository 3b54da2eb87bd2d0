"""What counts as the same value when a vendor writes it back in its own way."""

import pytest

from adapters.values import as_wanted, same, text


@pytest.mark.parametrize(
    ("held", "written"),
    [
        (12.5, 12.5), (12, 12.0), ("12.50", 12.5), ("", None), (None, None), ([], None), (True, "true"), ("True", True),
        ("2026-11-21T10:00:00+00:00", "2026-11-21T10:00:00.000Z"),
        ("2026-11-21T11:00:00+01:00", "2026-11-21T10:00:00Z"),
        (["b", "a"], ["a", "b"]),
        ({"b": 1.0, "a": ["x"]}, {"a": ["x"], "b": 1}), ([{"b": 1, "a": 2}], [{"a": 2, "b": 1.0}]), ({}, None),
        ("0", 0), (0, 0.0),
    ],
)  # fmt: skip
def test_the_same(held: object, written: object) -> None:
    assert same(held, written)
    assert same(written, held)


@pytest.mark.parametrize(
    ("held", "written"),
    [
        (0, None), (False, None), ("0", ""), (12.5, 12), ("tent", 12), ("tent", "Tent"), ("007", "7"), (True, 1),
        ("2026-11-21T10:00:00Z", "2026-11-21T10:00:01Z"), ("T", "t"), (["a"], ["a", "b"]), ("Tuesday", "Thursday"),
        ({"city": "Wien"}, "Wien"), ({"city": "Wien"}, {"city": "Graz"}),
        ([{"n": 1}, {"n": 2}], [{"n": 2}, {"n": 1}]), ("NaN", 1),
    ],
)  # fmt: skip
def test_not_the_same(held: object, written: object) -> None:
    assert not same(held, written)
    assert not same(written, held)


def test_lists_and_objects_as_text() -> None:
    assert text(["tent", 12.5, True]) == "tent, 12.5, true"
    assert text([{"b": 1, "a": "x"}]) == '{"a":"x","b":1}'


def test_the_wanted_value_itself_comes_back_or_what_is_there() -> None:
    wanted = "2026-11-21T10:00:00Z"
    assert as_wanted("2026-11-21", "2026-11-21", wanted) == wanted
    assert as_wanted("2026-11-22", "2026-11-21", wanted) == "2026-11-22"
    assert as_wanted("", "tent", "tent") is None
