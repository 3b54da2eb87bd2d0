"""A source that starts to send unknown or retyped fields is noticed: a sample of its deliveries is looked at."""

from collections import Counter
from collections.abc import Iterable

import orjson
from sqlalchemy import Connection

from connector.clock import SECOND, Millis
from connector.domain import Delivery
from connector.quality import store
from connector.quality.shape import shape
from connector.quality.store import Topic

LEARNING = 100
"""Deliveries of a topic that are all looked at, before anything in it can be news."""

_EVERY: Millis = SECOND  # of those that come after, one in this time: a look takes as long as two orders
_MOST_PATHS = 2_000  # of one topic: beyond it the sender makes up names, and nothing can be said


class ShapeWatch:
    """Looks at deliveries as they are worked off. What it knows is read once per topic and process."""

    def __init__(self) -> None:
        self._known: dict[Topic, set[tuple[str, str]]] = {}
        self._looked: Counter[Topic] = Counter()
        self._looked_at: dict[Topic, Millis] = {}

    def look(self, tx: Connection, deliveries: Iterable[Delivery], now: Millis) -> dict[tuple[str, str], int]:
        """Learn the shapes of these deliveries, and note what is new in them, in the caller's transaction. Returned is
        what to add to the counters.

        A transaction that fails takes the notes along, and this process believes that they are made: they are found
        again by the next one.
        """
        looked: Counter[Topic] = Counter()
        for delivery in deliveries:
            topic = (delivery.source, delivery.topic)
            known = self._of(tx, topic)
            learned = self._looked[topic] >= LEARNING
            if learned and now - self._looked_at.get(topic, 0) < _EVERY:
                continue
            self._looked_at[topic] = now
            try:
                pairs = shape(orjson.loads(delivery.body))
            except orjson.JSONDecodeError:  # a form, say: its source knows what to make of it
                continue
            news = pairs - known
            if news and len(known) < _MOST_PATHS:
                store.add(tx, topic, news, notice=learned, delivery_id=delivery.id, now=now)
                known |= news
            self._looked[topic] += 1
            looked[topic] += 1
        return {store.counted(topic): count for topic, count in looked.items()}

    def _of(self, tx: Connection, topic: Topic) -> set[tuple[str, str]]:
        known = self._known.get(topic)
        if known is None:
            known = self._known[topic] = store.known(tx, topic)
            self._looked[topic] = store.looked(tx, topic)
        return known
