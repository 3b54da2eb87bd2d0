"""The straight line: what deliveries mean > people > things and events > consent and traits > decisions.

A batch is one transaction. Everything is read with one statement per table for the whole batch and written with one
per table: the cost of a webhook is then mostly that of parsing it. Start with line.py.
"""

from connector.pipeline.line import Pipeline

__all__ = ["Pipeline"]
