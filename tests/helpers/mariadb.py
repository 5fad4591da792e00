"""Debian's MariaDB on a port of this machine, while a test module runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pymysql
import pytest

from tests.testbed.stack_harness import wait_for


@contextmanager
def mariadb() -> Iterator[str]:
    """Yields the SQLAlchemy URL of a new database `lms`."""
    program = shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin")
    if program is None:
        reason = "there is no MariaDB: apt install mariadb-server"
        (pytest.fail if os.environ.get("IRT_REQUIRE_ALL") else pytest.skip)(reason)
    with tempfile.TemporaryDirectory(prefix="irt-mariadb-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        data, socket, user = folder / "data", folder / "socket", ["--user=root"] * (os.geteuid() == 0)
        install = ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--skip-test-db", *user]
        subprocess.run([*install, "--auth-root-authentication-method=normal"], check=True, capture_output=True)
        quick = ["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M", "--skip-log-bin"]
        started = [program, "--no-defaults", f"--datadir={data}", f"--socket={socket}", *user, *quick]
        started += ["--skip-networking", f"--pid-file={folder / 'pid'}", "--character-set-server=utf8mb4"]
        with (folder / "log").open("wb") as log, subprocess.Popen(started, stdout=log, stderr=log) as server:
            try:
                wait_for("MariaDB", lambda: _answers(socket, server))
                with pymysql.connect(unix_socket=str(socket), user="root") as connection:
                    connection.cursor().execute("CREATE DATABASE lms")
                yield f"mysql://root@localhost/lms?unix_socket={socket}"
            finally:
                server.terminate()


def _answers(socket: Path, server: subprocess.Popen[bytes]) -> bool:
    assert server.poll() is None, "MariaDB ended"
    try:
        pymysql.connect(unix_socket=str(socket), user="root").close()
    except pymysql.OperationalError:
        return False
    return True
