"""What is thrown away and what survives odd restores."""

from connector.clock import DAY, MINUTE
from tests.conftest import NOON, Shop, order


def test_settled_cues_and_closed_letters_are_forgotten_and_open_ones_kept(shop: Shop) -> None:
    with shop.services.database.tx() as tx:
        for number, (state, at) in enumerate(
            [("sent", NOON), ("pending", NOON), ("skipped", NOON + DAY), ("dead", NOON), ("sent", NOON + 80 * DAY)]
        ):
            tx.exec_driver_sql(
                "INSERT INTO cue (key, destination, profile_id, name, at, properties, state, due_at)"
                " VALUES (?, 'k', 1, 'Segment Entered', ?, '{}', ?, ?)",
                (f"k{number}", at, state, at),
            )
        for state in ("open", "replayed", "discarded"):
            tx.exec_driver_sql(
                "INSERT INTO dead_letter (kind, origin, reference, reason, message, at, body, state)"
                " VALUES ('push', 'k', '1', 'x', 'x', ?, '', ?)",
                (NOON, state),
            )
    shop.at(NOON + 90 * DAY + 1)
    assert shop.rows("SELECT key FROM cue ORDER BY key") == [("k1",), ("k2",), ("k3",), ("k4",)]
    assert shop.rows("SELECT state FROM dead_letter") == [("open",)]
    shop.at(NOON + 92 * DAY)
    assert shop.rows("SELECT key FROM cue ORDER BY key") == [("k1",), ("k3",), ("k4",)]


def test_deliveries_are_not_passed_over_when_the_log_is_newer_than_the_state(shop: Shop) -> None:
    """inbox.db was lost or restored from an older copy: its positions are behind those of the state."""
    for number in range(20):
        shop.deliver("orders/create", order(1000 + number))
    shop.work()
    with shop.services.inbox.tx() as tx:
        tx.exec_driver_sql("DELETE FROM delivery")
        tx.exec_driver_sql("DELETE FROM log_head")
    folder = shop.services.settings.data_dir
    shop.close()
    again = Shop(folder)
    again.time = NOON + MINUTE
    for number in range(20):
        again.deliver("orders/create", order(2000 + number), id=f"new{number}")
    again.work()
    assert again.rows("SELECT count(*) FROM shop_order") == [(40,)]
    again.close()
