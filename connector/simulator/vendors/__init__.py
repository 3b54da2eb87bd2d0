"""Fake Klaviyo, HubSpot and Mailchimp on loopback: real shapes, real limits, real refusals, no network."""

from connector.simulator.vendors.account import FakeVendor, Recorded
from connector.simulator.vendors.faults import Faults
from connector.simulator.vendors.hubspot import FakeHubSpot
from connector.simulator.vendors.klaviyo import FakeKlaviyo
from connector.simulator.vendors.mailchimp import FakeMailchimp

__all__ = ["FakeHubSpot", "FakeKlaviyo", "FakeMailchimp", "FakeVendor", "Faults", "Recorded"]
