"""StoreCue decides: webhooks in, one profile per customer, segments, desired state, and the push to the vendors."""
