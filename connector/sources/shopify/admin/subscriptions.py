"""The webhook topics that we use, as the Admin API names them. Its names cannot be derived: they are a table."""

from typing import NamedTuple


class Topic(NamedTuple):
    """A topic's name in GraphQL, and the scope without which nobody may subscribe to it."""

    enum: str
    scope: str | None


_CUSTOMERS, _ORDERS, _PRODUCTS = "read_customers", "read_orders", "read_products"

# Without those that another says as well: orders/paid and fulfilled come with orders/updated, customers/enable and
# disable with customers/update. The three privacy topics are set in the app itself, never here.
TOPICS: dict[str, Topic] = {
    "customers/create": Topic("CUSTOMERS_CREATE", _CUSTOMERS),
    "customers/update": Topic("CUSTOMERS_UPDATE", _CUSTOMERS),
    "customers/delete": Topic("CUSTOMERS_DELETE", _CUSTOMERS),
    "customers/merge": Topic("CUSTOMERS_MERGE", "read_customer_merge"),
    "customer.tags_added": Topic("CUSTOMER_TAGS_ADDED", _CUSTOMERS),
    "customer.tags_removed": Topic("CUSTOMER_TAGS_REMOVED", _CUSTOMERS),
    "customers_email_marketing_consent/update": Topic("CUSTOMERS_EMAIL_MARKETING_CONSENT_UPDATE", _CUSTOMERS),
    "customers_marketing_consent/update": Topic("CUSTOMERS_MARKETING_CONSENT_UPDATE", _CUSTOMERS),
    "customers_whats_app_marketing_consent/update": Topic("CUSTOMERS_WHATS_APP_MARKETING_CONSENT_UPDATE", _CUSTOMERS),
    "orders/create": Topic("ORDERS_CREATE", _ORDERS),
    "orders/updated": Topic("ORDERS_UPDATED", _ORDERS),
    "orders/cancelled": Topic("ORDERS_CANCELLED", _ORDERS),
    "orders/edited": Topic("ORDERS_EDITED", _ORDERS),
    "orders/delete": Topic("ORDERS_DELETE", _ORDERS),
    "refunds/create": Topic("REFUNDS_CREATE", _ORDERS),
    "carts/create": Topic("CARTS_CREATE", _ORDERS),
    "carts/update": Topic("CARTS_UPDATE", _ORDERS),
    "checkouts/create": Topic("CHECKOUTS_CREATE", _ORDERS),
    "checkouts/update": Topic("CHECKOUTS_UPDATE", _ORDERS),
    "checkouts/delete": Topic("CHECKOUTS_DELETE", _ORDERS),
    "products/create": Topic("PRODUCTS_CREATE", _PRODUCTS),
    "products/update": Topic("PRODUCTS_UPDATE", _PRODUCTS),
    "products/delete": Topic("PRODUCTS_DELETE", _PRODUCTS),
    "collections/create": Topic("COLLECTIONS_CREATE", _PRODUCTS),
    "collections/update": Topic("COLLECTIONS_UPDATE", _PRODUCTS),
    "collections/delete": Topic("COLLECTIONS_DELETE", _PRODUCTS),
    "shop/update": Topic("SHOP_UPDATE", None),
    "app/uninstalled": Topic("APP_UNINSTALLED", None),
}
