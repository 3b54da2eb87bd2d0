"""Shopify's Admin API (GraphQL): what was there before the first webhook, and what no webhook told."""

from connector.sources.shopify.admin.history import ShopHistory

__all__ = ["ShopHistory"]
