"""What is wrong with the segments' rules, at the place where it is written."""

from collections.abc import Iterator, Mapping

from connector.domain import SegmentConfig, StoreInfo


def rule_problems(segments: Mapping[str, SegmentConfig], store: StoreInfo) -> Iterator[tuple[str, str]]:
    """Problems as (JSON pointer, message), one per segment."""
    yield from ()
