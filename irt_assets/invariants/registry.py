"""Every invariant, in the order of the report."""

from irt_assets.invariants import activity, drift, forecasts, learners, months, publications, reports, snapshots
from irt_assets.invariants.invariant import Invariant

INVARIANTS: tuple[Invariant, ...] = (
    months.every_month_is_green,
    publications.published_parameters_come_from_sound_fits,
    publications.published_items_can_be_scored_with,
    publications.one_set_is_in_force_and_changes_are_decided,
    publications.anchors_change_by_decision_alone,
    publications.items_without_a_sound_estimate_are_held_back,
    publications.anchors_agree,
    publications.anchors_are_still_in_the_bank,
    snapshots.snapshots_match_their_hash,
    snapshots.no_test_answer_was_scored,
    drift.every_green_month_was_judged,
    drift.judgements_rest_on_fits_and_publications,
    reports.report_files_are_as_they_were_written,
    learners.every_learner_with_answers_has_an_ability,
    learners.runs_agree_on_abilities,
    activity.features_conserve_attempts,
    activity.kpis_are_whole,
    months.the_nightly_calibration_is_fresh,
    drift.large_drift_is_decided_on,
    publications.every_scale_and_topic_is_covered,
    snapshots.one_ability_explains_a_scale,
    snapshots.items_are_locally_independent,
    months.samples_stay_as_they_were,
    months.shares_of_the_sample_stay_as_they_were,
    months.the_linking_intercept_stays_near_its_history,
    learners.items_are_not_overexposed,
    learners.positions_do_not_change_difficulty,
    forecasts.abilities_forecast_the_next_answers,
)
