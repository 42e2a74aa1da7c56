"""Backups: a whole copy of the database as of one moment, made beside a running coordinator and read again.

A SQLite database is copied page by page into a database file. A PostgreSQL database becomes a text that psql
reads: the rows of every table in one snapshot, for a database that `aitbc db upgrade` has made; no program
of the server's own version is needed. Nothing has the backup's name before all of it is on disk and proven.
"""

import graphlib
import hashlib
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import psycopg
from psycopg import sql

from aitbc import __version__
from aitbc.coordinator.database import postgres_url, sqlite_path
from aitbc.coordinator.database.looking import Looker
from aitbc.coordinator.database.patience import PatientConnection
from aitbc.coordinator.schema.tables import metadata

PAGES = 4096  # pages that one step copies
WAIT_S = 30  # for a lock of another process
HEAD = b"-- AITBC backup of a PostgreSQL database, format 1\n"
END = b"-- end of the AITBC backup: "
VERSION_TABLE = "alembic_version"


class BackupFailed(Exception):
    """No backup was made; the message says why. What had the backup's name before is as it was."""


class Summary(NamedTuple):
    """What a database holds: its revision, rows of each table, the newest block (-1: none), its hash."""

    revision: str
    rows: dict[str, int]
    height: int
    block_hash: str


class Backup(NamedTuple):
    """A backup that was made and read again."""

    path: Path
    size_bytes: int
    summary: Summary


def make(url: str, target: Path, *, overwrite: bool = False) -> Backup:
    """Writes a backup of the database at `url` into the file `target` (mode 0600).

    BackupFailed where that file exists (unless `overwrite`), the database is none of ours or has nothing in
    it, or what was written does not read as it should. OSError, sqlite3.Error, psycopg.Error.
    """
    if target.exists() and not target.is_file():
        raise BackupFailed(f"{target} is no file that could be replaced")
    if target.exists() and not overwrite:
        raise BackupFailed(f"{target} exists; --force replaces it")
    if not target.parent.is_dir():
        raise BackupFailed(f"there is no folder {target.parent}")
    if url.startswith("sqlite") and target.exists() and target.samefile(sqlite_path(url)):
        raise BackupFailed(f"{target} is the database itself")
    write = _copy_sqlite if url.startswith("sqlite") else _write_postgres
    with _draft(target) as draft:
        summary = write(url, draft)
        _sync(draft)
        size_bytes = draft.stat().st_size
        if overwrite:
            draft.replace(target)
        else:
            try:
                os.link(draft, target)
            except FileExistsError:
                raise BackupFailed(f"{target} exists; --force replaces it") from None
    _sync(target.parent)
    return Backup(target, size_bytes, summary)


@contextmanager
def _draft(target: Path) -> Iterator[Path]:
    """A private file beside the target; gone at the end, unless it has got another name."""
    draft = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        yield draft
    finally:
        for part in ("", "-wal", "-shm", "-journal"):
            draft.with_name(draft.name + part).unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _agree(found: Summary, wanted: Summary, path: Path) -> None:
    if found != wanted:
        names = [name for name in found._fields if getattr(found, name) != getattr(wanted, name)]
        raise BackupFailed(f"{path} was read again and is another: {', '.join(names)}")


# --- SQLite -------------------------------------------------------------------------------------------------


def _copy_sqlite(url: str, draft: Path) -> Summary:
    """Copies every page as of one moment, then checks the copy's pages, references, rows and blocks."""
    source_path = sqlite_path(url)
    if not source_path.exists():
        raise BackupFailed(f"there is no database {source_path}")
    with (
        closing(Looker(source_path)) as looker,
        closing(looker.connect(WAIT_S)) as source,
        closing(sqlite3.connect(draft, isolation_level=None)) as copy,
    ):
        # A transaction of ours holds the snapshot: without it, each write meanwhile starts the copy anew.
        source.execute("BEGIN")
        summary = _summary_of_sqlite(source, source_path)
        source.backup(copy, pages=PAGES)
        source.execute("ROLLBACK")
        looker.check()
        copy.execute("PRAGMA journal_mode=DELETE")  # one file, whole by itself
    with closing(_open(draft)) as copy:
        problems = [row[0] for row in copy.execute("PRAGMA integrity_check(3)")]
        if problems != ["ok"]:
            raise BackupFailed(f"the copy is damaged: {problems[0]}")
        if (orphan := copy.execute("PRAGMA foreign_key_check").fetchone()) is not None:
            raise BackupFailed(f"in the copy, rows of {orphan[0]} refer to rows that are not there")
        _agree(_summary_of_sqlite(copy, draft), summary, draft)
    return summary


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=WAIT_S
    )


def _summary_of_sqlite(connection: sqlite3.Connection, path: Path) -> Summary:
    known = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if not known >= {VERSION_TABLE, "blocks", "transfers"}:
        raise BackupFailed(f"{path} has nothing of a coordinator in it")
    return _summary(lambda text: connection.execute(text).fetchone(), known)


def _summary(ask: Any, known: set[str]) -> Summary:
    """`ask(text)` gives the first row of a query's answer, or None."""
    revision = ask(f"SELECT version_num FROM {VERSION_TABLE}")
    tables = sorted(known & set(metadata.tables))
    rows = {name: int(ask(f'SELECT count(*) FROM "{name}"')[0]) for name in tables}
    block = ask("SELECT height, hash FROM blocks ORDER BY height DESC LIMIT 1")
    return Summary(str(revision[0]) if revision else "", rows, *((-1, "") if block is None else block))


# --- PostgreSQL ---------------------------------------------------------------------------------------------


