"""A source's past: fetched once from its own API (work), and compared with what came, every hour (reconcile)."""
