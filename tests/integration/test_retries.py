"""What a step does with a failure: tries again later, or stops and says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from irt_assets.common import retries
from irt_assets.psychometrics.core.errors import PsychometricsError
from resources.failures import PermanentFailure, TransientFailure, is_transient
from resources.postgres.embedded_postgres import EmbeddedPostgres
from tests.testbed.patience import patient


def attempts(error: Exception, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[float]]:
    """How often a step that always fails with `error` was tried, and the pauses that it asked for."""
    tried, pauses = [], []
    requested = dg.RetryRequested

    def recorded(**options: float) -> dg.RetryRequested:
        pauses.append(options["seconds_to_wait"])
        return requested(max_retries=int(options["max_retries"]), seconds_to_wait=0)

    monkeypatch.setattr(retries.dg, "RetryRequested", recorded)

    @dg.asset
    def failing() -> None:
        tried.append(1)
        with retries.classify_failures():
            raise error

    assert not dg.materialize([failing], raise_on_error=False).success
    monkeypatch.setattr(retries.dg, "RetryRequested", requested)
    return len(tried), pauses


@pytest.mark.parametrize("error", [TransientFailure("busy"), psycopg.errors.AdminShutdown("restarting")], ids=str)
def test_a_transient_failure_is_tried_again_with_growing_pauses(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried, pauses = attempts(error, monkeypatch)
    assert tried == retries.MAX_RETRIES + 1
    assert all(later == 2 * earlier for earlier, later in pairwise(pauses[: retries.MAX_RETRIES]))
    assert sum(pauses[: retries.MAX_RETRIES]) > 60  # a failover of a managed PostgreSQL takes a minute


@pytest.mark.parametrize(
    "error", [PermanentFailure("no anchors"), PsychometricsError("no item"), ValueError("a fault of ours")], ids=str
)
def test_a_permanent_failure_is_tried_once(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    assert attempts(error, monkeypatch) == (1, [])


@pytest.fixture
def guarded(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The URL of a server that wants the password of the role `guarded`, without one."""
    url = postgres.start()
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("CREATE ROLE guarded LOGIN PASSWORD 'right'")
        (file,) = admin.execute("SHOW hba_file").fetchone() or ("",)
        rules = Path(file).read_text("utf-8")
        Path(file).write_text(f"host all guarded all scram-sha-256\n{rules}", "utf-8")
        admin.execute("SELECT pg_reload_conf()")
        yield f"postgresql://guarded{{}}@{url.rpartition('@')[2]}"
        Path(file).write_text(rules, "utf-8")
        admin.execute("SELECT pg_reload_conf()")
        admin.execute("DROP ROLE guarded")


def test_a_real_server_that_refuses_is_known_by_its_words(guarded: str) -> None:
    """A password, a database and a role that are wrong; in one test, as the server's rules are those of all workers."""
    right = guarded.format(":right")
    for url in (guarded.format(":wrong"), right.rpartition("/")[0] + "/nowhere", guarded.format("_nobody")):
        with pytest.raises(psycopg.OperationalError) as caught:
            psycopg.connect(url, connect_timeout=round(patient(15)))
        assert caught.value.sqlstate is None, "libpq tells by now: read the SQLSTATE instead of the words"
        assert not is_transient(caught.value), str(caught.value)
