"""What errs with c is kept, and how curves of two models compare."""

from alembic import op

revision = "0026_errors_of_guessing"
down_revision = "0025_anchor_covariance"
oldest_code = "0013_abilities_by_window"

PARAMS = (
    "a, b, c, a_se, b_se, c_se, cov_ab on the bank's scale, of a 3PL cov_logit_c (of logit c with a, b, itself); the "
    "unlinked ones under raw; of a night provisional: true where nothing is published for the item"
)
PARAMS_BEFORE = (
    "a, b, c, a_se, b_se, c_se, cov_ab on the bank's scale; the unlinked ones under raw; of a night provisional: true"
    " where nothing is published for the item"
)
DETAILS = (
    "published {a, b, c}, delta_a_se, delta_b_se, delta_b_95, wald, inflation, limits {a, b, c}, chance_a_large, "
    "chance_b_large, log_bayes_factor, trend {b_a_month, se, q, months}, change {kind, size, gains, time_z, onset, "
    "distractor_above_the_key}; curves {right, right_se, with_ability, with_ability_se, df} of what is compared by "
    "its curves, across_models where it was published as another model (no changes of parameters then); of an item "
    "without an estimate published, change and proportion_correct {n, observed, expected, difference, se, z, why}"
)
DETAILS_BEFORE = (
    "published {a, b, c}, delta_a_se, delta_b_se, delta_b_95, wald, inflation, limits {a, b, c}, chance_a_large, "
    "chance_b_large, log_bayes_factor, trend {b_a_month, se, q, months}, change {kind, size, gains, time_z, onset, "
    "distractor_above_the_key}; of an item without an estimate published, change and proportion_correct {n, observed,"
    " expected, difference, se, z, why}"
)


def upgrade() -> None:
    op.alter_column("mirt_item_params", "params", comment=PARAMS)
    op.alter_column("item_drift", "details", comment=DETAILS)


def downgrade() -> None:
    op.alter_column("mirt_item_params", "params", comment=PARAMS_BEFORE)
    op.alter_column("item_drift", "details", comment=DETAILS_BEFORE)
