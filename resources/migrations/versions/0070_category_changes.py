"""Describe the tests of single categories of scored items in the tables of drift and DIF.

Earlier code can read the new schema.
"""

from alembic import op

revision = "0070_category_changes"
down_revision = "0069_new_items"
oldest_code = "0057_verdict_state"

DETAILS = {
    "item_drift": "published {a, b, c}, delta_a_se, delta_b_se, delta_b_95, wald, tau, most_tau, limits {a, b, c}, "
    "chance_a_large, chance_b_large, log_bayes_factor, trend {b_a_month, se, q, months}, change {kind, size, "
    "gains, time_z, onset, distractor_above_the_key}; for an item that is compared by its curves, curves "
    "{right, right_se, with_ability, with_ability_se, df}; for a scored item, categories [{score, shift, se, "
    "p, q, wabc, named}] (of P(X ≥ score); shift in θ, above 0: harder); for an item that was published with "
    "another model, across_models and no changes of parameters; for an item without an estimate, published, "
    "change and proportion_correct {n, observed, expected, difference, se, z, why}",
    "dif_analysis": "for an item: large (Wald severity high; if not tested, class C), why_not (of the Wald test; "
    "empty: tested), low_power, n {reference, focal} (answers), wald {statistic, df, severity (none, small, medium, "
    "high), wabc, shift, shift_se (difference of expected scores; below 0: harder for the focal group), "
    "delta_a, delta_a_se, delta_b, delta_b_se, delta_b_95 [low, high] (focal minus reference, in the reference"
    " group's SD; b's are null if |b| > 6 or a < 0.2 in a group), anchor} or null, categories [{score, shift, "
    "se, p, q, wabc, named}] (of P(X ≥ score) of a scored item; shift in θ, above 0: harder for the focal "
    "group), within_forms {sittings {reference, focal}, mantel_haenszel {delta, se, odds_ratio, chi2, p} or "
    "null (null for a scored item, which has mantel {smd, se, chi2, p}), logistic {p, p_uniform, p_nonuniform,"
    " delta_r2, delta_r2_uniform, size} or null} or null. For an attribute as a whole: why_not, groups [{name,"
    " n_learners, n_responses, why_not, low_power, mean, sd (of θ, on the reference group's scale, or null)}],"
    " smaller_groups {groups, learners} (without names), n_unknown, n_unreadable (part of n_unknown), anchors "
    "[item], warnings [sentence], sittings {complete, incomplete} or null, items {tested, low_power, "
    "not_tested} (pairs of an item and a focal group)",
}


def upgrade() -> None:
    for table, comment in DETAILS.items():
        op.alter_column(table, "details", comment=comment)


def downgrade() -> None:
    pass
