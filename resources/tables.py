"""The schema registry: every table, column, view and trigger, described once.

DDL, the test of migrations, checks of data frames, Dagster's column metadata and the reference page use it. A column's
`comment` is its description; `info` may contain `unit`, and `ge` and `le` (its valid range). What does not belong here:
queries, and writing rows (see `warehouse`).
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import BigInteger, Boolean, Column, Date, Double, Identity, Index, Integer, LargeBinary, Text
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

METADATA = sa.MetaData()
NOW = sa.text("now()")
UTC = TIMESTAMP(timezone=True)


def meaning(column: Column[Any]) -> str:
    """A column's description with its unit and range, for people."""
    limits = [f"{sign} {column.info[key]}" for key, sign in (("ge", "≥"), ("le", "≤")) if key in column.info]
    notes = [*([column.info["unit"]] if "unit" in column.info else []), *limits]
    return (column.comment or "") + (f" ({', '.join(notes)})" if notes else "")


def _table(name: str, comment: str, *args: Any, **kwargs: Any) -> sa.Table:
    return sa.Table(name, METADATA, *args, comment=comment, **kwargs)


def _key(name: str, type_: Any, comment: str) -> Column[Any]:
    return Column(name, type_, primary_key=True, nullable=False, comment=comment)


def _req(name: str, type_: Any, comment: str, default: Any = None, **info: Any) -> Column[Any]:
    return Column(name, type_, nullable=False, comment=comment, server_default=default, info=info)


def _opt(name: str, type_: Any, comment: str, **info: Any) -> Column[Any]:
    return Column(name, type_, nullable=True, comment=comment, info=info)


def _item(comment: str = "item") -> Column[Any]:
    return _key("item_id", Text, comment)


def _month() -> Column[Any]:
    return _key("month", Text, "calendar month of the window, e.g. 2026-09 (UTC)")


def _scale() -> Column[Any]:
    return _key("scale_id", Text, "bank whose items measure one ability")


def _parameter(name: str, comment: str, *, nullable: bool = True, **info: Any) -> Column[Any]:
    value = sa.Computed(f"(parameters ->> '{name}'::text)::double precision", persisted=True)
    return Column(name, Double, value, nullable=nullable, comment=comment, info=info)


def _parameters() -> list[Column[Any]]:
    """The column with an item's parameters, and the columns that the server computes from it."""
    return [
        _req(
            "parameters",
            JSONB,
            "parameters and their errors by the names that the item's model has for them; an absent one is not known",
        ),
        _parameter("a", "discrimination, logistic metric (D = 1)", nullable=False, unit="1/θ"),
        _parameter("b", "difficulty on the bank's scale", nullable=False, unit="θ"),
        _parameter("c", "lower asymptote", nullable=False, unit="probability", ge=0, le=1),
        _parameter("a_se", "standard error of a", unit="1/θ", ge=0),
        _parameter("b_se", "standard error of b", unit="θ", ge=0),
        _parameter("c_se", "standard error of c", unit="probability", ge=0),
        _parameter("cov_ab", "covariance of a and b"),
    ]


question = _table(
    "question",
    "The item bank.",
    _item("item id, text, never assumed numeric"),
    _req("scale_id", Text, "bank whose items measure one ability", sa.text("'default'")),
    _opt("topic_id", Text, "topic"),
    _opt("testlet_id", Text, "testlet of items that share a stimulus"),
    _req(
        "meta",
        JSONB,
        'tags (e.g. "anchor"), irt {a, b, c, a_se, b_se, c_se, cov_ab, n, D, model, max_score, block}, key',
        sa.text("'{}'::jsonb"),
    ),
    Column(
        "max_score",
        sa.SmallInteger,
        sa.Computed(
            "CASE WHEN (((meta -> 'irt'::text) ->> 'max_score'::text) ~ '^([1-9]|1[0-9]|20)$'::text) "
            "THEN (((meta -> 'irt'::text) ->> 'max_score'::text))::smallint ELSE NULL::smallint END",
            persisted=True,
        ),
        comment="the highest score of an answer, from meta; null: 1",
    ),
)

learner = _table(
    "learner",
    "Everyone who answers.",
    _key("user_id", Text, "learner id, text, never assumed numeric"),
    _req("attributes", JSONB, "lang, country, tier, …", sa.text("'{}'::jsonb")),
    _req("is_test", Boolean, "test account: its answers are never used", sa.text("false")),
    _opt("target_scale_id", Text, "scale of the learner's goal"),
    _opt("target_theta", Double, "ability the learner aims for", unit="θ"),
    Column(
        "learner_key",
        BigInteger,
        unique=True,
        server_default=sa.text(
            "(hashtextextended((gen_random_uuid())::text, (0)::bigint) & '9223372036854775807'::bigint)"
        ),
        comment="random number that verdicts and files carry in place of the id",
    ),
)

response_log = _table(
    "response_log",
    "Every answer event. Partitioned by month of completed_at; read it only through the attempt view.",
    _key("attempt_id", Text, "id of the answer event"),
    _key("completed_at", UTC, "when it was answered, or when an unanswered item left the screen"),
    _req("user_id", Text, "learner"),
    _req("item_id", Text, "item"),
    _opt("session_id", Text, "session"),
    _opt("form_id", Text, "exam form; null: practice"),
    _opt("position", Integer, "place within the session, from 1", ge=1),
    _opt("started_at", UTC, "when the item was shown"),
    _opt("correct", Boolean, "whether it has full credit; null: shown, not answered"),
    _opt("response", Text, "the chosen option"),
    _opt("response_time_ms", BigInteger, "response time", unit="ms", ge=0),
    _opt("hints_used", Integer, "hints taken; null where unknown", ge=0),
    _req("mode", Text, "live or sandbox", sa.text("'live'")),
    _req("recorded_at", UTC, "when it reached this database, or was last corrected", NOW),
    _req("revision", BigInteger, "of two rows with one attempt_id the higher one holds", sa.text("0"), ge=0),
    _opt("sent_at", UTC, "completed_at as it was sent, where the sender's clock was ahead; null: as it is"),
    Column(
        "pulled_from",
        Integer,
        server_default=sa.text("(NULLIF(current_setting('irt.pull'::text, true), ''::text))::integer"),
        comment="pull_source.number of the pull that brought it; null: none did",
    ),
    _opt("score", sa.SmallInteger, "from 0 to the item's maximum score; null: what correct says is all that is known"),
    Index("response_log_user", "user_id", "completed_at"),
    Index("response_log_recorded", "recorded_at", postgresql_using="brin"),
    postgresql_partition_by="RANGE (completed_at)",
)

