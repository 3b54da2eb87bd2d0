"""The command `storecue`. Each command imports what it needs when it runs, so that `--help` is quick."""

import click

from connector.cli import (
    approving,
    backfills,
    configuration,
    copying,
    database,
    destinations,
    keys,
    merges,
    pasting,
    privacy,
    quality,
    replaying,
    running,
    sources,
    standing,
    trying,
    verifying,
)
from connector.cli.commands import Commands


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="storecue")
def main() -> None:
    """StoreCue turns what happens in a shop into cues for the e-mail platform."""


for command in (
    running.up,
    running.web,
    running.worker,
    running.push,
    running.demo,
    configuration.plan,
    configuration.apply,
    configuration.export,
    standing.status,
    standing.doctor,
    sources.source,
    backfills.backfill,
    destinations.destination,
    verifying.verify,
    merges.profile,
    privacy.privacy,
    keys.token,
    keys.key,
    database.db,
    replaying.dead_letters,
    replaying.replay,
):
    main.add_command(command)

for command in (approving.plan, approving.approve, approving.new_account):
    destinations.destination.add_command(command)

database.db.add_command(copying.db_copy)

sources.source.add_command(trying.source_try)
sources.source.add_command(backfills.source_verify)

for command in (quality.source_quality, pasting.source_snippet, pasting.source_pixel, pasting.source_template):
    sources.source.add_command(command)
