"""What the rows of drift and information hold is said where the columns are described."""

from alembic import op

revision = "0007_information_rows"
down_revision = "0006_report_artifacts"

COMMENTS = {
    ("item_drift", "p_value"): "of the joint Wald test, or of the test by proportion correct",
    ("item_drift", "q_value"): "after Benjamini-Hochberg, over the items tested alike",
    ("item_drift", "wabc"): (
        "weighted area between the curves; by proportion correct: the difference, which the area is at least"
    ),
    ("item_drift", "details"): (
        "published {a, b, c}, delta_a_se, delta_b_se, delta_b_95, wald, inflation, limits {a, b, c}, "
        "chance_a_large, chance_b_large, log_bayes_factor, trend {b_a_month, se, q, months}, change "
        "{kind, size, gains, time_z, onset, distractor_above_the_key}; of an item without an estimate "
        "published, change and proportion_correct {n, observed, expected, difference, se, z, why}"
    ),
    ("test_information", "curve"): (
        "equally long lists: theta; published and now, information with the parameters in force at the "
        "month's start and with the month's (null where the item has none); of the test both of the "
        "compared items, then in_force (all items in force, the month's parameters where it has them), "
        "without_flagged, and se_published, se_now, se_in_force, se_without_flagged (null where there is "
        "no information)"
    ),
    ("test_information", "details"): (
        "of an item: status (compared, not estimated, new), why, published, now, ratio, upper, p, q "
        "(averages over the population, the 95 % bound of the ratio), share_of_test, share_of_max, "
        "largest_drop {theta, drop, ratio}, severity, retire; of the test: worst {theta, ratio, low, "
        "high}, certain, trusted, caution, average {published, now, ratio}, retiring {items, efficiency, "
        "lowest, lowest_at, se_limit, se_above_before, se_above_after}, items {in_force, compared, new, "
        "not_estimated}, flagged_items, drifted_items, population {mean, sd}, middle, learners, fit_id, "
        "why"
    ),
}


def upgrade() -> None:
    for (table, column), comment in COMMENTS.items():
        op.alter_column(table, column, comment=comment)


def downgrade() -> None:
    """Comments stay: no code reads them."""