attempt_correction = _table(
    "attempt_correction",
    "What an answer was before it was corrected or withdrawn: its former row, and who changed it, when and why.",
    *(Column(was.name, was.type, nullable=was.nullable, comment=was.comment) for was in response_log.columns),
    Column("correction_id", BigInteger, Identity(always=True), primary_key=True, comment="order of correction"),
    _req("how", Text, "import, rescore, withdraw, or double: another row with the id stayed"),
    _req("corrected_by", Text, "who; of an import or a double, the role of the database"),
    _req("reason", Text, "why; of an import, the file"),
    _req("corrected_at", UTC, "when", NOW),
    Index("attempt_correction_attempt", "attempt_id"),
    Index("attempt_correction_at", "corrected_at"),
)

item_time = _table(
    "item_time",
    "Median response time of an item over the live answers of a month.",
    _month(),
    _item(),
    _req("median_ms", Double, "median response time of its live answers", unit="ms", ge=0),
    _req("n", BigInteger, "live answers with a response time", None, ge=1),
    _req("taken_at", UTC, "when it was computed from the log", NOW),
)

attempt_verdict = _table(
    "attempt_verdict",
    "Each attempt's verdict: the score that counts, or the reason why it does not. Partitioned as response_log.",
    _key("attempt_id", Text, "id of the answer event"),
    _key("completed_at", UTC, "when it was answered, or when an unanswered item left the screen"),
    _req("learner_key", BigInteger, "learner.learner_key"),
    _req("item_id", Text, "item"),
    _req("scale_id", Text, "bank whose items measure one ability"),
    _opt("reason", Text, "why it does not count; null: it counts"),
    _opt("score", sa.SmallInteger, "the score that counts, from 0; null: none does", ge=0),
    _opt("max_score", sa.SmallInteger, "highest score of the item; null: 1"),
    _req("rules_hash", BigInteger, "hash of the eligibility rules that judged it"),
    _req("recorded_at", UTC, "recorded_at of the answer as it was judged"),
    _req("judged_at", UTC, "when"),
    Index("attempt_verdict_learner", "learner_key", "completed_at"),
    Index(
        "attempt_verdict_time",
        "completed_at",
        postgresql_using="brin",
        postgresql_with={"autosummarize": "on"},
    ),
    postgresql_partition_by="RANGE (completed_at)",
)

judged_day = _table(
    "judged_day",
    "What the verdicts of a day were made from; if the log differs, it is judged again.",
    _key("day", Date, "day of the answers (UTC)"),
    _req("n", BigInteger, "attempts", None, ge=0),
    _req("recorded_sum", sa.Numeric, "sum of recorded_at since 1970 (µs)"),
    _req("revision_sum", sa.Numeric, "sum of revision"),
    _req("test_accounts", Text, "hash of its test accounts"),
    _req("items", Text, "hash of the scales and maximum scores of its items"),
    _req("rules", Text, "hash of the rules of its month, and of the times that judge it"),
    _req("judged_at", UTC, "when a verdict of it last changed", NOW),
)

month_state = _table(
    "month_state",
    "Months that closed or were reopened. The newest row holds; without one, a month is open.",
    _month(),
    _scale(),
    Column("since", UTC, primary_key=True, nullable=False, server_default=NOW, comment="since when"),
    _req("state", Text, "closed or reopened"),
    _req("decided_by", Text, "who reopened it; nightly: it closed by the rule late_days; upgrade"),
    _req("reason", Text, "why"),
    _req("snapshot_hash", Text, "sha256 of the file that the month closed with"),
    _req("rules", JSONB, "the rules that its answers were judged by; absent ones are the defaults"),
    _req("items", JSONB, "highest score of each item of the scale when it closed"),
    _req("test_accounts", JSONB, "keys of the test accounts when it closed"),
    _req(
        "came",
        JSONB,
        "its answers when it closed, those that changed since by kind, and the share of items with more than 5 %",
        sa.text("'{}'::jsonb"),
    ),
    _opt("counted_at", UTC, "when these were counted"),
)

features_topic_daily = _table(
    "features_topic_daily",
    "What a learner did in a topic on a day.",
    _key("user_id", Text, "learner"),
    _key("topic_id", Text, "topic, 'unknown' where an item has none"),
    _key("date", Date, "day (UTC)"),
    _req("attempts", Integer, "live answers", None, ge=0),
    _req("correct", Integer, "correct answers", None, ge=0),
    _opt("rt_median", Double, "median response time of correct answers with a time", unit="ms", ge=0),
    _opt("hints", Integer, "hints taken; null where unknown", ge=0),
    _req("computed_at", UTC, "when this row was computed", NOW),
    Index("features_topic_daily_date", "date"),
)

weekly_kpi = _table(
    "weekly_kpi",
    "A learner's week in six numbers.",
    _key("user_id", Text, "learner"),
    _key("week_start", Date, "Monday of the week (UTC)"),
    _req("kpis", JSONB, "I_t, E_t, R_t, A_t, P, S; null where undefined, with the reason under why"),
    _req("updated_at", UTC, "when the week was computed; its Monday where only P and S of a quiet learner were", NOW),
    _opt(
        "inactivity_at",
        UTC,
        "when P and S were last set because the learner had gone quiet; null: not since updated_at",
    ),
    Index("weekly_kpi_week", "week_start"),
)

