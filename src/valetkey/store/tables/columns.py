"""What the tables of all rooms share: the metadata that they belong to, and columns that mean the same everywhere."""

from __future__ import annotations

from sqlalchemy import REAL, BigInteger, Column, Double, ForeignKey, Integer, MetaData, Text
from sqlalchemy.types import TypeEngine

# STRICT tables of SQLite know INTEGER, REAL, TEXT and BLOB only.
Whole: TypeEngine[int] = BigInteger().with_variant(Integer, "sqlite")
Instant: TypeEngine[float] = Double().with_variant(REAL, "sqlite")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def id_column() -> Column[str]:
    """The identifier of the row."""
    return Column("id", Text, primary_key=True)


def workspace_column() -> Column[str]:
    """Whose the row is."""
    return Column("workspace_id", ForeignKey("workspaces.id"), nullable=False)


def time_column(name: str, *, nullable: bool = False) -> Column[float]:
    """An instant: seconds since the epoch, UTC."""
    return Column(name, Instant, nullable=nullable)
