"""An erasure that begins after a request or an import has checked for erasures."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from irt_assets.servers.instance import dagster_instance
from jobs.retention.erasure import erase, holdings
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.rooms import folder_store, rows
from tests.testbed.stack_harness import wait_for

WAITING = """SELECT count(*) > 0 FROM pg_locks JOIN pg_database d ON d.oid = database
             WHERE NOT granted AND datname = current_database()"""


@contextmanager
def erased_after(module: str, function: str, database: Database, settings: Settings, user: str) -> Iterator[None]:
    """Erase a learner when `function` of `module` has returned for the first time.

    The function returns to its caller when the erasure is complete or waits for a lock. The erasure is complete at the
    end of the context.
    """
    real, begun = getattr(importlib.import_module(module), function), list[Future[Any]]()
    store, rejects = folder_store(settings), settings.irt_home / "rejects"

    with dagster_instance(settings, database) as instance, ThreadPoolExecutor(1) as pool:

        def then_erase(*given: Any) -> Any:
            found = real(*given)
            if not begun:
                held = holdings(database, store, user)
                signed = {"by": "Ann", "reason": "asked"}
                begun.append(pool.submit(erase, database, store, instance, held, rejects=rejects, **signed))
                wait_for("the erasure", lambda: begun[0].done() or rows(database, WAITING) == [(True,)])
            return found

        with patch(f"{module}.{function}", then_erase):
            yield
        begun[0].result()