partition_source = _table(
    "partition_source",
    "The state of the verdicts that each day of features and each week of KPIs was made from.",
    _key("asset", Text, "features_topic_daily or weekly_kpi"),
    _key("partition", Text, "a day, or the Monday of a week"),
    _req("data_hash", Text, "state of the verdicts"),
    _req("computed_at", UTC, "when", NOW),
)

scored_snapshot = _table(
    "scored_snapshot",
    "The Parquet snapshots of a month's attempts with what eligibility made of each.",
    _month(),
    _key(
        "snapshot_hash",
        Text,
        "sha256 of the file, or of the former one that named learners by id (see snapshot_rewrite)",
    ),
    _req("uri", Text, "where the file is, below the object store's root"),
    _req("data_hash", Text, "hash of the month's answers as eligibility saw them"),
    _req("n_attempts", BigInteger, "attempts in the file", None, ge=0),
    _req("counts", JSONB, "attempts by scale and reason (scored under 'scored')"),
    _req("rules", JSONB, "eligibility settings by scale"),
    _opt("run_id", Text, "Dagster run that wrote it"),
    _req("created_at", UTC, "when it was written", NOW),
    _opt("superseded_at", UTC, "when a later snapshot of the month replaced it"),
    _req("verdict_state", Text, "state of the verdicts it was read from"),
)

snapshot_rewrite = _table(
    "snapshot_rewrite",
    "Snapshots that were searched for ids of learners, and written again with their keys if they had any.",
    _key("old_hash", Text, "hash under which the snapshot was taken and is cited"),
    _req("new_hash", Text, "sha256 of the file in its place; equal if it had no ids"),
    _req("rewritten_at", UTC, "when", NOW),
)

fit_staging = _table(
    "fit_staging",
    "Fits as they left the engine, before linking, and the reasons of those that could not be made.",
    _key("fit_id", Text, "fit"),
    _req("month", Text, "calendar month of the window"),
    _req("scale_id", Text, "scale"),
    _req("engine", Text, "engine"),
    _req("snapshot_hash", Text, "snapshot it was fitted on"),
    _opt("calibration", LargeBinary, "the Calibration, compressed; null where the fit failed"),
    _opt("error", Text, "why there is no fit"),
    _opt("error_kind", Text, "type of that error"),
    _req("spec", JSONB, "model, priors, quadrature, eligibility, excluded items by reason"),
    _req("code_version", Text, "version of this code"),
    _opt("run_id", Text, "Dagster run that wrote it"),
    _req("fitted_at", UTC, "when it was fitted", NOW),
    Index("fit_staging_month", "month", "scale_id", "engine", "fitted_at"),
)

mirt_fit_meta = _table(
    "mirt_fit_meta",
    "One row per linked fit.",
    _key("fit_id", Text, "fit"),
    _req("scale_id", Text, "scale"),
    _req("kind", Text, "monthly, nightly, origin, or pooled of a recalibration"),
    _req("window_start", UTC, "start of the window"),
    _req("window_end", UTC, "end of the window (exclusive)"),
    _req("engine", Text, "em, pymc, mirt or brms"),
    _req("engine_version", Text, "its version"),
    _req("model", Text, "rasch, 1pl, 2pl or 3pl; where items have several models, these joined by +"),
    _req("n_persons", Integer, "learners", None, ge=0),
    _req("n_items", Integer, "items with parameters", None, ge=0),
    _req("n_responses", BigInteger, "responses", None, ge=0),
    _req("loglik", Double, "marginal log-likelihood"),
    _req("aic", Double, "Akaike information criterion"),
    _req("bic", Double, "Bayesian information criterion, over persons"),
    _req("converged", Boolean, "whether the engine reached its maximum"),
    _req("iterations", Integer, "iterations", None, ge=0),
    _opt("max_rhat", Double, "largest R-hat of a sampled fit", ge=1),
    _opt("min_ess", Double, "smallest effective sample size of a sampled fit", ge=0),
    _req("model_spec", JSONB, "linking_constants, priors, quadrature, eligibility, excluded items"),
    _opt("calibration", LargeBinary, "of an origin window: the Calibration, compressed"),
    _opt("common_errors", JSONB, "[4], covariance of (stretch, shift) that all items' errors share; null: unknown"),
    _req("data_hash", Text, "hash of the window's answers as eligibility saw them"),
    _req("snapshot_hash", Text, "snapshot it was fitted on; empty for a night, which keeps none"),
    _req("anchor_hash", Text, "hash of the anchor set it was linked to"),
    _req("code_version", Text, "version of this code"),
    _opt("run_id", Text, "Dagster run that linked it"),
    _req("fitted_at", UTC, "when it was fitted", NOW),
    _opt("superseded_at", UTC, "when a later fit of the window replaced it"),
    Index("mirt_fit_meta_window", "scale_id", "kind", "window_start"),
)

month_impact = _table(
    "month_impact",
    "How far a month's anchors as a group moved against the other published items.",
    _key("fit_id", Text, "fit"),
    _req("why", Text, "why nothing could be compared, else empty; the numbers are then 0"),
    _req("learners", Integer, "of release 1.0.0: learners behind the shift; else 0", sa.text("0"), ge=0),
    _req("items", Integer, "items behind the shift: in force, fitted again and not anchors", None, ge=0),
    _req("shift", Double, "by how much their b moved against that of the anchors", None, unit="θ"),
    _req("shift_se", Double, "its standard error", None, unit="θ", ge=0),
    _req("sd", Double, "SD of the scale's population", None, unit="θ"),
    _opt("compared_with", Text, "digest of the values in force that it was measured against; null where not known"),
)

