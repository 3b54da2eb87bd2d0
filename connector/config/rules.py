"""What is wrong with the segments' rules, at the place where it is written."""

from collections.abc import Iterator, Mapping

from connector.domain import SegmentConfig, StoreInfo
from connector.errors import DefinitionError
from connector.segments.definition import parse, read
from connector.segments.reading import Place


def rule_problems(segments: Mapping[str, SegmentConfig], store: StoreInfo) -> Iterator[tuple[str, str]]:
    """Problems as (JSON pointer, message): the first of each rule, or else a circle of segments."""
    sound = True
    for id, segment in segments.items():
        try:
            read(Place("/segments", store, segments.keys()).at(id).at("when"), segment.when)
        except DefinitionError as error:
            sound = False
            yield error.pointer, error.message
    if sound:
        try:
            parse(segments, store)
        except DefinitionError as error:
            yield error.pointer, error.message
