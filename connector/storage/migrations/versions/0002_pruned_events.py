"""What was pruned of old events, by name: the retention of events by age."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "pruned_event",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("before", sa.BigInteger, nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Forgets how far was pruned: a rule that reads further back is warned of no more."""
    op.drop_table("pruned_event")