mirt_item_params = _table(
    "mirt_item_params",
    "An item's parameters in a linked fit, on the bank's scale.",
    _key("fit_id", Text, "fit"),
    _item(),
    _req(
        "params",
        JSONB,
        "model; a, b, c, a_se, b_se, c_se, cov_ab on the bank's scale, of a 3PL cov_logit_c (of logit c with a, b, "
        "itself); the unlinked ones under raw; of a night provisional: true where nothing is published for the item",
    ),
    _req("n_responses", Integer, "responses", None, ge=0),
    _opt("p_value", Double, "proportion correct", ge=0, le=1),
    _opt("point_biserial", Double, "item-rest correlation", ge=-1, le=1),
    _opt("infit", Double, "information-weighted mean square", ge=0),
    _opt("outfit", Double, "unweighted mean square", ge=0),
    _opt("rmsd", Double, "root mean squared difference of observed and model curve", ge=0, le=1),
    _req("flags", JSONB, "what the engine says about the item", sa.text("'[]'::jsonb")),
    _req("fitted_at", UTC, "when it was fitted", NOW),
)

mirt_ability = _table(
    "mirt_ability",
    "A learner's ability at a time.",
    _key("update_id", Text, "the run or update that computed it"),
    _key("user_id", Text, "learner"),
    _scale(),
    _req("theta", Double, "ability on the bank's scale", unit="θ"),
    _req("se", Double, "standard error", None, unit="θ", ge=0),
    _opt("se_total", Double, "with the errors of item parameters and linking; null: unknown", unit="θ", ge=0),
    _req("method", Text, "eap, map or wle"),
    _req("n_items", Integer, "answers to published items that were used", None, ge=1),
    _req("kind", Text, "monthly, nightly or online"),
    _req("window_end", UTC, "answers before this time were used"),
    _opt("as_of", UTC, "the last of them, as of which θ is where ability moves; null: measured before 1.1"),
    _req("published_as_of", UTC, "the published set in force then was used"),
    _req("set_hash", Text, "hash of that set"),
    _req("scale_version", Integer, "version of the anchor set"),
    _req("fitted_at", UTC, "when it was computed", NOW),
    Index("mirt_ability_window", "kind", "window_end", "scale_id"),
    Index("mirt_ability_user", "user_id", "fitted_at"),
)

ability_state = _table(
    "ability_state",
    "Empty: earlier releases stored here what the θ API went on from where ability moves.",
    _key("user_id", Text, "learner"),
    _scale(),
    _req("state", LargeBinary, "the posterior of the answers before a day, and what the errors of items do to it"),
    _req("until", UTC, "when that day began, on which the learner answered last"),
    _req("basis", Text, "hash of what else it rests on: set, rules, item times, and the time from which answers count"),
    _req("n_items", Integer, "answers to published items that are in it", None, ge=1),
    _req("answers", Text, "sum of the hashes of these answers"),
    _req("n_attempts", BigInteger, "rows of the learner's log before that day, with the look-back", None, ge=1),
    _opt("recorded_at", UTC, "the latest recorded_at among these"),
    Index("ability_state_until", "until"),
)

item_parameter_publication = _table(
    "item_parameter_publication",
    "The ledger: what was published, from when on, from which fit, by which rule or person, and why. Append-only.",
    Column("publication_id", BigInteger, Identity(always=True), primary_key=True, comment="order of publication"),
    _req("scale_id", Text, "scale"),
    _req("item_id", Text, "item"),
    *_parameters(),
    _req("effective_from", UTC, "in force from this time on"),
    _opt("month", Text, "month whose fit it comes from, or FIRST:LAST of a recalibration; null for bank values"),
    _opt("fit_id", Text, "fit it comes from; null for bank values"),
    _req("rule", Text, "origin, first, decision or undo (of a decision: the values before it)"),
    _opt("decided_by", Text, "who decided; null where a rule did"),
    _req("reason", Text, "why"),
    _opt("replaces", BigInteger, "publication that it replaces"),
    _opt("data_hash", Text, "hash of the answers it comes from"),
    _req("anchor_hash", Text, "hash of the anchor set"),
    _req("code_version", Text, "version of this code"),
    _opt("run_id", Text, "Dagster run that published it"),
    _req("published_at", UTC, "when it was published", NOW),
    Index("item_parameter_publication_item", "scale_id", "item_id", "effective_from"),
)

testlet_sd_publication = _table(
    "testlet_sd_publication",
    "How far answers in one testlet depend on each other, from when on. Append-only.",
    Column("publication_id", BigInteger, Identity(always=True), primary_key=True, comment="order of publication"),
    _req("scale_id", Text, "scale"),
    _req("sd", Double, "SD of a learner's effects in testlets", unit="θ", ge=0),
    _opt("se", Double, "its standard error", unit="θ", ge=0),
    _req("n_testlets", Integer, "testlets that it was estimated from"),
    _req("testlets", JSONB, "testlet of each item, as the month found them"),
    _req("effective_from", UTC, "in force from this time on"),
    _req("month", Text, "month whose fit it comes from"),
    _req("fit_id", Text, "fit it comes from"),
    _req("published_at", UTC, "when it was published", NOW),
    Index("testlet_sd_publication_scale", "scale_id", "effective_from"),
)

item_parameter_proposal = _table(
    "item_parameter_proposal",
    "What a month, or a recalibration, would publish but only a person may.",
    _key("month", Text, "calendar month of the window, or FIRST:LAST of a recalibration"),
    _scale(),
    _item(),
    _key("fit_id", Text, "fit it comes from"),
    *_parameters(),
    _req("why", Text, "why it was not published by itself"),
    _req("created_at", UTC, "when it was proposed", NOW),
)

release_decision = _table(
    "release_decision",
    "What a person decided on a proposal or an anchor.",
    Column("decision_id", BigInteger, Identity(always=True), primary_key=True, comment="order of decision"),
    _req("month", Text, "window of the proposal; of an anchor the first month without it, or with it again"),
    _req("scale_id", Text, "scale"),
    _req("item_id", Text, "item"),
    _req("fit_id", Text, "fit of the proposal; of an anchor the last linked one"),
    _req("decision", Text, "accept, reject, undo (of an accept or reject), drop_anchor or restore_anchor"),
    _req("decided_by", Text, "who"),
    _req("reason", Text, "why"),
    _opt("effective_from", UTC, "from when on, where values change"),
    _req("decided_at", UTC, "when", NOW),
    Index("release_decision_item", "scale_id", "item_id"),
)