def _write_postgres(url: str, draft: Path) -> Summary:
    """Writes all tables of one snapshot as a psql script, then reads the script again."""
    with PatientConnection.reach(
        postgres_url(url), waits_while_alive=True, autocommit=True, application_name="aitbc backup"
    ) as source:
        source.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        known = {
            row[0]
            for row in source.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
        }
        if not known >= {VERSION_TABLE, "blocks", "transfers"}:
            raise BackupFailed("the database has nothing of a coordinator in it: see `aitbc db version`")
        summary = _summary(lambda text: source.execute(text).fetchone(), known)
        names = _in_order(source, [*summary.rows])
        with draft.open("wb") as file:
            for part in _script(source, names, summary):
                file.write(part)
    _agree(_read_script(draft), summary, draft)
    return summary


def _script(source: psycopg.Connection[Any], names: list[str], summary: Summary) -> Iterator[bytes]:
    """The parts of the script; its last line has the SHA-256 of all that stands before it."""
    digest = hashlib.sha256()
    for part in _parts(source, names, summary):
        digest.update(part)
        yield part
    yield END + digest.hexdigest().encode() + b"\n"


def _parts(source: psycopg.Connection[Any], names: list[str], summary: Summary) -> Iterator[bytes]:
    yield HEAD
    yield (
        f"-- of AITBC {__version__}, revision {summary.revision}, newest block {summary.height}.\n"
        "-- To put it back: make an empty database, run `aitbc db upgrade` on it, then\n"
        "--   psql --single-transaction --set ON_ERROR_STOP=1 --file THIS_FILE DATABASE_URL\n"
        "SET client_encoding = 'UTF8';\n"
        "SET standard_conforming_strings = on;\n"
        "DO $$ BEGIN\n"
        f"  IF (SELECT version_num FROM {VERSION_TABLE}) <> '{summary.revision}' THEN\n"
        f"    RAISE EXCEPTION 'this backup needs a database at revision {summary.revision}'; END IF;\n"
        "  IF EXISTS (SELECT FROM transfers) OR EXISTS (SELECT FROM blocks) THEN\n"
        "    RAISE EXCEPTION 'the database is not empty'; END IF;\n"
        "END $$;\n"
    ).encode()
    for name in reversed(names):
        # What an upgrade itself puts into a new table stands in the backup as well.
        yield f'DELETE FROM "{name}";\n'.encode()
    for name in names:
        yield from _table(source, name)


def _in_order(source: psycopg.Connection[Any], names: list[str]) -> list[str]:
    """The tables, each after those that its rows refer to."""
    order = graphlib.TopologicalSorter({name: set() for name in names})
    refers = source.execute(
        "SELECT c.relname, p.relname FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid"
        " JOIN pg_class p ON p.oid = k.confrelid WHERE k.contype = 'f'"
        " AND k.connamespace = current_schema()::regnamespace AND c.oid <> p.oid"
    )
    for child, parent in refers:
        if child in names and parent in names:
            order.add(child, parent)
    return list(order.static_order())


def _table(source: psycopg.Connection[Any], name: str) -> Iterator[bytes]:
    # As the database has them, not as this program would: it may be a version behind.
    columns = [
        str(row[0])
        for row in source.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
            " AND NOT attisdropped ORDER BY attnum",
            (f'"{name}"',),
        )
    ]
    listed = ", ".join(f'"{column}"' for column in columns)
    yield f'COPY "{name}" ({listed}) FROM stdin;\n'.encode()
    fields = sql.SQL(", ").join(map(sql.Identifier, columns))
    wanted = sql.SQL("COPY {} ({}) TO STDOUT").format(sql.Identifier(name), fields)
    with source.cursor() as cursor, cursor.copy(wanted) as rows:
        for data in rows:
            yield bytes(data)
    yield b"\\.\n"
    for column in columns:
        counted = source.execute("SELECT pg_get_serial_sequence(%s, %s)", (f'"{name}"', column)).fetchone()
        if counted is None or counted[0] is None:
            continue
        last = source.execute(
            sql.SQL("SELECT last_value, is_called FROM {}").format(sql.Identifier(*counted[0].split(".")))
        ).fetchone()
        assert last is not None, "a sequence is a row"
        yield f"SELECT pg_catalog.setval('{counted[0]}', {last[0]}, {str(last[1]).lower()});\n".encode()


def _read_script(draft: Path) -> Summary:
    """What a script holds, read as psql would. BackupFailed where it is not whole."""
    rows: dict[str, int] = {}
    revision, newest, digest = "", (-1, ""), hashlib.sha256()
    with draft.open("rb") as file:
        for line in file:
            if line.startswith(END):
                if line != END + digest.hexdigest().encode() + b"\n" or file.read(1):
                    raise BackupFailed(f"{draft} was not written whole")
                return Summary(revision, dict(sorted(rows.items())), *newest)
            digest.update(line)
            if b"version_num" in line:
                revision = line.split(b"'")[1].decode()
            elif line.startswith(b"COPY "):
                name = line.split(b'"')[1].decode()
                rows[name] = 0
                for row in _rows(file, digest):
                    rows[name] += 1
                    if name == "blocks":
                        newest = max(newest, _block(row))
    raise BackupFailed(f"{draft} ends too soon")


def _rows(file: IO[bytes], digest: Any) -> Iterator[bytes]:
    for row in file:
        digest.update(row)
        if row == b"\\.\n":
            return
        yield row


def _block(row: bytes) -> tuple[int, str]:
    height, block_hash = row.split(b"\t")[:2]
    return int(height), block_hash.decode()
