"""What a month's linked fit does to θ, as it was measured: one row of `month_impact` for each fit, read and written.

What does not belong here: measuring it, and when (see `calibration.month_impact`).
"""

from __future__ import annotations

from dataclasses import fields

import psycopg

from irt_assets.psychometrics.scoring.scale_shift import MonthImpact
from resources import tables
from resources.postgres import warehouse
from resources.postgres.database import records

_MEASURED = ", ".join(one.name for one in fields(MonthImpact))


def read_impact(connection: psycopg.Connection, fit_id: str, compared_with: str | None = None) -> MonthImpact | None:
    """The impact of a fit; with `compared_with`, only one that was measured against these values in force."""
    found = records(
        connection,
        MonthImpact,
        f"""SELECT {_MEASURED} FROM month_impact
            WHERE fit_id = %(fit_id)s AND (%(digest)s::text IS NULL OR compared_with = %(digest)s)""",
        {"fit_id": fit_id, "digest": compared_with},
    )
    return found[0] if found else None


def write_impact(connection: psycopg.Connection, fit_id: str, impact: MonthImpact, compared_with: str | None) -> None:
    """Write the impact of a fit in place of an earlier one. `compared_with`: a digest of the values in force that it
    was measured against."""
    import pandas as pd  # takes half a second, only for writers

    row = impact.as_dict() | {"fit_id": fit_id, "compared_with": compared_with}
    warehouse.replace(connection, tables.month_impact, {"fit_id": fit_id}, pd.DataFrame([row]))