item_status = _table(
    "item_status",
    "What a person decided on an item's use. Append-only.",
    Column("status_id", BigInteger, Identity(always=True), primary_key=True, comment="order of decision"),
    _req("item_id", Text, "item"),
    _req("state", Text, "withdrawn or restored"),
    _req("effective_from", UTC, "from when on"),
    _req("reason", Text, "why"),
    _req("decided_by", Text, "who"),
    _req("decided_at", UTC, "when", NOW),
    Index("item_status_item", "item_id", "effective_from"),
)

publication_step = _table(
    "publication_step",
    "How far publication has come with each month of a scale.",
    _month(),
    _scale(),
    _opt("fit_id", Text, "linked fit that was judged"),
    _req("state", Text, "done, pending (an earlier month is not settled) or held (a set gate failed)"),
    _req("n_published", Integer, "items first published by this step", sa.text("0"), ge=0),
    _req("n_proposed", Integer, "items proposed", sa.text("0"), ge=0),
    _req("n_held", Integer, "items held back by an item gate", sa.text("0"), ge=0),
    _req("held", JSONB, "items held back, each with its reasons", sa.text("'{}'::jsonb")),
    _req("why", Text, "the state in a sentence"),
    _opt("settled_at", UTC, "when the month was first done; what comes after it only proposes"),
    _opt("run_id", Text, "Dagster run that took the step"),
    _req("stepped_at", UTC, "when", NOW),
)

calibration_scale = _table(
    "calibration_scale",
    "A scale, its origin and its rules.",
    _scale(),
    _req("origin", JSONB, "bank, or the window that was declared the origin"),
    _req("mu", Double, "mean of the population that abilities are reported against", sa.text("0"), unit="θ"),
    _req("sigma", Double, "its standard deviation", sa.text("1"), unit="θ", ge=0),
    _req("model", Text, "rasch, 1pl, 2pl or 3pl, until scale_decision changes it", sa.text("'2pl'")),
    _req("engine", Text, "engine whose fits are published", sa.text("'em'")),
    _opt("pass_theta", Double, "pass mark", unit="θ"),
    _req(
        "rules",
        JSONB,
        "settings that differ from the defaults; a release reads those that it knows",
        sa.text("'{}'::jsonb"),
    ),
    _req("anchor_version", Integer, "newest version of the anchor set", sa.text("1"), ge=1),
    _req("initialised_at", UTC, "when the scale was initialised", NOW),
)

scale_decision = _table(
    "scale_decision",
    "What a person decided on a scale's model and how its abilities move. Append-only.",
    Column("decision_id", BigInteger, Identity(always=True), primary_key=True, comment="order of decision"),
    _req("scale_id", Text, "bank whose items measure one ability"),
    _req(
        "subject",
        Text,
        "model, prior_a, prior_b, prior_c, occasions, ability_variance, ability_growth, occasion_variance, guessing or "
        "misfit",
    ),
    _req(
        "value",
        Text,
        "the model; a prior, such as lognormal(0, 0.5), or none; a number or auto, of a movement; accepted, of "
        "guessing and misfit; reference, of misfit",
    ),
    _req("effective_from", UTC, "months that begin then or later, and nights, follow it, until a later decision"),
    _req("decided_by", Text, "who"),
    _req("reason", Text, "why"),
    _req("decided_at", UTC, "when", NOW),
    Index("scale_decision_scale", "scale_id", "subject", "effective_from"),
)

movement_proposal = _table(
    "movement_proposal",
    "How abilities of a scale were found to move, or why that is not known. Append-only.",
    Column("proposal_id", BigInteger, Identity(always=True), primary_key=True, comment="order of proposal"),
    _req("scale_id", Text, "bank whose items measure one ability"),
    _req("month", Text, "answers of the 52 weeks that end with it were used"),
    _req("why_not", Text, "why nothing is proposed; empty: something is"),
    _opt("variance", Double, "of the walk a week; null: not estimated", unit="θ²", ge=0),
    _opt("growth", Double, "a week; null: not estimated", unit="θ"),
    _opt("occasion_variance", Double, "what a day has alone; null: not estimated", unit="θ²", ge=0),
    _req("details", JSONB, "what was used, standard errors, tests, log likelihoods and the effect on learners"),
    _req("proposed_at", UTC, "when", NOW),
    Index("movement_proposal_scale", "scale_id"),
)

anchor_set = _table(
    "anchor_set",
    "The frozen anchors of a scale, with their parameters and errors.",
    _scale(),
    _key("version", Integer, "version of the set"),
    _item(),
    *_parameters(),
    _req("errors_assumed", Boolean, "true: the errors are those of a calibration with n = 500, as the bank gave none"),
    _opt("topic_id", Text, "topic of the item when the set was frozen"),
    _req("anchor_hash", Text, "hash of the whole set"),
    _opt(
        "cov",
        JSONB,
        "covariance of a and b with those of each anchor of the set, {item: [aa, ab, ba, bb]}; null: independent",
    ),
    _opt(
        "effective_from",
        UTC,
        "months that begin then or later, and nights, are linked to this version; null: all",
    ),
    _req("frozen_at", UTC, "when", NOW),
)

item_drift = _table(
    "item_drift",
    "How far an item's parameters moved against the published ones.",
    _month(),
    _scale(),
    _item(),
    _key("engine", Text, "engine"),
    _opt("delta_a", Double, "change of a", unit="1/θ"),
    _opt("delta_b", Double, "change of b", unit="θ"),
    _opt("delta_c", Double, "change of c"),
    _opt("p_value", Double, "of the joint Wald test, or of the test by proportion correct", ge=0, le=1),
    _opt("q_value", Double, "after Benjamini-Hochberg, over the items tested alike", ge=0, le=1),
    _opt(
        "wabc",
        Double,
        "weighted area between the curves; by proportion correct: the difference, which the area is at least",
        ge=0,
        le=1,
    ),
    _req("severity", Text, "none, medium or high"),
    _req(
        "details",
        JSONB,
        "published {a, b, c}, delta_a_se, delta_b_se, delta_b_95, wald, tau, most_tau, limits {a, b, c}, "
        "chance_a_large, chance_b_large, log_bayes_factor, trend {b_a_month, se, q, months}, change {kind, size, "
        "gains, time_z, onset, distractor_above_the_key}; curves {right, right_se, with_ability, with_ability_se, df} "
        "of what is compared by its curves, across_models where it was published as another model (no changes of "
        "parameters then); of an item without an estimate published, change and proportion_correct {n, observed, "
        "expected, difference, se, z, why}",
        sa.text("'{}'::jsonb"),
    ),
    _req("computed_at", UTC, "when", NOW),
)

