"""Twenty segments, half of them with windows: the rules that the benchmarks of this folder share."""

SEGMENTS = """
segments:
  high-value: {name: High value, when: {event: Order Completed, sum: {of: total, ">": 2000}}}
  infrequent: {name: Infrequent, when: {event: Order Completed, count: {distinct: day, "<": 3}, within: 365d}}
  viewed-not-bought:
    name: Viewed, not buying
    when: {all: [{event: Product Viewed, where: {product_id: "632910392"}, within: 48h},
                 {not: {event: Order Completed, within: 30d}}]}
  abandoned-checkout:
    name: Abandoned checkout
    when: {event: Checkout Started, not_followed_by: Order Completed, same: checkout_token, after: 30m, within: 7d}
  recent-buyers: {name: Recent buyers, when: {event: Order Completed, within: 7d}}
  buyers-30d: {name: Buyers of a month, when: {event: Order Completed, within: 30d}}
  frequent: {name: Frequent, when: {event: Order Completed, count: {">=": 3}, within: 90d}}
  browsing: {name: Browsing, when: {event: Product Viewed, count: {">=": 3}, within: 24h}}
  cart-active: {name: Cart active, when: {event: Product Added, within: 2h}}
  big-basket: {name: Big basket, when: {event: Order Completed, where: {total: {">": 150}}, within: 90d}}
  vip: {name: VIP, when: {any: [{trait: total_spent, ">=": 1000}, {trait: tags, contains: vip}]}}
  lapsed-vip: {name: Lapsed VIP, when: {all: [{segment: vip}, {not: {segment: recent-buyers}}]}}
  one-time: {name: One-time buyers, when: {trait: orders_count, "=": 1}}
  loyal: {name: Loyal, when: {trait: orders_count, ">=": 5}}
  high-average: {name: High average, when: {trait: average_order_value, ">": 120}}
  subscribed: {name: Subscribed, when: {consent: email}}
  french: {name: In France, when: {trait: country, in: [FR, BE, CH]}}
  named: {name: Named, when: {trait: first_name, exists: true}}
  never-bought: {name: Never bought, when: {not: {event: Order Completed}}}
  dormant: {name: Dormant, when: {trait: last_order_at, before: 90d}}
"""

FIELDS = """
fields:
  total_spent: {from: traits.total_spent}
  orders_count: {from: traits.orders_count}
  last_order_at: {from: traits.last_order_at}
"""

HEAD = """
version: 1
store: {name: Benchmark, timezone: Europe/Paris, currency: EUR}
sources:
  shop: {kind: shopify, secrets: [hush]}
"""

DESTINATIONS = """
destinations:
  klaviyo: {kind: klaviyo, credentials: {api_key: pk_benchmark}}
  hubspot: {kind: hubspot, credentials: {access_token: pat-benchmark}}
  mailchimp: {kind: mailchimp, credentials: {api_key: 0123456789abcdef0123456789abcdef-us1}, list_id: a1b2c3d4e5}
"""
