"""Sources by kind: one line per system that sends us deliveries."""

from connector.ports import Source
from connector.sources.segment_api import SegmentApi
from connector.sources.shopify import Shopify
from connector.sources.stripe import Stripe
from connector.sources.woocommerce import WooCommerce

SOURCES: dict[str, Source] = {
    "segment_api": SegmentApi(),
    "shopify": Shopify(),
    "stripe": Stripe(),
    "woocommerce": WooCommerce(),
}