dif_analysis = _table(
    "dif_analysis",
    "Whether an item treats groups of equal ability differently.",
    _month(),
    _scale(),
    _item("item; empty: the attribute as a whole, one row of each that the scale asks about"),
    _key("attribute", Text, "learner attribute"),
    _key("focal_group", Text, "group compared with the reference group; empty: the attribute as a whole"),
    _req("reference_group", Text, "reference group, the largest that can be compared; empty: there is none"),
    _opt("p_value", Double, "of the multi-group Wald test; null: not tested", ge=0, le=1),
    _opt("q_value", Double, "after Benjamini-Hochberg over the items of all attributes", ge=0, le=1),
    _opt(
        "ets_class",
        Text,
        "A, B or C by Mantel-Haenszel, of a scored item by its standardised mean difference; null: not tested",
    ),
    _req(
        "details",
        JSONB,
        "of an item: large (Wald severity high; where not tested, class C), why_not (of the Wald test; empty: "
        "tested), low_power, n {reference, focal} (answers), wald {statistic, df, severity (none, small, medium, "
        "high), wabc, shift, shift_se (difference of expected scores; below 0: harder for the focal group), delta_a, "
        "delta_a_se, delta_b, delta_b_se, delta_b_95 [low, high] (focal minus reference, in the reference group's SD; "
        "b's null where |b| > 6 or a < 0.2 in a group), anchor} or null, within_forms "
        "{sittings {reference, focal}, mantel_haenszel {delta, se, odds_ratio, chi2, p} or null "
        "(of a scored item null, and mantel {smd, se, chi2, p}), logistic {p, "
        "p_uniform, p_nonuniform, delta_r2, delta_r2_uniform, size} or null} or null. Of an attribute as a whole: "
        "why_not, groups [{name, n_learners, n_responses, why_not, low_power, mean, sd (of θ, on the reference "
        "group's scale, or null)}], smaller_groups {groups, learners} (not named), n_unknown, n_unreadable (of the "
        "unknown), anchors [item], warnings [sentence], sittings {complete, incomplete} or null, items {tested, "
        "low_power, not_tested} (of items × focal groups)",
        sa.text("'{}'::jsonb"),
    ),
    _req("computed_at", UTC, "when", NOW),
)

test_information = _table(
    "test_information",
    "Information of an item (or, under item_id '', of the test) over θ.",
    _month(),
    _scale(),
    _item("item; empty: the whole test"),
    _req(
        "curve",
        JSONB,
        "equally long lists: theta; published and now, information with the parameters in force at the month's "
        "start and with the month's (null where the item has none); of the test both of the compared items, then "
        "in_force (all items in force, the month's parameters where it has them), without_flagged, and "
        "se_published, se_now, se_in_force, se_without_flagged (null where there is no information)",
    ),
    _req("flagged", Boolean, "lost more than a fifth of its information", sa.text("false")),
    _req(
        "details",
        JSONB,
        "of an item: status (compared, not estimated, new), why, published, now, ratio, upper, p, q (averages over"
        " the population, the 95 % bound of the ratio), share_of_test, share_of_max, largest_drop {theta, drop, "
        "ratio}, severity, retire; of the test: worst {theta, ratio, low, high}, certain, trusted, caution, "
        "average {published, now, ratio}, retiring {items, efficiency, lowest, lowest_at, se_limit, "
        "se_above_before, se_above_after}, items {in_force, compared, new, not_estimated}, flagged_items, "
        "drifted_items, population {mean, sd}, middle, learners, fit_id, why",
        sa.text("'{}'::jsonb"),
    ),
    _req("computed_at", UTC, "when", NOW),
)

drift_alerts = _table(
    "drift_alerts",
    "Alerts on items, opened and closed.",
    Column("alert_id", BigInteger, Identity(always=True), primary_key=True, comment="order of opening"),
    _req("scale_id", Text, "scale"),
    _req("item_id", Text, "item"),
    _req("kind", Text, "what happened"),
    _req("severity", Text, "medium or high"),
    _req("opened_month", Text, "month that opened it"),
    _opt("closed_month", Text, "month that closed it"),
    _req("details", JSONB, "evidence", sa.text("'{}'::jsonb")),
    _req("opened_at", UTC, "when", NOW),
    _opt("closed_at", UTC, "when it was closed"),
    Index("drift_alerts_item", "scale_id", "item_id"),
)

report_file = _table(
    "report_file",
    "Every report file that was written.",
    Column("artifact_id", BigInteger, Identity(always=True), primary_key=True, comment="order of writing"),
    _opt("user_id", Text, "learner; null for bank reports"),
    _opt("week_start", Date, "week of a learner report"),
    _opt("window", Text, "window of a bank report"),
    _req("format", Text, "html or pdf"),
    _req("url", Text, "permanent s3:// or file URL, signed when shown"),
    _req("sha256", Text, "of the file"),
    _opt("inputs_hash", Text, "hash of what the file was made from; the same now means that it need not be made again"),
    _req("generated_at", UTC, "when", NOW),
    Index(
        "report_file_one",
        "user_id",
        "week_start",
        "window",
        "format",
        unique=True,
        postgresql_nulls_not_distinct=True,
    ),
    Index("report_file_week", "week_start"),
    Index("report_file_url", "url"),
)

