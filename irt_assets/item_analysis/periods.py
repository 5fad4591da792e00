"""Analyse a month or a day on every scale, and store the result."""

from collections.abc import Mapping
from datetime import date, datetime

import pandas as pd
import psycopg

from irt_assets.common.job_names import ITEM_ANALYSIS_DAILY
from irt_assets.common.partitions import Month, day_bounds, month_of
from irt_assets.item_analysis.analysis import Analysis, Bank, analyse
from irt_assets.item_analysis.answers import COLUMNS, read_answers
from irt_assets.item_analysis.forms import read_forms, take_from_log
from irt_assets.item_analysis.key_evidence import follow_keys, read_keys
from irt_assets.item_analysis.option_curves import add_curves
from irt_assets.item_analysis.stored import write_analysis
from irt_assets.ledger.publications import in_force
from irt_assets.responses.closed_months import scales_of_month
from irt_assets.responses.proposed_window import proposed_window
from irt_assets.responses.snapshot import read_for_run, snapshot_for_scale
from irt_assets.responses.stored_window import share_for_run, stored_window
from irt_assets.responses.verdict_states import record_states, states_of_verdicts
from irt_assets.responses.verdicts import days_that_differ
from irt_assets.scales.scale import Scale, read_scales
from irt_psychometrics import PsychometricsError
from resources.cluster.relational import on_postgres
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database, database_settings


def analyse_month(database: Database, store: ObjectStore, month: str) -> dict[str, Analysis]:
    """Analyse the month's snapshot on every scale, and replace its stored rows. Returns the analysis of each scale.

    In a month that is too large for one machine, only a random sample of learners is analysed.
    """
    with database.connect() as connection:
        scales, answers = read_scales(connection, Month(month).start), {}
        most = database_settings(connection).most_for_run
        for scale_id in scales:
            if snapshot := snapshot_for_scale(connection, month, scale_id):
                table = read_for_run(store, snapshot, most, COLUMNS, (scale_id,))
                answers[scale_id] = read_answers(table, scale_id)
        return _analyse_scales(connection, month, Month(month).start, scales, answers, whole_month=True)


def analyse_day(database: Database, day: str) -> dict[str, Analysis]:
    """Analyse the day's answers on every scale, and replace its stored rows.

    The answers of a day that has not been judged, or has changed since, are judged without storing the verdicts. The
    state of the stored verdicts is recorded, so that the day is analysed again once they have changed.
    """
    start, end = day_bounds(day)
    with database.connect() as connection:
        record_states(connection, ITEM_ANALYSIS_DAILY, states_of_verdicts(connection, {day: (start, end)}))
        scales = scales_of_month(connection, month_of(start))
        if days_that_differ(connection, date.fromisoformat(day), end.date()):
            window = proposed_window(connection, start, end, scales)
        else:
            most = database_settings(connection).most_for_run
            window = stored_window(
                connection, start, end, scales, share=share_for_run(on_postgres(connection), most, start, end)
            )
        answers = {scale_id: read_answers(window.table, scale_id) for scale_id in scales}
        return _analyse_scales(connection, day, start, scales, answers, whole_month=False)


def _analyse_scales(
    connection: psycopg.Connection,
    period: str,
    start: datetime,
    scales: Mapping[str, Scale],
    answers: Mapping[str, pd.DataFrame],
    *,
    whole_month: bool,
) -> dict[str, Analysis]:
    if answers:
        take_from_log(connection, pd.concat(answers.values()), whole_month=whole_month)
    forms, found = read_forms(connection), {}
    for scale_id, of_scale in answers.items():
        scale = scales[scale_id]
        in_use = in_force(connection, scale_id, start).items
        with_topic = "SELECT item_id, topic_id FROM question WHERE scale_id = %s AND topic_id <> ''"
        topics: dict[str, str] = dict(connection.execute(with_topic, (scale_id,)).fetchall())
        bank = Bank(read_keys(connection, scale_id), topics, in_use, scale.mu, scale.sigma, scale.rules.warnings)
        try:
            analysis = analyse(of_scale, bank, forms)
        except PsychometricsError as error:
            analysis = Analysis([], [], of_scale[:0], why=str(error))
        if whole_month:
            analysis = add_curves(analysis)
        write_analysis(connection, scale_id, period, analysis.forms, analysis.items)
        if not whole_month and analysis.items:
            follow_keys(connection, period, bank.keys, analysis.answers)
        found[scale_id] = analysis
    return found
