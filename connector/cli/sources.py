"""`source`: the systems that send us what happens. Its commands have files of their own."""

import click


@click.group()
def source() -> None:
    """The systems that send what happens in the shop."""