invariant_result = _table(
    "invariant_result",
    "What the invariants found: a verdict for each run, and every violation once, from when it was opened.",
    _key("run", Text, "run that evaluated it"),
    _key("invariant", Text, "invariant"),
    _key("partition", Text, "month, week or day; empty where it has none"),
    _key("subject", Text, "item, learner, month, …; empty: the verdict of the run"),
    _req("passed", Boolean, "whether it held, as far as it could be tested"),
    _opt("not_tested", Text, "why it, or a part of it, could not be tested"),
    _opt("observed", Text, "what was seen"),
    _opt("expected", Text, "what should have been"),
    _opt("fix", Text, "what to do"),
    _req("evaluated_at", UTC, "when", NOW),
    _opt("resolved_at", UTC, "when the violation was gone"),
    Index(
        "invariant_result_open",
        "invariant",
        "partition",
        "subject",
        unique=True,
        postgresql_where=sa.text("NOT passed AND subject <> '' AND resolved_at IS NULL"),
    ),
)

alert = _table(
    "alert",
    "What people are told of: opened once, resolved once; of severity info resolved as it is opened.",
    Column("alert_id", BigInteger, Identity(always=True), primary_key=True, comment="order of opening"),
    _req("key", Text, "what it is about; one alert of a key is open at a time"),
    _req("severity", Text, "error, warning or info"),
    _req("what", Text, "what happened"),
    _req("partition", Text, "month, week or day; empty where it has none"),
    _req("kind", Text, "what the subjects are: items, learners, months, …"),
    _req("subjects", JSONB, "all of them, a list"),
    _req("fix", Text, "what to do"),
    _req("link", Text, "where to look, below the UI's address"),
    _req("opened_at", UTC, "when", NOW),
    _opt("queued_at", UTC, "when it was handed to the channels of that time"),
    _opt("resolved_at", UTC, "when it was over"),
    Index("alert_open", "key", unique=True, postgresql_where=sa.text("resolved_at IS NULL")),
)

alert_delivery = _table(
    "alert_delivery",
    "The way of each message to each channel.",
    _key("alert_id", BigInteger, "alert"),
    _key("event", Text, "opened or resolved"),
    _key("channel", Text, "slack, discord, email, pagerduty or webhook"),
    _req("attempts", Integer, "how often it was tried", sa.text("0"), ge=0),
    _req("next_attempt_at", UTC, "not tried again before", NOW),
    _opt("last_error", Text, "why the last try failed"),
    _opt("delivered_at", UTC, "when it arrived"),
    Index("alert_delivery_due", "channel", "next_attempt_at", postgresql_where=sa.text("delivered_at IS NULL")),
)

object_folder = _table(
    "object_folder",
    "The folder of snapshots and reports; no row: none yet, or they lie in a bucket.",
    _key("folder_id", Text, "what its file .folder-id says"),
    _req("path", Text, "where it was when it was recorded"),
    _req("host", Text, "the host that recorded it"),
    _req("recorded_at", UTC, "when", NOW),
)

backup = _table(
    "backup",
    "Every backup that was made whole; one that is removed later keeps its row.",
    _key("address", Text, "folder or s3:// address"),
    _req("made_at", UTC, "the state of the database that it holds"),
    _req("size", BigInteger, "of its files", None, unit="bytes", ge=0),
    _req("seconds", Double, "how long it took", None, unit="s", ge=0),
)

server_setting = _table(
    "server_setting",
    "What one server is set to, for others that have no such setting themselves.",
    _key("name", Text, "ENABLE_IRT_ONLINE_UPDATE of the θ API, or of the session hook that asks it"),
    _req("value", Text, "true or false"),
    _req("recorded_at", UTC, "when the θ API was ready, or the hook first asked it", NOW),
)

intake = _table(
    "intake",
    "What came into the log: each import, and each minute of posts.",
    _key("source", Text, "the file, or who posted: service (the static token) or a JWT's sub"),
    _key("kind", Text, "file, inbox, pull or http; question, learner: a file of these"),
    _key("arrived_at", UTC, "when; of posts, the minute"),
    _key("writer", Integer, "process of the database that wrote it, so that none waits for another"),
    _req("read", BigInteger, "rows that came", None),
    _req("accepted", BigInteger, "rows that were new", None),
    _req("corrected", BigInteger, "rows that replaced an answer by a higher revision", None),
    _req("duplicates", BigInteger, "rows that were known", None),
    _req("clock_ahead", BigInteger, "rows accepted whose clock was up to five minutes ahead", None),
    _req("rejected", JSONB, "rows that were refused, by reason"),
    _opt("latest", UTC, "the latest completed_at that came"),
    Index("intake_arrived", "arrived_at"),
)

intake_reject = _table(
    "intake_reject",
    "Rows that were refused: at most 10,000 a source and day, for 30 days, without those of erased learners.",
    Column("reject_id", BigInteger, Identity(always=True), primary_key=True, comment="order of refusal"),
    _req("source", Text, "the file, or who posted"),
    _req("kind", Text, "as in intake"),
    _req("arrived_at", UTC, "when", NOW),
    _req("line", BigInteger, "line of the file, or place in the post, from 1"),
    _req("reason", Text, "why it was refused"),
    _req("value", Text, "the value that is the reason"),
    _req("row", Text, "the row as it came"),
    Index("intake_reject_source", "source", "arrived_at"),
)

inbox_file = _table(
    "inbox_file",
    "The files of the inbox, and what became of each.",
    _key("path", Text, "the file, or the address of the object"),
    _req("size", BigInteger, "its bytes"),
    _req("version", Text, "its times, or its ETag: another one once it was written again"),
    _req("seen_at", UTC, "since when it has this size and version", NOW),
    _opt("taken_at", UTC, "when all of it was taken; null: it was not yet"),
    _opt("sha256", Text, "hash of what was taken, unpacked"),
    _opt("problem", Text, "why it was set aside; null: it was not"),
    _opt("options", Text, "version of the options with which it was set aside"),
)

