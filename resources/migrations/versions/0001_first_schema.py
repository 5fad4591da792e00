"""The first schema: the item bank, the answers, and everything that is computed from them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "anchor_set",
        sa.Column("scale_id", sa.Text(), nullable=False, comment="bank whose items measure one ability"),
        sa.Column("version", sa.Integer(), nullable=False, comment="version of the set"),
        sa.Column("item_id", sa.Text(), nullable=False, comment="item"),
        sa.Column("a", sa.Double(), nullable=False, comment="discrimination, logistic metric (D = 1)"),
        sa.Column("b", sa.Double(), nullable=False, comment="difficulty on the bank's scale"),
        sa.Column("c", sa.Double(), nullable=False, comment="lower asymptote"),
        sa.Column("a_se", sa.Double(), nullable=True, comment="standard error of a"),
        sa.Column("b_se", sa.Double(), nullable=True, comment="standard error of b"),
        sa.Column("c_se", sa.Double(), nullable=True, comment="standard error of c"),
        sa.Column("cov_ab", sa.Double(), nullable=True, comment="covariance of a and b"),
        sa.Column(
            "errors_assumed",
            sa.Boolean(),
            nullable=False,
            comment="true: the errors are those of a calibration with n = 500, as the bank gave none",
        ),
        sa.Column("topic_id", sa.Text(), nullable=True, comment="topic of the item when the set was frozen"),
        sa.Column("anchor_hash", sa.Text(), nullable=False, comment="hash of the whole set"),
        sa.Column(
            "frozen_at", TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False, comment="when"
        ),
        sa.PrimaryKeyConstraint("scale_id", "version", "item_id"),
        comment="The frozen anchors of a scale, with their parameters and errors.",
    )
    op.create_table(
        "calibration_scale",
        sa.Column("scale_id", sa.Text(), nullable=False, comment="bank whose items measure one ability"),
        sa.Column("origin", JSONB(), nullable=False, comment="bank, or the window that was declared the origin"),
        sa.Column(
            "mu",
            sa.Double(),
            server_default=sa.text("0"),
            nullable=False,
            comment="mean of the population that abilities are reported against",
        ),
        sa.Column("sigma", sa.Double(), server_default=sa.text("1"), nullable=False, comment="its standard deviation"),
        sa.Column(
            "model", sa.Text(), server_default=sa.text("'2pl'"), nullable=False, comment="rasch, 1pl, 2pl or 3pl"
        ),
        sa.Column(
            "engine",
            sa.Text(),
            server_default=sa.text("'em'"),
            nullable=False,
            comment="engine whose fits are published",
        ),
        sa.Column(
            "assignment",
            sa.Text(),
            server_default=sa.text("'linear'"),
            nullable=False,
            comment="linear or adaptive: how items are chosen for learners",
        ),
        sa.Column("pass_theta", sa.Double(), nullable=True, comment="pass mark"),
        sa.Column(
            "thresholds",
            JSONB(),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
            comment="eligibility and gate settings that differ from the defaults",
        ),
        sa.Column(
            "anchor_version",
            sa.Integer(),
            server_default=sa.text("1"),
            nullable=False,
            comment="version of the anchor set in use",
        ),
        sa.Column(
            "initialised_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when the scale was initialised",
        ),
        sa.PrimaryKeyConstraint("scale_id"),
        comment="A scale, its origin and its rules.",
    )
    op.create_table(
        "dif_analysis",
        sa.Column("month", sa.Text(), nullable=False, comment="calendar month of the window, e.g. 2026-09 (UTC)"),
        sa.Column("scale_id", sa.Text(), nullable=False, comment="bank whose items measure one ability"),
        sa.Column("item_id", sa.Text(), nullable=False, comment="item"),
        sa.Column("attribute", sa.Text(), nullable=False, comment="learner attribute"),
        sa.Column("focal_group", sa.Text(), nullable=False, comment="group compared with the reference group"),
        sa.Column("reference_group", sa.Text(), nullable=False, comment="reference group"),
        sa.Column("p_value", sa.Double(), nullable=True, comment="of the multi-group Wald test"),
        sa.Column("q_value", sa.Double(), nullable=True, comment="after Benjamini-Hochberg"),
        sa.Column("ets_class", sa.Text(), nullable=True, comment="A, B or C"),
        sa.Column(
            "details",
            JSONB(),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
            comment="effect sizes and the other tests",
        ),
        sa.Column(
            "computed_at", TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False, comment="when"
        ),
        sa.PrimaryKeyConstraint("month", "scale_id", "item_id", "attribute", "focal_group"),
        comment="Whether an item treats groups of equal ability differently.",
    )
    op.create_table(
        "drift_alerts",
        sa.Column("alert_id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="order of opening"),
        sa.Column("scale_id", sa.Text(), nullable=False, comment="scale"),
        sa.Column("item_id", sa.Text(), nullable=False, comment="item"),
        sa.Column("kind", sa.Text(), nullable=False, comment="what happened"),
        sa.Column("severity", sa.Text(), nullable=False, comment="medium or high"),
        sa.Column("opened_month", sa.Text(), nullable=False, comment="month that opened it"),
        sa.Column("closed_month", sa.Text(), nullable=True, comment="month that closed it"),
        sa.Column("details", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False, comment="evidence"),
        sa.Column(
            "opened_at", TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False, comment="when"
        ),
        sa.Column("closed_at", TIMESTAMP(timezone=True), nullable=True, comment="when it was closed"),
        sa.PrimaryKeyConstraint("alert_id"),
        comment="Alerts on items, opened and closed.",
    )
    op.create_table(
        "features_topic_daily",
        sa.Column("user_id", sa.Text(), nullable=False, comment="learner"),
        sa.Column("topic_id", sa.Text(), nullable=False, comment="topic, 'unknown' where an item has none"),
        sa.Column("date", sa.Date(), nullable=False, comment="day (UTC)"),
        sa.Column("attempts", sa.Integer(), nullable=False, comment="live answers"),
        sa.Column("correct", sa.Integer(), nullable=False, comment="correct answers"),
        sa.Column(
            "rt_median", sa.Double(), nullable=True, comment="median response time of correct answers with a time"
        ),
        sa.Column("hints", sa.Integer(), nullable=True, comment="hints taken; null where unknown"),
        sa.Column(
            "computed_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when this row was computed",
        ),
        sa.PrimaryKeyConstraint("user_id", "topic_id", "date"),
        comment="What a learner did in a topic on a day.",
    )
    op.create_table(
        "fit_staging",
        sa.Column("fit_id", sa.Text(), nullable=False, comment="fit"),
        sa.Column("month", sa.Text(), nullable=False, comment="calendar month of the window"),
        sa.Column("scale_id", sa.Text(), nullable=False, comment="scale"),
        sa.Column("engine", sa.Text(), nullable=False, comment="engine"),
        sa.Column("snapshot_hash", sa.Text(), nullable=False, comment="snapshot it was fitted on"),
        sa.Column(
            "calibration",
            sa.LargeBinary(),
            nullable=True,
            comment="the Calibration, compressed; null where the fit failed",
        ),
        sa.Column("error", sa.Text(), nullable=True, comment="why there is no fit"),
        sa.Column("error_kind", sa.Text(), nullable=True, comment="type of that error"),
        sa.Column(
            "spec", JSONB(), nullable=False, comment="model, priors, quadrature, eligibility, excluded items by reason"
        ),
        sa.Column("code_version", sa.Text(), nullable=False, comment="version of this code"),
        sa.Column("run_id", sa.Text(), nullable=True, comment="Dagster run that wrote it"),
        sa.Column(
            "fitted_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was fitted",
        ),
        sa.PrimaryKeyConstraint("fit_id"),
        comment="Fits as they left the engine, before linking, and the reasons of those that could not be made.",
    )
    op.create_index("fit_staging_month", "fit_staging", ["month", "scale_id", "engine", "fitted_at"], unique=False)
    op.create_table(
        "invariant_result",
        sa.Column("run", sa.Text(), nullable=False, comment="run that evaluated it"),
        sa.Column("invariant", sa.Text(), nullable=False, comment="invariant"),
        sa.Column("partition", sa.Text(), nullable=False, comment="month, week or day; empty where it has none"),
        sa.Column("subject", sa.Text(), nullable=False, comment="item, learner, month, …; empty where it passed"),
        sa.Column("passed", sa.Boolean(), nullable=False, comment="whether it held"),
        sa.Column("observed", sa.Text(), nullable=True, comment="what was seen"),
        sa.Column("expected", sa.Text(), nullable=True, comment="what should have been"),
        sa.Column("fix", sa.Text(), nullable=True, comment="what to do"),
        sa.Column(
            "evaluated_at", TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False, comment="when"
        ),
        sa.Column("resolved_at", TIMESTAMP(timezone=True), nullable=True, comment="when the violation was gone"),
        sa.PrimaryKeyConstraint("run", "invariant", "partition", "subject"),
        comment="What the invariants found, open violations and their history.",
    )
    op.create_table(
        "item_drift",
        sa.Column("month", sa.Text(), nullable=False, comment="calendar month of the window, e.g. 2026-09 (UTC)"),
        sa.Column("scale_id", sa.Text(), nullable=False, comment="bank whose items measure one ability"),
        sa.Column("item_id", sa.Text(), nullable=False, comment="item"),
        sa.Column("engine", sa.Text(), nullable=False, comment="engine"),
        sa.Column("delta_a", sa.Double(), nullable=True, comment="change of a"),
        sa.Column("delta_b", sa.Double(), nullable=True, comment="change of b"),
        sa.Column("delta_c", sa.Double(), nullable=True, comment="change of c"),
        sa.Column("p_value", sa.Double(), nullable=True, comment="of the joint Wald test"),
        sa.Column("q_value", sa.Double(), nullable=True, comment="after Benjamini-Hochberg"),
        sa.Column("wabc", sa.Double(), nullable=True, comment="weighted area between the curves"),
        sa.Column("severity", sa.Text(), nullable=False, comment="none, medium or high"),
        sa.Column(
            "details",
            JSONB(),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
            comment="intervals, limits, kind of change",
        ),
        sa.Column(
            "computed_at", TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False, comment="when"
        ),
        sa.PrimaryKeyConstraint("month", "scale_id", "item_id", "engine"),
        comment="How far an item's parameters moved against the published ones.",
    )
    op.create_table(
        "item_parameter_proposal",
        sa.Column("month", sa.Text(), nullable=False, comment="calendar month of the window, e.g. 2026-09 (UTC)"),
        sa.Column("scale_id", sa.Text(), nullable=False, comment="bank whose items measure one ability"),
        sa.Column("item_id", sa.Text(), nullable=False, comment="item"),
        sa.Column("fit_id", sa.Text(), nullable=False, comment="fit it comes from"),
        sa.Column("a", sa.Double(), nullable=False, comment="discrimination, logistic metric (D = 1)"),
        sa.Column("b", sa.Double(), nullable=False, comment="difficulty on the bank's scale"),
        sa.Column("c", sa.Double(), nullable=False, comment="lower asymptote"),
        sa.Column("a_se", sa.Double(), nullable=True, comment="standard error of a"),
        sa.Column("b_se", sa.Double(), nullable=True, comment="standard error of b"),
        sa.Column("c_se", sa.Double(), nullable=True, comment="standard error of c"),
        sa.Column("cov_ab", sa.Double(), nullable=True, comment="covariance of a and b"),
        sa.Column("why", sa.Text(), nullable=False, comment="why it was not published by itself"),
        sa.Column(
            "created_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was proposed",
        ),
        sa.PrimaryKeyConstraint("month", "scale_id", "item_id", "fit_id"),
        comment="What a month would publish but only a person may.",
    )
    op.create_table(
        "item_parameter_publication",
        sa.Column(
            "publication_id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="order of publication"
        ),
        sa.Column("scale_id", sa.Text(), nullable=False, comment="scale"),
        sa.Column("item_id", sa.Text(), nullable=False, comment="item"),
        sa.Column("a", sa.Double(), nullable=False, comment="discrimination, logistic metric (D = 1)"),
        sa.Column("b", sa.Double(), nullable=False, comment="difficulty on the bank's scale"),
        sa.Column("c", sa.Double(), nullable=False, comment="lower asymptote"),
        sa.Column("a_se", sa.Double(), nullable=True, comment="standard error of a"),
        sa.Column("b_se", sa.Double(), nullable=True, comment="standard error of b"),
        sa.Column("c_se", sa.Double(), nullable=True, comment="standard error of c"),
        sa.Column("cov_ab", sa.Double(), nullable=True, comment="covariance of a and b"),
        sa.Column("effective_from", TIMESTAMP(timezone=True), nullable=False, comment="in force from this time on"),
        sa.Column("month", sa.Text(), nullable=True, comment="month whose fit it comes from; null for bank values"),
        sa.Column("fit_id", sa.Text(), nullable=True, comment="fit it comes from; null for bank values"),
        sa.Column("rule", sa.Text(), nullable=False, comment="origin, first or decision"),
        sa.Column("decided_by", sa.Text(), nullable=True, comment="who decided; null where a rule did"),
        sa.Column("reason", sa.Text(), nullable=False, comment="why"),
        sa.Column("replaces", sa.BigInteger(), nullable=True, comment="publication that it replaces"),
        sa.Column("data_hash", sa.Text(), nullable=True, comment="hash of the answers it comes from"),
        sa.Column("anchor_hash", sa.Text(), nullable=False, comment="hash of the anchor set"),
        sa.Column("code_version", sa.Text(), nullable=False, comment="version of this code"),
        sa.Column("run_id", sa.Text(), nullable=True, comment="Dagster run that published it"),
        sa.Column(
            "published_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was published",
        ),
        sa.PrimaryKeyConstraint("publication_id"),
        comment="The ledger: what was published, from when on, from which fit, by which rule or person, and why. "
        "Append-only.",
    )
    op.create_index(
        "item_parameter_publication_item",
        "item_parameter_publication",
        ["scale_id", "item_id", "effective_from"],
        unique=False,
    )
    op.create_table(
        "learner",
        sa.Column("user_id", sa.Text(), nullable=False, comment="learner id, text, never assumed numeric"),
        sa.Column(
            "attributes",
            JSONB(),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
            comment="lang, country, tier, …",
        ),
        sa.Column(
            "is_test",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="test account: its answers are never used",
        ),
        sa.Column("target_scale_id", sa.Text(), nullable=True, comment="scale of the learner's goal"),
        sa.Column("target_theta", sa.Double(), nullable=True, comment="ability the learner aims for"),
        sa.PrimaryKeyConstraint("user_id"),
        comment="Everyone who answers.",
    )
    op.create_table(
        "mirt_ability",
        sa.Column("update_id", sa.Text(), nullable=False, comment="the run or update that computed it"),
        sa.Column("user_id", sa.Text(), nullable=False, comment="learner"),
        sa.Column("scale_id", sa.Text(), nullable=False, comment="bank whose items measure one ability"),
        sa.Column("theta", sa.Double(), nullable=False, comment="ability on the bank's scale"),
        sa.Column("se", sa.Double(), nullable=False, comment="standard error"),
        sa.Column("method", sa.Text(), nullable=False, comment="eap, map or wle"),
        sa.Column("n_items", sa.Integer(), nullable=False, comment="answers to published items that were used"),
        sa.Column("kind", sa.Text(), nullable=False, comment="monthly, nightly or online"),
        sa.Column("window_end", TIMESTAMP(timezone=True), nullable=False, comment="answers before this time were used"),
        sa.Column(
            "published_as_of",
            TIMESTAMP(timezone=True),
            nullable=False,
            comment="the published set in force then was used",
        ),
        sa.Column("set_hash", sa.Text(), nullable=False, comment="hash of that set"),
        sa.Column("scale_version", sa.Integer(), nullable=False, comment="version of the anchor set"),
        sa.Column(
            "fitted_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was computed",
        ),
        sa.PrimaryKeyConstraint("update_id", "user_id", "scale_id"),
        comment="A learner's ability at a time.",
    )
    op.create_index("mirt_ability_user", "mirt_ability", ["user_id", "fitted_at"], unique=False)
    op.create_index("mirt_ability_window", "mirt_ability", ["kind", "window_end"], unique=False)
    op.create_table(
        "mirt_fit_meta",
        sa.Column("fit_id", sa.Text(), nullable=False, comment="fit"),
        sa.Column("scale_id", sa.Text(), nullable=False, comment="scale"),
        sa.Column("kind", sa.Text(), nullable=False, comment="monthly, nightly or origin"),
        sa.Column("window_start", TIMESTAMP(timezone=True), nullable=False, comment="start of the window"),
        sa.Column("window_end", TIMESTAMP(timezone=True), nullable=False, comment="end of the window (exclusive)"),
        sa.Column("engine", sa.Text(), nullable=False, comment="em, pymc, mirt or brms"),
        sa.Column("engine_version", sa.Text(), nullable=False, comment="its version"),
        sa.Column("model", sa.Text(), nullable=False, comment="rasch, 1pl, 2pl or 3pl"),
        sa.Column("n_persons", sa.Integer(), nullable=False, comment="learners"),
        sa.Column("n_items", sa.Integer(), nullable=False, comment="items with parameters"),
        sa.Column("n_responses", sa.BigInteger(), nullable=False, comment="responses"),
        sa.Column("loglik", sa.Double(), nullable=False, comment="marginal log-likelihood"),
        sa.Column("aic", sa.Double(), nullable=False, comment="Akaike information criterion"),
        sa.Column("bic", sa.Double(), nullable=False, comment="Bayesian information criterion, over persons"),
        sa.Column("converged", sa.Boolean(), nullable=False, comment="whether the engine reached its maximum"),
        sa.Column("iterations", sa.Integer(), nullable=False, comment="iterations"),
        sa.Column("max_rhat", sa.Double(), nullable=True, comment="largest R-hat of a sampled fit"),
        sa.Column("min_ess", sa.Double(), nullable=True, comment="smallest effective sample size of a sampled fit"),
        sa.Column(
            "model_spec",
            JSONB(),
            nullable=False,
            comment="linking_constants, priors, quadrature, eligibility, excluded items",
        ),
        sa.Column(
            "data_hash", sa.Text(), nullable=False, comment="hash of the window's answers as eligibility saw them"
        ),
        sa.Column("snapshot_hash", sa.Text(), nullable=False, comment="snapshot it was fitted on"),
        sa.Column("anchor_hash", sa.Text(), nullable=False, comment="hash of the anchor set it was linked to"),
        sa.Column("code_version", sa.Text(), nullable=False, comment="version of this code"),
        sa.Column("run_id", sa.Text(), nullable=True, comment="Dagster run that linked it"),
        sa.Column(
            "fitted_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was fitted",
        ),
        sa.Column(
            "superseded_at",
            TIMESTAMP(timezone=True),
            nullable=True,
            comment="when a later fit of the window replaced it",
        ),
        sa.PrimaryKeyConstraint("fit_id"),
        comment="One row per linked fit.",
    )
    op.create_index("mirt_fit_meta_window", "mirt_fit_meta", ["scale_id", "kind", "window_start"], unique=False)
    op.create_table(
        "mirt_item_params",
        sa.Column("fit_id", sa.Text(), nullable=False, comment="fit"),
        sa.Column("item_id", sa.Text(), nullable=False, comment="item"),
        sa.Column(
            "params",
            JSONB(),
            nullable=False,
            comment="a, b, c, a_se, b_se, c_se, cov_ab on the bank's scale; the unlinked ones under raw",
        ),
        sa.Column("n_responses", sa.Integer(), nullable=False, comment="responses"),
        sa.Column("p_value", sa.Double(), nullable=True, comment="proportion correct"),
        sa.Column("point_biserial", sa.Double(), nullable=True, comment="item-rest correlation"),
        sa.Column("infit", sa.Double(), nullable=True, comment="information-weighted mean square"),
        sa.Column("outfit", sa.Double(), nullable=True, comment="unweighted mean square"),
        sa.Column(
            "rmsd", sa.Double(), nullable=True, comment="root mean squared difference of observed and model curve"
        ),
        sa.Column(
            "flags",
            JSONB(),
            server_default=sa.text("'[]'::jsonb"),
            nullable=False,
            comment="what the engine says about the item",
        ),
        sa.Column(
            "fitted_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was fitted",
        ),
        sa.PrimaryKeyConstraint("fit_id", "item_id"),
        comment="An item's parameters in a linked fit, on the bank's scale.",
    )
    op.create_table(
        "publication_step",
        sa.Column("month", sa.Text(), nullable=False, comment="calendar month of the window, e.g. 2026-09 (UTC)"),
        sa.Column("scale_id", sa.Text(), nullable=False, comment="bank whose items measure one ability"),
        sa.Column("fit_id", sa.Text(), nullable=True, comment="linked fit that was judged"),
        sa.Column(
            "state",
            sa.Text(),
            nullable=False,
            comment="done, pending (an earlier month is not settled) or held (a set gate failed)",
        ),
        sa.Column(
            "n_published",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="items first published by this step",
        ),
        sa.Column("n_proposed", sa.Integer(), server_default=sa.text("0"), nullable=False, comment="items proposed"),
        sa.Column(
            "n_held",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="items held back by an item gate",
        ),
        sa.Column(
            "held",
            JSONB(),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
            comment="items held back, each with its reasons",
        ),
        sa.Column("why", sa.Text(), nullable=False, comment="the state in a sentence"),
        sa.Column(
            "settled_at",
            TIMESTAMP(timezone=True),
            nullable=True,
            comment="when the month was first done; what comes after it only proposes",
        ),
        sa.Column("run_id", sa.Text(), nullable=True, comment="Dagster run that took the step"),
        sa.Column(
            "stepped_at", TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False, comment="when"
        ),
        sa.PrimaryKeyConstraint("month", "scale_id"),
        comment="How far publication has come with each month of a scale.",
    )
    op.create_table(
        "question",
        sa.Column("item_id", sa.Text(), nullable=False, comment="item id, text, never assumed numeric"),
        sa.Column(
            "scale_id",
            sa.Text(),
            server_default=sa.text("'default'"),
            nullable=False,
            comment="bank whose items measure one ability",
        ),
        sa.Column("topic_id", sa.Text(), nullable=True, comment="topic"),
        sa.Column("testlet_id", sa.Text(), nullable=True, comment="testlet of items that share a stimulus"),
        sa.Column(
            "meta",
            JSONB(),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
            comment='tags (e.g. "anchor"), irt {a, b, c, a_se, b_se, c_se, cov_ab, n, D, model}, key',
        ),
        sa.PrimaryKeyConstraint("item_id"),
        comment="The item bank.",
    )
    op.create_table(
        "release_decision",
        sa.Column(
            "decision_id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="order of decision"
        ),
        sa.Column("month", sa.Text(), nullable=False, comment="month of the proposal"),
        sa.Column("scale_id", sa.Text(), nullable=False, comment="scale"),
        sa.Column("item_id", sa.Text(), nullable=False, comment="item"),
        sa.Column("fit_id", sa.Text(), nullable=False, comment="fit of the proposal"),
        sa.Column("decision", sa.Text(), nullable=False, comment="accept or reject"),
        sa.Column("decided_by", sa.Text(), nullable=False, comment="who"),
        sa.Column("reason", sa.Text(), nullable=False, comment="why"),
        sa.Column("effective_from", TIMESTAMP(timezone=True), nullable=True, comment="from when on, where accepted"),
        sa.Column(
            "decided_at", TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False, comment="when"
        ),
        sa.PrimaryKeyConstraint("decision_id"),
        comment="What a person decided on a proposal.",
    )
    op.create_table(
        "report_artifacts",
        sa.Column("artifact_id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="order of writing"),
        sa.Column("user_id", sa.Text(), nullable=True, comment="learner; null for bank reports"),
        sa.Column("week_start", sa.Date(), nullable=True, comment="week of a learner report"),
        sa.Column("window", sa.Text(), nullable=True, comment="window of a bank report"),
        sa.Column("format", sa.Text(), nullable=False, comment="html or pdf"),
        sa.Column("url", sa.Text(), nullable=False, comment="permanent s3:// or file URL, signed when shown"),
        sa.Column("sha256", sa.Text(), nullable=False, comment="of the file"),
        sa.Column(
            "generated_at", TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False, comment="when"
        ),
        sa.PrimaryKeyConstraint("artifact_id"),
        comment="Every report file that was written.",
    )
    op.create_table(
        "response_log",
        sa.Column("attempt_id", sa.Text(), nullable=False, comment="id of the answer event"),
        sa.Column(
            "completed_at",
            TIMESTAMP(timezone=True),
            nullable=False,
            comment="when it was answered, or when an unanswered item left the screen",
        ),
        sa.Column("user_id", sa.Text(), nullable=False, comment="learner"),
        sa.Column("item_id", sa.Text(), nullable=False, comment="item"),
        sa.Column("session_id", sa.Text(), nullable=True, comment="session"),
        sa.Column("form_id", sa.Text(), nullable=True, comment="exam form; null: practice"),
        sa.Column("position", sa.Integer(), nullable=True, comment="place within the session, from 1"),
        sa.Column("started_at", TIMESTAMP(timezone=True), nullable=True, comment="when the item was shown"),
        sa.Column("correct", sa.Boolean(), nullable=True, comment="null: shown, not answered"),
        sa.Column("response", sa.Text(), nullable=True, comment="the chosen option"),
        sa.Column("response_time_ms", sa.BigInteger(), nullable=True, comment="response time"),
        sa.Column("hints_used", sa.Integer(), nullable=True, comment="hints taken; null where unknown"),
        sa.Column("mode", sa.Text(), server_default=sa.text("'live'"), nullable=False, comment="live or sandbox"),
        sa.Column(
            "recorded_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it reached this database",
        ),
        sa.PrimaryKeyConstraint("attempt_id", "completed_at"),
        comment="Every answer event. Partitioned by month of completed_at; read it only through the attempt view.",
        postgresql_partition_by="RANGE (completed_at)",
    )
    op.create_index("response_log_recorded", "response_log", ["recorded_at"], unique=False, postgresql_using="brin")
    op.create_index("response_log_user", "response_log", ["user_id", "completed_at"], unique=False)
    op.create_table(
        "scored_snapshot",
        sa.Column("month", sa.Text(), nullable=False, comment="calendar month of the window, e.g. 2026-09 (UTC)"),
        sa.Column("snapshot_hash", sa.Text(), nullable=False, comment="sha256 of the file"),
        sa.Column("uri", sa.Text(), nullable=False, comment="where the file is, below the object store's root"),
        sa.Column(
            "data_hash", sa.Text(), nullable=False, comment="hash of the month's answers as eligibility saw them"
        ),
        sa.Column("n_attempts", sa.BigInteger(), nullable=False, comment="attempts in the file"),
        sa.Column("counts", JSONB(), nullable=False, comment="attempts by scale and reason (scored under 'scored')"),
        sa.Column("rules", JSONB(), nullable=False, comment="eligibility settings by scale"),
        sa.Column("run_id", sa.Text(), nullable=True, comment="Dagster run that wrote it"),
        sa.Column(
            "created_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was written",
        ),
        sa.Column(
            "superseded_at",
            TIMESTAMP(timezone=True),
            nullable=True,
            comment="when a later snapshot of the month replaced it",
        ),
        sa.PrimaryKeyConstraint("month", "snapshot_hash"),
        comment="The Parquet snapshots of a month's attempts with what eligibility made of each.",
    )
    op.create_table(
        "test_information",
        sa.Column("month", sa.Text(), nullable=False, comment="calendar month of the window, e.g. 2026-09 (UTC)"),
        sa.Column("scale_id", sa.Text(), nullable=False, comment="bank whose items measure one ability"),
        sa.Column("item_id", sa.Text(), nullable=False, comment="item; empty: the whole test"),
        sa.Column("curve", JSONB(), nullable=False, comment="theta and information, equally long lists"),
        sa.Column(
            "flagged",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="lost more than a fifth of its information",
        ),
        sa.Column(
            "details",
            JSONB(),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
            comment="the test behind the flag",
        ),
        sa.Column(
            "computed_at", TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False, comment="when"
        ),
        sa.PrimaryKeyConstraint("month", "scale_id", "item_id"),
        comment="Information of an item (or, under item_id '', of the test) over θ.",
    )
    op.create_table(
        "weekly_kpi",
        sa.Column("user_id", sa.Text(), nullable=False, comment="learner"),
        sa.Column("week_start", sa.Date(), nullable=False, comment="Monday of the week (UTC)"),
        sa.Column(
            "kpis",
            JSONB(),
            nullable=False,
            comment="I_t, E_t, R_t, A_t, P, S; null where undefined, with the reason under why",
        ),
        sa.Column(
            "updated_at",
            TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when this row was computed",
        ),
        sa.PrimaryKeyConstraint("user_id", "week_start"),
        comment="A learner's week in six numbers.",
    )

    op.execute("""
        CREATE VIEW attempt AS
        SELECT r.attempt_id AS id, r.user_id, r.item_id, coalesce(q.topic_id, 'unknown') AS topic_id,
               r.session_id, r.form_id, r.position, r.started_at, r.completed_at, r.correct, r.response,
               r.response_time_ms, r.hints_used > 0 AS hint_used, r.hints_used, r.mode, r.recorded_at
        FROM response_log r LEFT JOIN question q ON q.item_id = r.item_id
    """)
    op.execute("""
        CREATE VIEW item_parameter_current AS
        SELECT DISTINCT ON (scale_id, item_id) *
        FROM item_parameter_publication
        WHERE effective_from <= now()
        ORDER BY scale_id, item_id, effective_from DESC, publication_id DESC
    """)


def downgrade() -> None:
    for view in ("item_parameter_current", "attempt"):
        op.execute(f"DROP VIEW {view}")
    for table in (
        "anchor_set",
        "calibration_scale",
        "dif_analysis",
        "drift_alerts",
        "features_topic_daily",
        "fit_staging",
        "invariant_result",
        "item_drift",
        "item_parameter_proposal",
        "item_parameter_publication",
        "learner",
        "mirt_ability",
        "mirt_fit_meta",
        "mirt_item_params",
        "publication_step",
        "question",
        "release_decision",
        "report_artifacts",
        "response_log",
        "scored_snapshot",
        "test_information",
        "weekly_kpi",
    ):
        op.drop_table(table)
