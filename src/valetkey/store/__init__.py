"""The truth at rest: tables, migrations, the engine for SQLite and PostgreSQL, the change feed."""
