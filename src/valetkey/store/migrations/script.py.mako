"""${message[0].upper()}${message[1:]}.

Frozen: it says what the tables were, and reads nothing of what they are.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}

# STRICT tables of SQLite know INTEGER, REAL, TEXT and BLOB only.
WHOLE: sa.types.TypeEngine[int] = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INSTANT: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}
