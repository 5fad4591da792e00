"""Which differences count as large is the Wald test's to say, where it was made."""

from alembic import op

revision = "0010_dif_large"
down_revision = "0009_days_only"

DETAILS = (
    "of an item: large (Wald severity high; where not tested, class C), why_not (of the Wald test; empty: tested), "
    "low_power, n {reference, focal} (answers), wald {statistic, df, severity (none, small, medium, high), wabc, "
    "shift (below 0: harder for the focal group), delta_a, delta_a_se, delta_b, delta_b_se, delta_b_95 [low, high] "
    "(focal minus reference, in the reference group's SD), anchor} or null, within_forms {sittings {reference, "
    "focal}, mantel_haenszel {delta, se, odds_ratio, chi2, p} or null, logistic {p, p_uniform, p_nonuniform, "
    "delta_r2, delta_r2_uniform, size} or null} or null. Of an attribute as a whole: why_not, groups [{name, "
    "n_learners, n_responses, why_not, low_power, mean, sd (of θ, on the reference group's scale, or null)}], "
    "smaller_groups {groups, learners} (not named), n_unknown, n_unreadable (of the unknown), anchors [item], "
    "warnings [sentence], sittings {complete, incomplete} or null, items {tested, low_power, not_tested} (of items × "
    "focal groups)"
)


def upgrade() -> None:
    op.alter_column("dif_analysis", "details", comment=DETAILS)


def downgrade() -> None:
    """Comments stay: no code reads them."""
