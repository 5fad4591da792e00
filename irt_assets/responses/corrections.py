"""Answers that change: scored again by another key, or withdrawn; what they were is kept in `attempt_correction`.

An answer changes in place, or goes, with `recorded_at` of now, so that days, weeks and months are seen to be stale. What
does not belong here: corrections that come with an import (see `importing.staging`), and the runs requested because of
changes (see `jobs.late_sensor`).
"""

from __future__ import annotations

from resources.tables import response_log

FORMER = ", ".join(column.name for column in response_log.columns)


def kept_as_corrections(changed: str, *, how: str, by: str = "%(by)s") -> str:
    """The statement that keeps the rows which `changed` returns, with their `reason`; it gives the number of answers.

    by: an expression for who changed them.
    """
    return f"""
        WITH changed AS ({changed}), kept AS (
            INSERT INTO attempt_correction ({FORMER}, how, corrected_by, reason)
            SELECT {FORMER}, '{how}', {by}, reason FROM changed)
        SELECT count(DISTINCT attempt_id) FROM changed"""
