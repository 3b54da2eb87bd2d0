"""Sources by kind: one line per system that sends us deliveries."""

from collections.abc import Mapping

from connector.domain import Json
from connector.errors import DefinitionError
from connector.ports import Configurable, Source
from connector.sources.adobe_commerce import AdobeCommerce
from connector.sources.bigcommerce import BigCommerce
from connector.sources.cloudevents import CloudEvents
from connector.sources.ga4 import Ga4
from connector.sources.generic import Generic
from connector.sources.hubspot import HubSpot
from connector.sources.klaviyo import Klaviyo
from connector.sources.mailchimp import Mailchimp
from connector.sources.mixpanel import Mixpanel
from connector.sources.mparticle import MParticle
from connector.sources.salesforce import Salesforce
from connector.sources.segment import RudderStack, Segment
from connector.sources.segment_api import SegmentApi
from connector.sources.shopify import Shopify
from connector.sources.standard_webhooks import StandardWebhooks
from connector.sources.stripe import Stripe
from connector.sources.woocommerce import WooCommerce

SOURCES: dict[str, Source] = {
    "adobe_commerce": AdobeCommerce(),
    "bigcommerce": BigCommerce(),
    "cloudevents": CloudEvents(),
    "ga4": Ga4(),
    "generic": Generic(),
    "hubspot": HubSpot(),
    "klaviyo": Klaviyo(),
    "mailchimp": Mailchimp(),
    "mixpanel": Mixpanel(),
    "mparticle": MParticle(),
    "rudderstack": RudderStack(),
    "salesforce": Salesforce(),
    "segment": Segment(),
    "segment_api": SegmentApi(),
    "shopify": Shopify(),
    "standard_webhooks": StandardWebhooks(),
    "stripe": Stripe(),
    "woocommerce": WooCommerce(),
}


def configured(source: Source, options: Mapping[str, Json]) -> Source:
    """The source as its options in storecue.yaml want it. DefinitionError with a JSON pointer into them."""
    if isinstance(source, Configurable):
        return source.configured(options)
    if options:
        raise DefinitionError(f"are not known to {source.kind}; remove them")
    return source