pull_source = _table(
    "pull_source",
    "Where each pull stands, in the transaction of the answers that it brought.",
    _key("name", Text, "as the file of sources has it"),
    Column("number", Integer, Identity(always=True), nullable=False, comment="response_log.pulled_from"),
    _req("columns", JSONB, "names and types of its columns, and its zone, as the first pull had them"),
    _req("position", JSONB, "cursor and key of the last row that was taken; of an Iceberg table the snapshot"),
    _req(
        "stood",
        JSONB,
        "where it stood before, each with the time, for as long as rows may commit out of order",
        sa.text("'[]'::jsonb"),
    ),
    _opt("again", JSONB, "what is to be read once more, from where to where, and since when; null: nothing is begun"),
    _opt("first_pull", JSONB, "days of the first pull that are to be read, in order; null: it is over"),
    _req(
        "refused",
        JSONB,
        "hashes of refused rows that are read again, each with the time: they count once",
        sa.text("'{}'::jsonb"),
    ),
    _req("notices_regrading", Boolean, "whether its cursor is the time of the last write"),
    _opt("stopped", Text, "why it is not pulled; null: it is"),
    _req("pulled_at", UTC, "when it was last read", NOW),
)

pull_day = _table(
    "pull_day",
    "Days of a source compared with the log: what was missing, and what it no longer has.",
    _key("name", Text, "source"),
    _key("day", Date, "day of the answers (UTC)"),
    _req("there", BigInteger, "rows of the source"),
    _req("here", BigInteger, "answers of the log that came from it"),
    _req("missing", BigInteger, "answers that were fetched, or are to be"),
    _req("vanished", BigInteger, "answers that were withdrawn, or are to be"),
    _req("waits", Boolean, "nothing was changed: it is more than 1 % of the day, and a person has to confirm it"),
    _req("compared_at", UTC, "when", NOW),
)

erasure = _table(
    "erasure",
    "Who was erased, when, by whom and why, without the id. Append-only.",
    Column("erasure_id", BigInteger, Identity(always=True), primary_key=True, comment="order of erasure"),
    _req("learner_hash", Text, "sha256 of the salt and the learner's id, hexadecimal"),
    _req("salt", LargeBinary, "random, the same for all"),
    _req("erased_by", Text, "who erased"),
    _req("reason", Text, "why"),
    _req("begun_at", UTC, "when", NOW),
    _opt("finished_at", UTC, "when nothing was left; null: interrupted"),
    _req("removed", JSONB, "how many rows of each table and how many files", sa.text("'{}'::jsonb")),
    _req(
        "rewritten",
        JSONB,
        "snapshots written again: [{old, new (sha256), old_uri, new_uri, old_data, new_data (hash of the answers; "
        "empty: unchanged)}]",
        sa.text("'[]'::jsonb"),
    ),
    Index("erasure_learner", "learner_hash"),
)

VIEWS = {
    "report_artifacts": """
        SELECT artifact_id, user_id, week_start, "window", format, url, sha256, generated_at, inputs_hash
        FROM report_file WHERE user_id IS NOT NULL
    """,
    "attempt": """
        SELECT r.attempt_id AS id, r.user_id, r.item_id, coalesce(q.topic_id, 'unknown') AS topic_id,
               r.session_id, r.form_id, r.position, r.started_at, r.completed_at, r.correct, r.response,
               r.response_time_ms, r.hints_used > 0 AS hint_used, r.hints_used, r.mode, r.recorded_at, r.score
        FROM response_log r LEFT JOIN question q ON q.item_id = r.item_id
    """,
    "item_parameter_current": """
        SELECT DISTINCT ON (scale_id, item_id)
               publication_id, scale_id, item_id, a, b, c, a_se, b_se, c_se, cov_ab, effective_from, month, fit_id,
               rule, decided_by, reason, replaces, data_hash, anchor_hash, code_version, run_id, published_at,
               parameters
        FROM item_parameter_publication
        WHERE effective_from <= now()
        ORDER BY scale_id, item_id, effective_from DESC, publication_id DESC
    """,
    "standing_decision": """
        SELECT * FROM (
          SELECT DISTINCT ON (month, scale_id, item_id, fit_id) *
          FROM release_decision
          WHERE decision IN ('accept', 'reject', 'undo')
          ORDER BY month, scale_id, item_id, fit_id, decision_id DESC) last
        WHERE decision <> 'undo'
    """,
    "item_withdrawal": """
        SELECT item_id, since, until, reason, decided_by, decided_at FROM (
          SELECT *, effective_from AS since, lead(effective_from) OVER (
            PARTITION BY item_id ORDER BY effective_from, status_id) AS until
          FROM item_status) decided
        WHERE state = 'withdrawn' AND (until IS NULL OR until > since)
    """,
}

TRIGGERS = """
CREATE FUNCTION make_learners() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
          IF current_setting('irt.makes_learners', true) = 'yes' THEN
            RETURN NULL;
          END IF;
          INSERT INTO {schema}.learner (user_id)
          SELECT DISTINCT n.user_id FROM new_attempts n
          WHERE NOT EXISTS (SELECT FROM {schema}.learner l WHERE l.user_id = n.user_id)
          ORDER BY 1 ON CONFLICT DO NOTHING;
          RETURN NULL;
        END $$;
CREATE TRIGGER learners_of_new AFTER INSERT ON response_log REFERENCING NEW TABLE AS new_attempts
    FOR EACH STATEMENT EXECUTE FUNCTION make_learners();
CREATE TRIGGER learners_of_changed AFTER UPDATE ON response_log REFERENCING NEW TABLE AS new_attempts
    FOR EACH STATEMENT EXECUTE FUNCTION make_learners();
CREATE FUNCTION keep_recorded_at() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
          NEW.recorded_at := now();
          RETURN NEW;
        END $$;
CREATE TRIGGER recorded_at_of_changed BEFORE UPDATE ON response_log FOR EACH ROW
    WHEN (NEW.recorded_at = OLD.recorded_at)
    EXECUTE FUNCTION keep_recorded_at();
ALTER TABLE response_log ENABLE ALWAYS TRIGGER recorded_at_of_changed;
"""
"""Triggers that add a learner for every attempt, and set `recorded_at` to the time of the last write. {schema}: the
schema's name."""
