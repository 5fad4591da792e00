"""The difference of expected scores has an error, and difficulties that are extrapolations have no difference."""

from alembic import op

revision = "0012_dif_errors"
down_revision = "0011_anchor_versions"

DETAILS = (
    "of an item: large (Wald severity high; where not tested, class C), why_not (of the Wald test; empty: tested), "
    "low_power, n {reference, focal} (answers), wald {statistic, df, severity (none, small, medium, high), wabc, "
    "shift, shift_se (difference of expected scores; below 0: harder for the focal group), delta_a, delta_a_se, "
    "delta_b, delta_b_se, delta_b_95 [low, high] (focal minus reference, in the reference group's SD; b's null "
    "where |b| > 6 or a < 0.2 in a group), anchor} or null, within_forms {sittings {reference, focal}, "
    "mantel_haenszel {delta, se, odds_ratio, chi2, p} or null, logistic {p, p_uniform, p_nonuniform, delta_r2, "
    "delta_r2_uniform, size} or null} or null. Of an attribute as a whole: why_not, groups [{name, n_learners, "
    "n_responses, why_not, low_power, mean, sd (of θ, on the reference group's scale, or null)}], smaller_groups "
    "{groups, learners} (not named), n_unknown, n_unreadable (of the unknown), anchors [item], warnings [sentence],"
    " sittings {complete, incomplete} or null, items {tested, low_power, not_tested} (of items × focal groups)"
)


def upgrade() -> None:
    op.alter_column("dif_analysis", "details", comment=DETAILS)


def downgrade() -> None:
    """Comments stay: no code reads them."""
