"""For developers: write the migration that makes a database fit the tables. `script/migration` runs this.

A migration is frozen once released. Until the first release the foundation itself is written anew instead.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from valetkey.store import migrate

FOUNDATION = "the foundation"


def compose(what: str) -> Path:
    """Write the next migration, or the first one anew if `what` is `FOUNDATION`, and return its file."""
    engine = create_engine("sqlite://")
    with engine.begin() as connection, TemporaryDirectory() as folder:
        config = migrate.configuration(connection)
        if what == FOUNDATION:
            config.attributes["batch"] = False
            target = migrate.FOLDER / "versions" / "0001_foundation.py"
            text = _revision(config, Path(folder), "0001", what).read_text()
        else:
            command.upgrade(config, "head")
            number = int(migrate.newest_revision() or "0") + 1
            target = _revision(config, migrate.FOLDER / "versions", f"{number:04}", what)
            text = target.read_text()
    engine.dispose()
    lines = text.splitlines(keepends=True)
    target.write_text("".join(line for line in lines if not line.strip().startswith("# ###")))
    return target


def _revision(config: Config, versions: Path, number: str, what: str) -> Path:
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(versions).replace("%", "%%"))
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    command.revision(config, what, autogenerate=True, rev_id=number, version_path=str(versions))
    return next(versions.glob(f"{number}_*.py"))


if __name__ == "__main__":
    sys.stdout.write(f"{compose(sys.argv[1])}\n")
