"""Sources by kind: one line per system that sends us deliveries."""

from connector.ports import Source
from connector.sources.shopify import Shopify
from connector.sources.woocommerce import WooCommerce

SOURCES: dict[str, Source] = {
    "shopify": Shopify(),
    "woocommerce": WooCommerce(),
}
