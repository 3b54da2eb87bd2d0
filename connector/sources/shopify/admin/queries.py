"""What is asked of the Admin API, as GraphQL, and the kinds of things that a backfill fetches.

A kind is asked for in two ways with the same fields: in bulk, where connections are written without a size, and by
pages. A bulk query may not have a connection inside a list, so refunds come without their lines.
"""

from dataclasses import dataclass

from connector.clock import Millis, isoformat

_MONEY = "{ shopMoney { amount currencyCode } presentmentMoney { amount currencyCode } }"
_PLACE = "{ city countryCodeV2 }"
_BUYER = """
  id firstName lastName createdAt updatedAt
  defaultEmailAddress { emailAddress marketingState marketingOptInLevel marketingUpdatedAt }
  defaultPhoneNumber { phoneNumber }
"""
_LINE = f"""
  id title quantity sku variantTitle product {{ id }} variant {{ id }} originalUnitPriceSet {_MONEY}
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a backfill fetches of one kind. `root`: the connection; `parts`: the one connection within, by name and
    fields; `sort` the key of the pages, `by_update` whether that is the instant of the latest change; `page`: how many
    to a page, so that Shopify's ceiling of 1,000 points for a query is kept; `most`: parts read of one by pages."""

    root: str
    fields: str
    scope: str
    parts: tuple[str, str] | None = None
    sort: str = "UPDATED_AT"
    by_update: bool = True
    page: int = 100
    most: int = 50


KINDS: dict[str, Kind] = {
    "products": Kind(
        "products",
        "id title handle vendor productType status tags createdAt updatedAt "
        "featuredMedia { preview { image { url } } }",
        "read_products",
        ("variants", "id price position"),
        page=40,
        most=1,
    ),
    "customers": Kind(
        "customers",
        f"""
  id firstName lastName state note locale verifiedEmail taxExempt tags createdAt updatedAt
  defaultAddress {_PLACE}
  defaultEmailAddress {{ emailAddress marketingState marketingOptInLevel marketingUpdatedAt }}
  defaultPhoneNumber {{
    phoneNumber
    smsMarketingConsent {{ state optInLevel updatedAt }}
    whatsAppMarketingConsent {{ state optInLevel updatedAt }}
  }}
""",
        "read_customers",
    ),
    "orders": Kind(
        "orders",
        f"""
  id name email phone test sourceName customerLocale checkoutToken cartToken discountCodes
  createdAt processedAt updatedAt cancelledAt cancelReason closedAt
  displayFinancialStatus displayFulfillmentStatus
  totalPriceSet {_MONEY} subtotalPriceSet {_MONEY} totalTaxSet {_MONEY} totalDiscountsSet {_MONEY}
  totalShippingPriceSet {_MONEY}
  shippingAddress {_PLACE}
  fulfillments(first: 10) {{ status createdAt }}
  refunds(first: 50) {{ id createdAt processedAt totalRefundedSet {_MONEY} }}
  customer {{ {_BUYER} }}
""",
        "read_orders",
        ("lineItems", _LINE + "vendor"),
        page=10,
        most=30,
    ),
    "checkouts": Kind(
        "abandonedCheckouts",
        f"""
  id abandonedCheckoutUrl createdAt updatedAt completedAt discountCodes
  totalPriceSet {_MONEY} subtotalPriceSet {_MONEY} totalTaxSet {_MONEY} totalDiscountSet {_MONEY}
  shippingAddress {_PLACE}
  customer {{ {_BUYER} }}
""",
        "read_orders",
        ("lineItems", _LINE),
        sort="CREATED_AT",
        by_update=False,
        page=10,
        most=30,
    ),
}
"""In the order in which they are fetched: things before people, people before what they bought."""


def since_filter(since: Millis | None) -> str | None:
    """The search that finds what changed since."""
    return None if since is None else f"updated_at:>='{isoformat(since)}'"


def bulk(kind: str, since: Millis | None) -> str:
    """The query of a bulk operation."""
    one = KINDS[kind]
    search = since_filter(since)
    wanted = f'(query: "{search}")' if search else ""
    parts = f"{one.parts[0]} {{ edges {{ node {{ {one.parts[1]} }} }} }}" if one.parts else ""
    return _plain(f"{{ {one.root}{wanted} {{ edges {{ node {{ {one.fields} {parts} }} }} }} }}")


def page(kind: str) -> str:
    """The query of a page, with the variables first, after and search."""
    one = KINDS[kind]
    parts = f"{one.parts[0]}(first: {one.most}) {{ nodes {{ {one.parts[1]} }} }}" if one.parts else ""
    return _plain(
        f"query($first: Int!, $after: String, $search: String) {{ "
        f"{one.root}(first: $first, after: $after, query: $search, sortKey: {one.sort}) "
        f"{{ nodes {{ {one.fields} {parts} }} pageInfo {{ hasNextPage endCursor }} }} }}"
    )


def counted(kind: str) -> str:
    """How many there are, with the variable search."""
    return f"query($search: String) {{ {KINDS[kind].root}Count(query: $search, limit: null) {{ count }} }}"


def per_day(spans: list[tuple[Millis, Millis]]) -> str:
    """How many orders were placed in each span, as d0, d1 and so on."""
    days = (
        f"d{number}: ordersCount(query: \"processed_at:>='{isoformat(first)}' processed_at:<'{isoformat(last)}'\", "
        "limit: null) { count }"
        for number, (first, last) in enumerate(spans)
    )
    return f"{{ {' '.join(days)} }}"


RUN = """mutation($query: String!) {
  bulkOperationRunQuery(query: $query, groupObjects: false) {
    bulkOperation { id status }
    userErrors { field message code }
  }
}"""

OPERATION = """query($id: ID!) {
  bulkOperation(id: $id) {
    id status errorCode objectCount rootObjectCount fileSize url partialDataUrl createdAt completedAt
  }
}"""

OPERATIONS = """{
  bulkOperations(first: 20, sortKey: CREATED_AT, reverse: true) { nodes { id status query createdAt } }
}"""

CANCEL = """mutation($id: ID!) {
  bulkOperationCancel(id: $id) { bulkOperation { id status } userErrors { field message } }
}"""

SUBSCRIPTIONS = """query($after: String) {
  webhookSubscriptions(first: 100, after: $after) {
    nodes { id topic uri format } pageInfo { hasNextPage endCursor }
  }
}"""

SUBSCRIBE = """mutation($topic: WebhookSubscriptionTopic!, $uri: String!) {
  webhookSubscriptionCreate(topic: $topic, webhookSubscription: {uri: $uri, format: JSON}) {
    webhookSubscription { id } userErrors { field message }
  }
}"""

ACCESS = """{
  currentAppInstallation { accessScopes { handle } }
  publicApiVersions { handle supported }
  shop { myshopifyDomain currencyCode ianaTimezone }
}"""


def _plain(query: str) -> str:
    """The query on one line: a bulk operation is known again by its text."""
    return " ".join(query.split())
