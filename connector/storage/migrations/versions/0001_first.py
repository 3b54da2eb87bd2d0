"""The first schema: everything in `tables.metadata` that no later version makes.

Later versions spell out their changes; the first one may use the metadata for as long as nothing has been released.
With the first release it must spell out its tables as well, or it would change with them.
"""

from alembic import op

from connector.storage.tables import metadata

revision = "0001"
down_revision = None

_LATER = {"pruned_event"}  # 0002


def upgrade() -> None:
    metadata.create_all(op.get_bind(), [table for table in metadata.sorted_tables if table.name not in _LATER])


def downgrade() -> None:
    metadata.drop_all(op.get_bind(), [table for table in metadata.sorted_tables if table.name not in _LATER])
