"""A shop's people and events, made by SQL alone: a million people with ten million events in about a minute."""

from sqlalchemy import Connection, text

DAY = 86_400_000
_CHANCE = "(random() / 18446744073709551616.0 + 0.5)"


def make(connection: Connection, people: int, events: int, now: int) -> None:
    """Fill an empty database with `people` profiles and about `events` events of the 400 days before `now`."""
    connection.execute(text(_PEOPLE.format(people=people, now=now, chance=_CHANCE)))
    most = 2 * events // people
    connection.execute(text(_EVENTS.format(most=most, now=now, chance=_CHANCE, day=DAY)))


_PEOPLE = """
INSERT INTO profile (id, traits, consent, email, created_at, updated_at)
WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < {people})
SELECT id,
  json_object(
    'first_name', 'Ada', 'country', substr('FRDEITESGBUSBECHNLAT', 1 + 2 * CAST({chance} * 10 AS INT), 2),
    'total_spent', round({chance} * {chance} * 2000, 2),
    'tags', json(CASE WHEN {chance} < 0.03 THEN '["vip","club"]' ELSE '["club"]' END),
    'created_at', strftime('%Y-%m-%dT%H:%M:%SZ', {now} / 1000 - CAST({chance} * 34560000 AS INT), 'unixepoch')),
  json_object('email', json_object('state', CASE WHEN {chance} < 0.4 THEN 'subscribed' ELSE 'not_subscribed' END,
    'at', 0)),
  id || '@example.com', 0, 0
FROM n
"""

_EVENTS = """
INSERT INTO event (profile_id, at, id, name, day, properties, source)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {most}),
p(id, count) AS (SELECT id, {chance} * ({most} + 1) FROM profile LIMIT -1),
e(id, i, at, kind, product, total, token) AS (
  SELECT p.id, n.i, {now} - CAST({chance} * {chance} * 400 * {day} AS INT), {chance},
    '' || (632910300 + CAST({chance} * 200 AS INT)), round({chance} * {chance} * 2500 + 5, 2),
    p.id || '-' || CAST({chance} * 3 AS INT)
  FROM p CROSS JOIN n ON n.i <= p.count LIMIT -1
)
SELECT id, at, id || '-' || i,
  CASE WHEN kind < 0.55 THEN 'Product Viewed' WHEN kind < 0.7 THEN 'Product Added'
    WHEN kind < 0.82 THEN 'Checkout Started' WHEN kind < 0.97 THEN 'Order Completed' ELSE 'Email Opened' END,
  at / {day},
  CASE
    WHEN kind < 0.55 THEN json_object('product_id', product, 'title', 'A thing to wear', 'price', total,
      'url', 'https://shop.example/products/a-thing-to-wear')
    WHEN kind < 0.7 THEN json_object('product_id', product, 'quantity', 1, 'cart_token', token, 'price', total)
    WHEN kind < 0.82 THEN json_object('checkout_token', token, 'total', total, 'products',
      json_array(json_object('product_id', product, 'title', 'A thing to wear', 'price', total, 'quantity', 1)))
    WHEN kind < 0.97 THEN json_object('order_id', id || '-' || i, 'total', total, 'currency', 'EUR',
      'checkout_token', token, 'cart_token', token, 'products',
      json_array(json_object('product_id', product, 'title', 'A thing to wear', 'price', total, 'quantity', 1)))
    ELSE '{{}}' END,
  'shop'
FROM e WHERE e.id > 0  -- or SQLite would merge e into this and roll the dice again for every mention
"""
