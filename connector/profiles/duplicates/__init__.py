"""Profiles that may be one person: kept as pairs with a score for people to look at, never merged by themselves."""
