"""Data that monitors read often: open violations and their severity, and the age of the last report and backup.

Light to import, and without Dagster.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg

from irt_assets.common.wording import join_names, quantity
from irt_assets.ledger.decisions import newest_decisions
from irt_assets.ledger.steps import months_stepped_since
from resources.alerts.outbox import Severity
from resources.postgres.database import first_column, one_value, record

BACKUP_AGE = timedelta(hours=25)
"""Age after which a daily backup is late."""
MAX_DECISIONS, MAX_MONTHS = 20, 3
"""Maximum number of decisions that are counted, and of months that are listed, since the last evaluation."""
SEVERITY: Mapping[str, Severity] = {
    "every_month_is_green": "error",
    "published_parameters_come_from_sound_fits": "error",
    "published_items_can_be_scored_with": "error",
    "one_set_is_in_force_and_changes_are_decided": "error",
    "anchors_change_by_decision_alone": "error",
    "items_without_a_sound_estimate_are_held_back": "error",
    "anchors_agree": "error",
    "anchors_are_still_in_the_bank": "error",
    "snapshots_match_their_hash": "error",
    "no_test_answer_was_scored": "error",
    "every_green_month_was_judged": "error",
    "judgements_rest_on_fits_and_publications": "error",
    "report_files_are_as_they_were_written": "error",
    "score_tables_match_their_hash": "error",
    "issued_scores_agree_with_their_tables": "error",
    "forms_and_adaptive_tests_have_different_names": "error",
    "decisions_are_valid_and_name_no_learner": "error",
    "every_learner_with_answers_has_an_ability": "error",
    "runs_agree_on_abilities": "error",
    "verdicts_follow_from_answers_and_rules": "error",
    "stored_verdicts_on_months_are_those_of_their_gates": "error",
    "features_conserve_attempts": "error",
    "kpis_are_whole": "error",
    "the_nightly_calibration_is_fresh": "error",
    "grades_follow_keys_and_maximum_scores": "warning",
    "large_drift_is_decided_on": "warning",
    "every_scale_and_topic_is_covered": "warning",
    "one_ability_explains_a_scale": "warning",
    "items_are_locally_independent": "warning",
    "samples_stay_as_they_were": "warning",
    "shares_of_the_sample_stay_as_they_were": "warning",
    "the_linking_intercept_stays_near_its_history": "warning",
    "items_are_not_overexposed": "warning",
    "positions_do_not_change_difficulty": "warning",
    "abilities_forecast_the_next_answers": "warning",
}
"""The severity of each invariant, in the order in which a person would read them."""


@dataclass(frozen=True)
class OpenViolation:
    invariant: str
    severity: str
    subjects: int
    example: str
    partitions: list[str]


def open_partitions(connection: psycopg.Connection, invariant: str) -> set[str]:
    """The partitions with an open violation of the invariant."""
    return set(
        first_column(
            connection,
            """SELECT DISTINCT partition FROM invariant_result
               WHERE invariant = %s AND subject <> '' AND NOT passed AND resolved_at IS NULL""",
            (invariant,),
        )
    )


def open_violations(connection: psycopg.Connection) -> Iterator[OpenViolation]:
    """The number of subjects, an example and the partitions ("" for none) of each invariant that is violated now."""
    rows = connection.execute(
        """SELECT invariant, count(*), min(concat_ws(' ', nullif(partition, ''), subject)),
                  array_agg(DISTINCT partition)
           FROM invariant_result WHERE NOT passed AND subject <> '' AND resolved_at IS NULL GROUP BY 1"""
    ).fetchall()
    found = [OpenViolation(name, SEVERITY.get(name, "error"), *rest) for name, *rest in rows]
    yield from sorted(found, key=lambda violation: (violation.severity, violation.invariant))


@dataclass(frozen=True)
class LastBackup:
    made_at: datetime
    address: str


def last_backup(connection: psycopg.Connection) -> LastBackup | None:
    """The newest backup. Returns None if no backup has ever been made; then no backup is expected."""
    return record(connection, LastBackup, "SELECT made_at, address FROM backup ORDER BY made_at DESC LIMIT 1")


def last_evaluated(connection: psycopg.Connection) -> datetime | None:
    """The time of the newest report, from the schedule or by hand. Returns None if there is no report."""
    return one_value(connection, "SELECT max(evaluated_at) FROM invariant_result WHERE subject = ''")


def changes_since_evaluation(connection: psycopg.Connection, at: datetime | None) -> str:
    """Describe the changes since the invariants were evaluated at `at`, to tell whether the result is current.

    Returns a clause with the months recomputed and the number of decisions made, such as "2026-08 was recomputed and 1
    decision was made"; empty if nothing has changed, or if the invariants have never been evaluated.
    """
    if at is None:
        return ""
    months = months_stepped_since(connection, at)
    decisions = sum(decision.at > at for decision in newest_decisions(connection, MAX_DECISIONS))
    counted = [
        (join_names(months, MAX_MONTHS), "recomputed", len(months)),
        (quantity(decisions, "decision"), "made", decisions),
    ]
    return " and ".join(f"{names} {'was' if n == 1 else 'were'} {verb}" for names, verb, n in counted if n)
