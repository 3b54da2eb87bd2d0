"""`where`: which events a condition means, by their properties.

A property is the event's own or, where the event lists `products`, that of any product; several comparisons are met by
one and the same product. `!=` and `exists: false` mean that neither the event nor any of its products has the value.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from connector.domain import Json
from connector.segments.comparisons import Comparison, value_comparisons
from connector.segments.query import Item, Query, Rows, Value
from connector.segments.reading import Place, name

Properties = Mapping[str, Json]
Match = Callable[[Properties], bool]


class Filter(NamedTuple):
    """Comparisons of properties, all of which hold."""

    parts: tuple[tuple[str, Comparison], ...] = ()

    def match(self) -> Match | None:
        """The check of one event's properties; None when every event fits."""
        if not self.parts:
            return None
        positive = [(key, part.holds) for key, part in self.parts if not part.negative]
        negative = [(key, part.holds) for key, part in self.parts if part.negative]
        if len(self.parts) == 1 and positive:
            return _one(*positive[0])

        def match(properties: Properties) -> bool:
            products = [item for item in _products(properties) if isinstance(item, dict)]
            return _jointly(positive, properties, products) and all(
                holds(properties.get(key)) and all(holds(product.get(key)) for product in products)
                for key, holds in negative
            )

        return match

    def rows(self, event: str, query: Query, alias: str = "e") -> Rows:
        """The same as a test of a row."""
        column = f"{alias}.properties"
        positive = [(query.path(key), part) for key, part in self.parts if not part.negative]
        negative = [(query.path(key), part) for key, part in self.parts if part.negative]
        listed = query.path("products")
        products = query.dialect.items.format(column, listed)
        is_list = f"{query.dialect.kind.format(column, listed)} = 'array'"
        tests = []
        if positive:
            own = [part.sql(Value(query, column, path)) for path, part in positive]
            theirs = [part.sql(Item(query, "j", path)) for path, part in positive]
            either = [f"({a} OR {b})" if len(own) > 1 else b for a, b in zip(own, theirs, strict=True)]
            among = f"EXISTS (SELECT 1 FROM {products} AS j WHERE j.type = 'object' AND {' AND '.join(either)})"
            tests.append(f"({' AND '.join(own)} OR ({is_list} AND {among}))")
        for path, part in negative:
            other = f"(({part.sql(Item(query, 'j', path))}) IS NOT TRUE)"
            among = f"EXISTS (SELECT 1 FROM {products} AS j WHERE j.type = 'object' AND {other})"
            tests.append(f"({part.sql(Value(query, column, path))} AND NOT ({is_list} AND {among}))")
        return Rows(event, " AND ".join(tests))


def _products(properties: Properties) -> Sequence[Json]:
    products = properties.get("products")
    return products if isinstance(products, list) else ()


def _one(key: str, holds: Callable[[Json], bool]) -> Match:
    def match(properties: Properties) -> bool:
        if holds(properties.get(key)):
            return True
        products = properties.get("products")
        return isinstance(products, list) and any(
            isinstance(product, dict) and holds(product.get(key)) for product in products
        )

    return match


def _jointly(
    parts: Sequence[tuple[str, Callable[[Json], bool]]], properties: Properties, products: Sequence[Properties]
) -> bool:
    missing = [(key, holds) for key, holds in parts if not holds(properties.get(key))]
    return not missing or any(all(holds(product.get(key)) for key, holds in missing) for product in products)


def read_where(place: Place, where: Json) -> Filter:
    """The filter that stands under the key `where`."""
    if not isinstance(where, Mapping) or not where:
        raise place.wrong("where is a mapping of properties to values, such as {product_id: '632910392'}")
    parts = []
    for key, value in where.items():
        here = place.at(str(key))
        parts += [(name(here, key, "a property's name"), part) for part in value_comparisons(here, value).fixed]
    return Filter(tuple(parts))
