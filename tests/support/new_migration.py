"""`scripts/new-migration "what changes"`: the next revision, by comparing the models with the last one."""

import subprocess
import sys
import tempfile
from pathlib import Path

from alembic import command

from aitbc.coordinator.schema import migrate

VERSIONS = migrate.SCRIPTS / "versions"


def main(message: str) -> None:
    number = len(list(VERSIONS.glob("[0-9]*.py"))) + 1
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'scratch.db'}"
        if number > 1:
            migrate.upgrade(url)
        with migrate.open_connection(url, write=True) as connection:
            config = migrate.alembic_config(connection)
            config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
            made = command.revision(config, message, autogenerate=True, rev_id=f"{number:04d}")
    tidy(Path(made.path))


def tidy(file: Path) -> None:
    """Remove the generator's remarks and format what is left."""
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not line.lstrip().startswith("# ###")))
    subprocess.run([sys.executable, "-m", "ruff", "check", "--fix-only", "-q", file], check=True)
    subprocess.run([sys.executable, "-m", "ruff", "format", "-q", file], check=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit('usage: scripts/new-migration "what changes"')
    main(sys.argv[1])
