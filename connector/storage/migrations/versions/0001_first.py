"""The first schema: everything in `tables.metadata` as released in 0.1.0.

Later versions spell out their changes; the first one may use the metadata, because no database is older than it.
"""

from alembic import op

from connector.storage.tables import metadata

revision = "0001"
down_revision = None


def upgrade() -> None:
    metadata.create_all(op.get_bind())


def downgrade() -> None:
    metadata.drop_all(op.get_bind())
