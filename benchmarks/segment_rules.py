"""Twenty segments as a shop would have them, half with windows, and the SQL that a person would write for each.

The hand-written query does the same job: who is in, and, where a window moves, the next instant to look at whom.
"""

from typing import Any, NamedTuple

BOUGHT, VIEWED, ADDED, STARTED = "Order Completed", "Product Viewed", "Product Added", "Checkout Started"
DAY = 86_400_000


class Rule(NamedTuple):
    """`when` as configured; `by_hand` selects (profile_id, matched, recheck_at), `:now` is the instant.

    `{members}` stands for the table of memberships.
    """

    when: dict[str, Any]
    by_hand: str


RULES: dict[str, Rule] = {
    "high-value-infrequent": Rule(
        {
            "all": [
                {"event": BOUGHT, "sum": {"of": "total", ">": 2000}},
                {"event": BOUGHT, "count": {"distinct": "day", "<": 3}, "within": "365d"},
            ]
        },
        f"""SELECT profile_id, days < 3, CASE WHEN days >= 3 THEN oldest + {365 * DAY} END FROM (
              SELECT profile_id, count(DISTINCT CASE WHEN at > :now - {365 * DAY} THEN day END) AS days,
                min(CASE WHEN at > :now - {365 * DAY} THEN at END) AS oldest
              FROM event WHERE name = 'Order Completed' AND at <= :now GROUP BY profile_id
              HAVING sum(json_extract(properties, '$.total')) > 2000) WHERE true""",
    ),
    "viewed-not-bought": Rule(
        {
            "all": [
                {"event": VIEWED, "where": {"product_id": "632910392"}, "within": "48h"},
                {"not": {"event": BOUGHT, "within": "30d"}},
            ]
        },
        f"""SELECT v.profile_id, 1, max(v.at) + {2 * DAY} FROM event v WHERE v.name = 'Product Viewed'
            AND v.at > :now - {2 * DAY} AND v.at <= :now AND json_extract(v.properties, '$.product_id') = '632910392'
            AND NOT EXISTS (SELECT 1 FROM event o WHERE o.profile_id = v.profile_id AND o.name = 'Order Completed'
                            AND o.at > :now - {30 * DAY} AND o.at <= :now)
            GROUP BY v.profile_id""",
    ),
    "abandoned-checkout": Rule(
        {"event": STARTED, "not_followed_by": BOUGHT, "same": "checkout_token", "after": "30m", "within": "7d"},
        f"""SELECT c.profile_id, max(c.at <= :now - 1800000),
              coalesce(max(CASE WHEN c.at <= :now - 1800000 THEN c.at END) + {7 * DAY}, min(c.at) + 1800000)
            FROM event c WHERE c.name = 'Checkout Started' AND c.at > :now - {7 * DAY}
            AND NOT EXISTS (SELECT 1 FROM event o WHERE o.profile_id = c.profile_id AND o.at >= c.at
                            AND o.name = 'Order Completed' AND json_extract(o.properties, '$.checkout_token')
                            = json_extract(c.properties, '$.checkout_token'))
            GROUP BY c.profile_id""",
    ),
    "recent-buyers": Rule(
        {"event": BOUGHT, "within": "7d"},
        f"""SELECT profile_id, 1, max(at) + {7 * DAY} FROM event WHERE name = 'Order Completed'
            AND at > :now - {7 * DAY} AND at <= :now GROUP BY profile_id""",
    ),
    "vip": Rule(
        {"any": [{"trait": "total_spent", ">=": 1000}, {"trait": "tags", "contains": "vip"}]},
        """SELECT id, 1, NULL FROM profile WHERE json_extract(traits, '$.total_spent') >= 1000
           OR EXISTS (SELECT 1 FROM json_each(traits, '$.tags') WHERE value = 'vip')""",
    ),
    "lapsed-vip": Rule(
        {"all": [{"segment": "vip"}, {"not": {"segment": "recent-buyers"}}]},
        """SELECT m.profile_id, r.profile_id IS NULL, r.recheck_at FROM {members} m
           LEFT JOIN {members} r ON r.segment = 'recent-buyers' AND r.profile_id = m.profile_id AND r.matched = 1
           WHERE m.segment = 'vip' AND m.matched = 1""",
    ),
    "loyal": Rule(
        {"event": BOUGHT, "count": {">=": 3}, "within": "90d"},
        f"""SELECT profile_id, 1, min(at) + {90 * DAY} FROM event WHERE name = 'Order Completed'
            AND at > :now - {90 * DAY} AND at <= :now GROUP BY profile_id HAVING count(*) >= 3""",
    ),
    "browsing-much": Rule(
        {"event": VIEWED, "count": {">=": 5}, "within": "14d"},
        f"""SELECT profile_id, 1, min(at) + {14 * DAY} FROM event WHERE name = 'Product Viewed'
            AND at > :now - {14 * DAY} AND at <= :now GROUP BY profile_id HAVING count(*) >= 5""",
    ),
    "new-customers": Rule(
        {"trait": "created_at", "after": "30d"},
        f"""SELECT id, 1, unixepoch(json_extract(traits, '$.created_at')) * 1000 + {30 * DAY} FROM profile
            WHERE unixepoch(json_extract(traits, '$.created_at')) * 1000 > :now - {30 * DAY}""",
    ),
    "first-order-this-month": Rule(
        {"event": BOUGHT, "first": {"after": "30d"}},
        f"""SELECT profile_id, 1, min(at) + {30 * DAY} FROM event WHERE name = 'Order Completed' AND at <= :now
            GROUP BY profile_id HAVING min(at) > :now - {30 * DAY}""",
    ),
    "dormant": Rule(
        {"event": BOUGHT, "last": {"before": "180d"}},
        f"""SELECT profile_id, max(at) <= :now - {180 * DAY},
              CASE WHEN max(at) > :now - {180 * DAY} THEN max(at) + {180 * DAY} END
            FROM event WHERE name = 'Order Completed' AND at <= :now GROUP BY profile_id""",
    ),
    "never-bought": Rule(
        {"not": {"event": BOUGHT}},
        """SELECT id, 1, NULL FROM profile p WHERE NOT EXISTS (SELECT 1 FROM event WHERE profile_id = p.id
           AND name = 'Order Completed' AND at <= :now)""",
    ),
    "bought-once": Rule(
        {"event": BOUGHT, "count": {"=": 1}},
        """SELECT profile_id, 1, NULL FROM event WHERE name = 'Order Completed' AND at <= :now
           GROUP BY profile_id HAVING count(*) = 1""",
    ),
    "big-basket": Rule(
        {"event": BOUGHT, "max": {"of": "total", ">=": 1500}},
        """SELECT profile_id, 1, NULL FROM event WHERE name = 'Order Completed' AND at <= :now
           GROUP BY profile_id HAVING max(json_extract(properties, '$.total')) >= 1500""",
    ),
    "high-average": Rule(
        {"event": BOUGHT, "average": {"of": "total", ">=": 1000}, "within": "365d"},
        f"""SELECT profile_id, avg(json_extract(properties, '$.total')) >= 1000, min(at) + {365 * DAY}
            FROM event WHERE name = 'Order Completed' AND at > :now - {365 * DAY} AND at <= :now
            GROUP BY profile_id""",
    ),
    "french-speaking": Rule(
        {"trait": "country", "in": ["FR", "BE", "CH"]},
        "SELECT id, 1, NULL FROM profile WHERE json_extract(traits, '$.country') IN ('FR', 'BE', 'CH')",
    ),
    "subscribed": Rule(
        {"consent": "email"},
        "SELECT id, 1, NULL FROM profile WHERE json_extract(consent, '$.email.state') = 'subscribed'",
    ),
    "reachable-browsers": Rule(
        {"all": [{"consent": "email"}, {"trait": "country", "=": "FR"}, {"event": VIEWED, "within": "30d"}]},
        f"""SELECT p.id, 1, max(e.at) + {30 * DAY} FROM profile p JOIN event e ON e.profile_id = p.id
            AND e.name = 'Product Viewed' AND e.at > :now - {30 * DAY} AND e.at <= :now
            WHERE json_extract(p.consent, '$.email.state') = 'subscribed'
            AND json_extract(p.traits, '$.country') = 'FR' GROUP BY p.id""",
    ),
    "abandoned-cart": Rule(
        {"event": ADDED, "not_followed_by": BOUGHT, "same": "cart_token", "after": "60m", "within": "3d"},
        f"""SELECT c.profile_id, max(c.at <= :now - 3600000),
              coalesce(max(CASE WHEN c.at <= :now - 3600000 THEN c.at END) + {3 * DAY}, min(c.at) + 3600000)
            FROM event c WHERE c.name = 'Product Added' AND c.at > :now - {3 * DAY}
            AND NOT EXISTS (SELECT 1 FROM event o WHERE o.profile_id = c.profile_id AND o.at >= c.at
                            AND o.name = 'Order Completed' AND json_extract(o.properties, '$.cart_token')
                            = json_extract(c.properties, '$.cart_token'))
            GROUP BY c.profile_id""",
    ),
    "spent-this-quarter": Rule(
        {"event": BOUGHT, "sum": {"of": "total", ">=": 800}, "within": "90d"},
        f"""SELECT profile_id, 1, min(at) + {90 * DAY} FROM event WHERE name = 'Order Completed'
            AND at > :now - {90 * DAY} AND at <= :now
            GROUP BY profile_id HAVING sum(json_extract(properties, '$.total')) >= 800""",
    ),
}
