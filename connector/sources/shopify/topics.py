"""Every topic of Shopify that we know, and who reads it."""

from collections.abc import Callable
from typing import Any

from connector.domain import Normalised
from connector.sources.shopify import backfilled, carts, catalogue, customers, orders
from connector.sources.shopify.arrival import Arrival

Handler = Callable[[Any, Arrival], Normalised]

TOPICS: dict[str, Handler] = {
    "customers/create": customers.customer,
    "customers/update": customers.customer,
    "customers/enable": customers.customer,
    "customers/disable": customers.customer,
    "customers/delete": customers.customer_deleted,
    "customers/merge": customers.merged,
    "customers/redact": customers.redacted,
    "customers/data_request": customers.data_requested,
    "shop/redact": customers.shop_redacted,
    "customer.tags_added": customers.tagged,  # a dot, not a slash
    "customer.tags_removed": customers.tagged,
    "customers_email_marketing_consent/update": customers.email_consent,
    "customers_marketing_consent/update": customers.sms_consent,
    "customers_whats_app_marketing_consent/update": customers.whatsapp_consent,
    "orders/create": orders.order,
    "orders/updated": orders.order,
    "orders/paid": orders.order,
    "orders/cancelled": orders.order,
    "orders/fulfilled": orders.order,
    "orders/partially_fulfilled": orders.order,
    "orders/edited": orders.order_edited,
    "orders/delete": orders.order_deleted,
    "refunds/create": orders.refund,
    "carts/create": carts.cart,
    "carts/update": carts.cart,
    "checkouts/create": carts.checkout,
    "checkouts/update": carts.checkout,
    "checkouts/delete": carts.checkout_deleted,
    "products/create": catalogue.product,
    "products/update": catalogue.product,
    "products/delete": catalogue.product_deleted,
    "collections/create": catalogue.collection,
    "collections/update": catalogue.collection,
    "collections/delete": catalogue.collection_deleted,
    "shop/update": catalogue.shop,
    "app/uninstalled": catalogue.uninstalled,
    "backfill/customers": backfilled.customer,  # ours: what was asked of the Admin API
    "backfill/orders": backfilled.order,
    "backfill/products": backfilled.product,
    "backfill/checkouts": backfilled.checkout,
}

SKIPPED: dict[str, str] = {
    "customers/purchasing_summary": "computed_here",  # orders_count and total_spent come from stored orders
}
"""Topics that are known and mean nothing to a profile, with the reason."""

NOT_USED = frozenset(
    """
    app app_purchases_one_time app_subscriptions audit_events bulk_operations channels collection_listings
    collection_publications companies company_contact_roles company_contacts company_locations customer
    customer_account_settings customer_groups customer_payment_methods delivery_promise_settings discounts
    disputes domains draft_orders finance_app_staff_member finance_kyc_information fulfillment_events
    fulfillment_holds fulfillment_orders fulfillments inventory_items inventory_levels inventory_shipments
    inventory_transfers locales locations markets markets_backup_region metafield_definitions metaobjects
    order_transactions orders payment_schedules payment_terms product_feeds product_listings
    product_publications profiles returns reverse_deliveries reverse_fulfillment_orders
    scheduled_product_listings segments selling_plan_groups shipping_addresses shop
    subscription_billing_attempts subscription_billing_cycle_edits subscription_billing_cycles
    subscription_contracts tax_partners tax_services tax_summaries taxes tender_transactions themes variants
    """.split()
)
"""Families of topics (before the slash or dot) that exist and are not used."""


def skip_reason(topic: str) -> str:
    """Why a topic that has no handler is skipped."""
    if topic in SKIPPED:
        return SKIPPED[topic]
    family = topic.replace(".", "/").partition("/")[0]
    return "not_used" if family in NOT_USED else "unknown_topic"
