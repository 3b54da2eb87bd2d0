"""Stand-alone clients for e-mail platforms: one account each, one Outcome per item, importable without the connector.

from adapters import DESTINATIONS
from adapters.destination import Change, FieldSpec, Settings, SystemClock

klaviyo = DESTINATIONS["klaviyo"](Settings(credentials={"api_key": key}), SystemClock())
print(klaviyo.check_login().name)
klaviyo.provision([FieldSpec("total_spent", "number", "Total spent")], tags=["vip"])
change = Change("1", "ada@example.com", "shop:1", tags=("vip",), tags_added=("vip",), fields={"total_spent": 412.5})
for outcome in klaviyo.apply([change]):
    print(outcome.key, outcome.status, outcome.reason)
"""

from adapters.brevo import Brevo
from adapters.console import Console
from adapters.destination import Vendor
from adapters.hubspot import HubSpot
from adapters.klaviyo import Klaviyo
from adapters.mailchimp import Mailchimp

DESTINATIONS: dict[str, Vendor] = {
    "brevo": Brevo,
    "console": Console,
    "hubspot": HubSpot,
    "klaviyo": Klaviyo,
    "mailchimp": Mailchimp,
}
"""By kind, as storecue.yaml names it: how to open an account of each vendor."""
