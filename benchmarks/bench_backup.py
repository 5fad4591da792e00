"""Seconds of a backup and a restore per million answers, and the size of the backup.

    python -m benchmarks.bench_backup [ROWS]      (default 1,000,000)

The embedded server contains only the answers of `bench_import.py`. The restore, without --verify, checks the files,
loads and analyses the database, and compares the digests of all rows. CPU is the time of this process, pg_dump and
pg_restore; the server's CPU time is included only in the wall clock.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.bench_import import write_log
from irt_assets.backup.make import make_backup
from irt_assets.backup.places import FolderPlace
from irt_assets.backup.restore import restore_backup
from irt_assets.intake.load import import_attempts
from resources.files.folder_claim import open_store
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.postgres.schema import upgrade
from resources.settings import Settings


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("rows", nargs="?", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        home, copy = Path(folder, "home"), Path(folder, "copy")
        try:
            database = _database(home)
            upgrade(database)
            write_log(Path(folder, "log.csv"), rows)
            import_attempts(database, [Path(folder, "log.csv")], first_month="2026-05")
            with database.connect() as connection:
                (size,) = connection.execute("SELECT pg_database_size(current_database())").fetchone() or (0,)
            print(f"{rows:,} answers, {size / 2**20:,.0f} MB in the database; load {os.getloadavg()[0]:.1f} on "
                  f"{os.cpu_count()} cores")  # fmt: skip
            with print_time("backup"):
                backup = make_backup(
                    _settings(home), database, open_store(_settings(home), database), FolderPlace(home)
                )
            print(f"  {backup.size / 2**20:,.0f} MB")
            with print_time("restore"):
                name = Path(backup.address).name
                restored = restore_backup(_settings(copy), _database(copy), FolderPlace(home), name, verify=False)
            assert restored.differences == [], restored.differences
        finally:
            for installation in (home, copy):
                EmbeddedPostgres(installation / "postgres").stop()


def _settings(home: Path) -> Settings:
    return Settings(irt_home=home, database_url=None, irt_first_month="2026-05", _env_file=None)  # type: ignore[call-arg]


def _database(home: Path) -> Database:
    return Database(_settings(home))


@contextmanager
def print_time(name: str) -> Iterator[None]:
    began, cpu = time.monotonic(), _cpu()
    yield
    print(f"{name}: {time.monotonic() - began:.1f} s, {_cpu() - cpu:.1f} s CPU (load now {os.getloadavg()[0]:.1f})")


def _cpu() -> float:
    both = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


if __name__ == "__main__":
    main()
