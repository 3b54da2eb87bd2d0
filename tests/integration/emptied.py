"""A Shop as if nothing had happened yet: twenty times faster than making another one."""

from sqlalchemy import delete

from connector.storage.tables import (
    apart,
    change,
    counter,
    cue,
    dead_letter,
    entity,
    event,
    identifier,
    likeness,
    membership,
    merge,
    parked,
    parked_key,
    profile,
    push,
    refund,
    seen,
    shop_order,
    suspect,
    sync_state,
)
from tests.conftest import NOON, Shop

HAPPENED = (
    apart,
    change,
    counter,
    cue,
    dead_letter,
    entity,
    event,
    identifier,
    likeness,
    membership,
    merge,
    parked,
    parked_key,
    profile,
    push,
    refund,
    seen,
    shop_order,
    suspect,
    sync_state,
)


def empty(shop: Shop) -> Shop:
    """The shop without people, things and letters, at noon again; configuration and log stay."""
    with shop.services.database.tx() as tx:
        for table in HAPPENED:
            tx.execute(delete(table))
    shop.time = NOON
    return shop
