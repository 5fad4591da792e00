"""What the rows of DIF hold is said where the columns are described."""

from alembic import op

revision = "0008_dif_rows"
down_revision = "0007_information_rows"

COMMENTS = {
    "item_id": "item; empty: the attribute as a whole, one row of each that the scale asks about",
    "focal_group": "group compared with the reference group; empty: the attribute as a whole",
    "reference_group": "reference group, the largest that can be compared; empty: there is none",
    "p_value": "of the multi-group Wald test; null: not tested",
    "q_value": "after Benjamini-Hochberg over the items",
    "ets_class": "A, B or C by Mantel-Haenszel; null: not tested",
    "details": (
        "of an item: large (class C, or Wald severity high), why_not (of the Wald test; empty: tested), low_power, "
        "n {reference, focal} (answers), wald {statistic, df, severity (none, small, medium, high), wabc, shift (below "
        "0: harder for the focal group), delta_a, delta_a_se, delta_b, delta_b_se, delta_b_95 [low, high] (focal minus "
        "reference, in the reference group's SD), anchor} or null, within_forms {sittings {reference, focal}, "
        "mantel_haenszel {delta, se, odds_ratio, chi2, p} or null, logistic {p, p_uniform, p_nonuniform, delta_r2, "
        "delta_r2_uniform, size} or null} or null. Of an attribute as a whole: why_not, groups [{name, n_learners, "
        "n_responses, why_not, low_power, mean, sd (of θ, on the reference group's scale, or null)}], smaller_groups "
        "{groups, learners} (not named), n_unknown, n_unreadable (of the unknown), anchors [item], warnings "
        "[sentence], sittings {complete, incomplete} or null, items {tested, low_power, not_tested} (of items × focal "
        "groups)"
    ),
}


def upgrade() -> None:
    for column, comment in COMMENTS.items():
        op.alter_column("dif_analysis", column, comment=comment)


def downgrade() -> None:
    """Comments stay: no code reads them."""
