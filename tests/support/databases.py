"""Databases for tests, each a quick copy of one that was migrated once."""

import shutil
from pathlib import Path

from aitbc.coordinator.schema import migrate
from tests.support.postgres import Postgres


class Databases:
    """Makes databases of one kind ("sqlite" or "postgresql"); `drop_all` removes the PostgreSQL ones."""

    def __init__(self, kind: str, folder: Path, postgres: Postgres | None) -> None:
        self.kind = kind
        self.folder = folder
        self._postgres = postgres
        self._made: list[str] = []
        self._template: str | None = None

    @property
    def postgres(self) -> Postgres:
        assert self._postgres is not None, "this is SQLite"
        return self._postgres

    def empty(self, folder: Path) -> str:
        """URL of a database without tables. `folder` is where SQLite's file goes."""
        if self.kind == "sqlite":
            return f"sqlite:///{self._file(folder)}"
        return self._url(self.postgres.create())

    def migrated(self, folder: Path) -> str:
        """URL of a fresh database with the program's schema."""
        if self._template is None:
            self._template = self._make_template()
        if self.kind == "sqlite":
            file = self._file(folder)
            shutil.copyfile(self._template, file)
            return f"sqlite:///{file}"
        return self._url(self.postgres.create(self._template))

    def drop_all(self) -> None:
        while self._made:
            self.postgres.drop(self._made.pop())

    def _make_template(self) -> str:
        if self.kind == "sqlite":
            file = self.folder / "template.db"
            migrate.upgrade(f"sqlite:///{file}")
            return str(file)
        name = self.postgres.create()
        migrate.upgrade(self.postgres.url(name))
        return name

    def _url(self, name: str) -> str:
        self._made.append(name)
        return self.postgres.url(name)

    @staticmethod
    def _file(folder: Path) -> Path:
        number = len(list(folder.glob("test*.db")))
        return folder / f"test{number or ''}.db"
