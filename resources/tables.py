"""The schema registry: every table, column, view and trigger, described once.

DDL, the test of migrations, checks of data frames, Dagster's column metadata and the reference page use it. A column's
`comment` is its description; `info` may contain `unit`, and `ge` and `le` (its valid range). A table's `info` contains
`recomputed_by`; downgrades and backups protect the rows that no job recomputes. What does not belong here: queries, and
writing rows (see `warehouse`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import BigInteger, Boolean, Column, Date, Double, Identity, Index, Integer, LargeBinary, Text
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

METADATA = sa.MetaData()
NOW = sa.text("now()")
UTC = TIMESTAMP(timezone=True)


@dataclass(frozen=True)
class RecomputedBy:
    """The assets that recompute lost rows of a table, except for times and run ids.

    Attributes:
        assets: names of the assets; empty: the rows cannot be recomputed.
        rows: SQL condition of the rows that the assets recompute; empty: all rows.
    """

    assets: tuple[str, ...] = ()
    rows: str = ""


NO_JOB = RecomputedBy()
"""For tables of decisions, arrivals and issued results, and of the rows that these cite."""


def meaning(column: Column[Any]) -> str:
    """A column's description with its unit and range, for people."""
    limits = [f"{sign} {column.info[key]}" for key, sign in (("ge", "≥"), ("le", "≤")) if key in column.info]
    notes = [*([column.info["unit"]] if "unit" in column.info else []), *limits]
    return (column.comment or "") + (f" ({', '.join(notes)})" if notes else "")


def _table(name: str, comment: str, recomputed_by: RecomputedBy, *args: Any, **kwargs: Any) -> sa.Table:
    return sa.Table(name, METADATA, *args, comment=comment, info={"recomputed_by": recomputed_by}, **kwargs)


def irreplaceable_rows() -> Mapping[str, str]:
    """Return the tables with rows that no job recomputes: name → SQL condition of these rows."""
    recomputed_by = {name: table.info["recomputed_by"] for name, table in METADATA.tables.items()}
    return {
        name: f"({made.rows}) IS NOT TRUE" if made.assets else "true"
        for name, made in recomputed_by.items()
        if made.rows or not made.assets
    }


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
    return _key("scale_id", Text, "scale")


def _parameter(name: str, comment: str, *, nullable: bool = True, **info: Any) -> Column[Any]:
    value = sa.Computed(f"(parameters ->> '{name}'::text)::double precision", persisted=True)
    return Column(name, Double, value, nullable=nullable, comment=comment, info=info)


def _parameters() -> list[Column[Any]]:
    """The column with an item's parameters, and the columns that the server computes from it."""
    return [
        _req(
            "parameters",
            JSONB,
            "parameters and their standard errors, by the names in the item's model; missing: not known",
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
    NO_JOB,
    _item("item id: text, never treated as a number"),
    _req("scale_id", Text, "scale: items that measure one ability", sa.text("'default'")),
    _opt("topic_id", Text, "topic"),
    _opt("testlet_id", Text, "testlet: items that share a stimulus"),
    _req(
        "meta",
        JSONB,
        'tags (e.g. "anchor"), irt {a, b, c, a_se, b_se, c_se, cov_ab, n, D, model, max_score, block}, '
        "key (an option, a list of right options, true: every answer gets credit, or []: not scored), "
        "replaces (id of the former version of the item)",
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
        comment="maximum score, computed from meta; null: 1",
    ),
)

learner = _table(
    "learner",
    "Learners and their attributes.",
    NO_JOB,
    _key("user_id", Text, "learner id: text, never treated as a number"),
    _req("attributes", JSONB, "attributes: lang, country, tier, …", sa.text("'{}'::jsonb")),
    _req("is_test", Boolean, "whether this is a test account, whose answers are never used", sa.text("false")),
    _opt("target_scale_id", Text, "scale of the learner's goal"),
    _opt("target_theta", Double, "ability that the learner aims for", unit="θ"),
    Column(
        "learner_key",
        BigInteger,
        unique=True,
        server_default=sa.text(
            "(hashtextextended((gen_random_uuid())::text, (0)::bigint) & '9223372036854775807'::bigint)"
        ),
        comment="random number that replaces the id in verdicts and files",
    ),
)

response_log = _table(
    "response_log",
    "All answers, partitioned by the month of completed_at. Read them only through the view attempt.",
    NO_JOB,
    _key("attempt_id", Text, "id of the attempt"),
    _key("completed_at", UTC, "time of the answer; if there is no answer, the time at which the item left the screen"),
    _req("user_id", Text, "learner"),
    _req("item_id", Text, "item"),
    _opt("session_id", Text, "session"),
    _opt("form_id", Text, "exam form; null: practice"),
    _opt("position", Integer, "position in the session, from 1", ge=1),
    _opt("started_at", UTC, "time at which the item was shown"),
    _opt("correct", Boolean, "whether the answer has full credit; null: the item was shown but not answered"),
    _opt("response", Text, "chosen option"),
    _opt("response_time_ms", BigInteger, "response time", unit="ms", ge=0),
    _opt("hints_used", Integer, "number of hints used; null: not known", ge=0),
    _req("mode", Text, "live, sandbox, or dropped (the item is not scored)", sa.text("'live'")),
    _req("recorded_at", UTC, "time at which the row reached this database or was last corrected", NOW),
    _req(
        "revision",
        BigInteger,
        "revision; of two rows with the same attempt_id, the one with the higher revision is kept",
        sa.text("0"),
        ge=0,
    ),
    _opt(
        "sent_at", UTC, "completed_at as it was sent, if the sender's clock was ahead; null: completed_at is unchanged"
    ),
    Column(
        "pulled_from",
        Integer,
        server_default=sa.text("(NULLIF(current_setting('irt.pull'::text, true), ''::text))::integer"),
        comment="pull_source.number of the pull that fetched the row; null: not fetched by a pull",
    ),
    _opt("score", sa.SmallInteger, "score, from 0 to the item's maximum score; null: only correct is known"),
    Index("response_log_user", "user_id", "completed_at"),
    Index("response_log_recorded", "recorded_at", postgresql_using="brin"),
    postgresql_partition_by="RANGE (completed_at)",
)

attempt_correction = _table(
    "attempt_correction",
    "Former rows of corrected and withdrawn answers, with who changed them, when and why.",
    NO_JOB,
    *(Column(was.name, was.type, nullable=was.nullable, comment=was.comment) for was in response_log.columns),
    Column(
        "correction_id",
        BigInteger,
        Identity(always=True),
        primary_key=True,
        comment="number of the correction, in order",
    ),
    _req("how", Text, "import, rescore, withdraw, or double (another row with the same id was kept)"),
    _req("corrected_by", Text, "person; for an import or a double, the database role"),
    _req("reason", Text, "reason; for an import, the file"),
    _req("corrected_at", UTC, "time of the correction", NOW),
    Index("attempt_correction_attempt", "attempt_id"),
    Index("attempt_correction_at", "corrected_at"),
)

item_time = _table(
    "item_time",
    "Median response time of each item in the live answers of a month.",
    NO_JOB,
    _month(),
    _item(),
    _req("median_ms", Double, "median response time of the item's live answers", unit="ms", ge=0),
    _req("n", BigInteger, "number of live answers with a response time", None, ge=1),
    _req("taken_at", UTC, "time at which it was computed from the log", NOW),
)

attempt_verdict = _table(
    "attempt_verdict",
    "The verdict on each attempt: the score that counts, or the reason why it does not count. "
    "Partitioned like response_log.",
    RecomputedBy(("judged_attempts",)),
    _key("attempt_id", Text, "id of the attempt"),
    _key("completed_at", UTC, "time of the answer; if there is no answer, the time at which the item left the screen"),
    _req("learner_key", BigInteger, "learner.learner_key"),
    _req("item_id", Text, "item"),
    _req("scale_id", Text, "scale"),
    _opt("reason", Text, "reason why the attempt does not count; null: it counts"),
    _opt("score", sa.SmallInteger, "score that counts, from 0; null: the attempt does not count", ge=0),
    _opt("max_score", sa.SmallInteger, "maximum score of the item; null: 1"),
    _req("rules_hash", BigInteger, "hash of the eligibility rules by which the attempt was judged"),
    _req("recorded_at", UTC, "recorded_at of the answer when it was judged"),
    _req("judged_at", UTC, "time at which the attempt was judged"),
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
    "Fingerprint of each judged day. If it differs from the log, the day is judged again.",
    RecomputedBy(("judged_attempts",)),
    _key("day", Date, "day of the answers (UTC)"),
    _req("n", BigInteger, "number of attempts", None, ge=0),
    _req("recorded_sum", sa.Numeric, "sum of recorded_at (µs since 1970)"),
    _req("revision_sum", sa.Numeric, "sum of revision"),
    _req("test_accounts", Text, "hash of the test accounts with attempts on the day"),
    _req("items", Text, "hash of the scales and maximum scores of the day's items"),
    _req(
        "rules",
        Text,
        "hashes of the month's rules, of the previous month's item times, and of the month's answers up "
        "to that day to items with too few times in the previous month",
    ),
    _req("judged_at", UTC, "time at which a verdict of the day last changed", NOW),
)

month_state = _table(
    "month_state",
    "Closed and reopened months. The newest row of a month applies; a month without a row is open.",
    NO_JOB,
    _month(),
    _scale(),
    Column("since", UTC, primary_key=True, nullable=False, server_default=NOW, comment="start of the state"),
    _req("state", Text, "closed or reopened"),
    _req(
        "decided_by",
        Text,
        "person who reopened the month; nightly: closed by the rule late_days; upgrade: closed by an upgrade",
    ),
    _req("reason", Text, "reason for the state"),
    _req("snapshot_hash", Text, "sha256 of the snapshot with which the month closed"),
    _req("rules", JSONB, "rules by which the month's answers were judged; missing rules have their defaults"),
    _req("items", JSONB, "maximum score of each item of the scale when the month closed"),
    _req("test_accounts", JSONB, "learner keys of the test accounts when the month closed"),
    _req(
        "came",
        JSONB,
        "number of answers when the month closed, number of answers changed since by kind, and the "
        "changed share of each item with more than 5 % changed",
        sa.text("'{}'::jsonb"),
    ),
    _opt("counted_at", UTC, "time at which the changes were counted; null: not counted yet"),
    Column("state_id", BigInteger, Identity(always=True), nullable=False, comment="number of the row, in order"),
    _opt("decision_id", BigInteger, "decision that reopened the month; null: closed"),
    sa.CheckConstraint("state <> 'reopened' OR decision_id IS NOT NULL", name="month_state_reopened_by_decision"),
)

features_topic_daily = _table(
    "features_topic_daily",
    "A learner's answers in a topic on a day.",
    RecomputedBy(("features_topic_daily",)),
    _key("user_id", Text, "learner"),
    _key("topic_id", Text, "topic; 'unknown' if the item has none"),
    _key("date", Date, "day (UTC)"),
    _req("attempts", Integer, "number of live answers", None, ge=0),
    _req("correct", Integer, "number of correct answers", None, ge=0),
    _opt("rt_median", Double, "median response time of correct answers that have a response time", unit="ms", ge=0),
    _opt("hints", Integer, "number of hints used; null: not known", ge=0),
    _req("computed_at", UTC, "time at which the row was computed", NOW),
    Index("features_topic_daily_date", "date"),
)

weekly_kpi = _table(
    "weekly_kpi",
    "Six KPIs of a learner's week.",
    RecomputedBy(("weekly_kpi",)),
    _key("user_id", Text, "learner"),
    _key("week_start", Date, "Monday of the week (UTC)"),
    _req("kpis", JSONB, "I_t, E_t, R_t, A_t, P and S; null: undefined, with the reason under why"),
    _req(
        "updated_at",
        UTC,
        "time at which the week was computed; the week's Monday if only P and S of an inactive learner were computed",
        NOW,
    ),
    _opt(
        "inactivity_at",
        UTC,
        "time at which P and S were last set because the learner was inactive; null: not since updated_at",
    ),
    Index("weekly_kpi_week", "week_start"),
)

partition_source = _table(
    "partition_source",
    "State of the verdicts from which each day of features and each week of KPIs was made.",
    RecomputedBy(("features_topic_daily", "weekly_kpi")),
    _key("asset", Text, "features_topic_daily or weekly_kpi"),
    _key("partition", Text, "day, or Monday of the week"),
    _req("data_hash", Text, "state of the verdicts"),
    _req("computed_at", UTC, "time of the computation", NOW),
)

scored_snapshot = _table(
    "scored_snapshot",
    "Snapshots: Parquet files of a month's attempts with their verdicts.",
    NO_JOB,
    _month(),
    _key(
        "snapshot_hash",
        Text,
        "sha256 of the file, or of the former file with learner ids that it replaces (see snapshot_rewrite)",
    ),
    _req("uri", Text, "path of the file below the object store's root"),
    _req("data_hash", Text, "hash of the month's attempts with their verdicts"),
    _req("n_attempts", BigInteger, "number of attempts in the file", None, ge=0),
    _req("counts", JSONB, "number of attempts by scale and reason; attempts that count are under 'scored'"),
    _req("rules", JSONB, "eligibility rules by scale"),
    _opt("run_id", Text, "Dagster run that wrote the file"),
    _req("created_at", UTC, "time at which the file was written", NOW),
    _opt("superseded_at", UTC, "time at which a later snapshot of the month replaced it"),
    _req("verdict_state", Text, "state of the verdicts from which the file was made"),
)

snapshot_rewrite = _table(
    "snapshot_rewrite",
    "Snapshots that were searched for learner ids, and rewritten with learner keys if they contained ids.",
    NO_JOB,
    _key("old_hash", Text, "hash under which the snapshot was stored and is cited"),
    _req("new_hash", Text, "sha256 of the file that replaces it; equal to old_hash if it contained no ids"),
    _req("rewritten_at", UTC, "time at which it was searched or rewritten", NOW),
)

fit_staging = _table(
    "fit_staging",
    "Fits as the engine returned them, before linking, and the reasons of fits that failed.",
    NO_JOB,
    _key("fit_id", Text, "fit"),
    _req("month", Text, "calendar month of the window"),
    _req("scale_id", Text, "scale"),
    _req("engine", Text, "engine"),
    _req("snapshot_hash", Text, "snapshot that was fitted"),
    _opt("calibration", LargeBinary, "the Calibration, compressed; null: the fit failed"),
    _opt("error", Text, "reason why there is no fit"),
    _opt("error_kind", Text, "type of the error"),
    _req("spec", JSONB, "model, priors, quadrature, eligibility, excluded items by reason"),
    _req("code_version", Text, "version of this code"),
    _opt("run_id", Text, "Dagster run that wrote the fit"),
    _req("fitted_at", UTC, "time of the fit", NOW),
    Index("fit_staging_month", "month", "scale_id", "engine", "fitted_at"),
)

mirt_fit_meta = _table(
    "mirt_fit_meta",
    "Linked fits.",
    NO_JOB,
    _key("fit_id", Text, "fit"),
    _req("scale_id", Text, "scale"),
    _req("kind", Text, "monthly, nightly, origin, or pooled (a recalibration)"),
    _req("window_start", UTC, "start of the window"),
    _req("window_end", UTC, "end of the window (exclusive)"),
    _req("engine", Text, "em, pymc, mirt or brms"),
    _req("engine_version", Text, "version of the engine"),
    _req("model", Text, "model, e.g. 2pl; if the items have several models, their names joined by +"),
    _req("n_persons", Integer, "number of learners", None, ge=0),
    _req("n_items", Integer, "number of items with parameters", None, ge=0),
    _req("n_responses", BigInteger, "number of responses", None, ge=0),
    _req("loglik", Double, "marginal log-likelihood"),
    _req("aic", Double, "Akaike information criterion"),
    _req("bic", Double, "Bayesian information criterion, with the number of learners as sample size"),
    _req("converged", Boolean, "whether the engine reached the maximum"),
    _req("iterations", Integer, "number of iterations", None, ge=0),
    _opt("max_rhat", Double, "largest R-hat of a sampled fit", ge=1),
    _opt("min_ess", Double, "smallest effective sample size of a sampled fit", ge=0),
    _req("model_spec", JSONB, "linking_constants, priors, quadrature, eligibility, excluded items"),
    _opt("calibration", LargeBinary, "the Calibration of an origin window, compressed"),
    _opt(
        "common_errors",
        JSONB,
        "[4], covariance matrix of (stretch, shift), the error that all items share; null: not known",
    ),
    _req("data_hash", Text, "hash of the window's attempts with their verdicts"),
    _req("snapshot_hash", Text, "snapshot that was fitted; empty for a nightly fit, which stores none"),
    _req("anchor_hash", Text, "hash of the anchor set to which the fit was linked"),
    _req("code_version", Text, "version of this code"),
    _opt("run_id", Text, "Dagster run that linked the fit"),
    _req("fitted_at", UTC, "time of the fit", NOW),
    _opt("superseded_at", UTC, "time at which a later fit of the window replaced it"),
    Index("mirt_fit_meta_window", "scale_id", "kind", "window_start"),
)

month_impact = _table(
    "month_impact",
    "Shift of a month's anchors as a group, compared with the other published items.",
    NO_JOB,
    _key("fit_id", Text, "fit"),
    _req("why", Text, "reason why nothing could be compared, and all numbers are 0; empty: compared"),
    _req(
        "learners",
        Integer,
        "number of learners behind the shift in release 1.0.0; in later releases 0",
        sa.text("0"),
        ge=0,
    ),
    _req("items", Integer, "number of items behind the shift: in force, fitted again, and not anchors", None, ge=0),
    _req("shift", Double, "change of these items' b, compared with the anchors' b", None, unit="θ"),
    _req("shift_se", Double, "standard error of the shift", None, unit="θ", ge=0),
    _req("sd", Double, "SD of the scale's population", None, unit="θ"),
    _opt("compared_with", Text, "digest of the values in force with which the fit was compared; null: not known"),
)

mirt_item_params = _table(
    "mirt_item_params",
    "An item's parameters in a linked fit, on the bank's scale.",
    NO_JOB,
    _key("fit_id", Text, "fit"),
    _item(),
    _req(
        "params",
        JSONB,
        "model; a, b, c, a_se, b_se, c_se and cov_ab on the bank's scale; for a 3PL item, cov_logit_c "
        "(covariances of logit c with a, b and itself); the unlinked values under raw; in a nightly fit, "
        "provisional: true if the item has no published values",
    ),
    _req("n_responses", Integer, "number of responses", None, ge=0),
    _opt("p_value", Double, "proportion correct", ge=0, le=1),
    _opt("point_biserial", Double, "item-rest correlation", ge=-1, le=1),
    _opt("infit", Double, "information-weighted mean square", ge=0),
    _opt("outfit", Double, "unweighted mean square", ge=0),
    _opt("rmsd", Double, "root mean squared difference between the observed curve and the model's curve", ge=0, le=1),
    _req("flags", JSONB, "the engine's flags for the item", sa.text("'[]'::jsonb")),
    _req("fitted_at", UTC, "time of the fit", NOW),
)

mirt_ability = _table(
    "mirt_ability",
    "Abilities of learners, each at a point in time.",
    RecomputedBy(("abilities", "nightly_calibration"), "kind <> 'online'"),
    _key("update_id", Text, "run or update that computed the ability"),
    _key("user_id", Text, "learner"),
    _scale(),
    _req("theta", Double, "ability on the bank's scale", unit="θ"),
    _req("se", Double, "standard error", None, unit="θ", ge=0),
    _opt(
        "se_total",
        Double,
        "standard error including the errors of item parameters and linking; null: not known",
        unit="θ",
        ge=0,
    ),
    _req("method", Text, "eap, map or wle"),
    _req("n_items", Integer, "number of answers to published items that were used", None, ge=1),
    _req("kind", Text, "monthly, nightly or online"),
    _req("window_end", UTC, "end of the answers that were used (exclusive)"),
    _opt(
        "as_of",
        UTC,
        "time of the last answer that was used, to which θ refers if abilities move; null: computed before 1.1",
    ),
    _req("published_as_of", UTC, "time whose published set was used"),
    _req("set_hash", Text, "hash of the published set"),
    _req("scale_version", Integer, "version of the anchor set"),
    _req("fitted_at", UTC, "time of the computation", NOW),
    Index("mirt_ability_window", "kind", "window_end", "scale_id"),
    Index("mirt_ability_user", "user_id", "fitted_at"),
)

ability_state = _table(
    "ability_state",
    "Empty. On scales with movement, earlier releases stored here the state from which the θ API resumed.",
    NO_JOB,
    _key("user_id", Text, "learner"),
    _scale(),
    _req("state", LargeBinary, "posterior from the answers before a day, and the effect of item errors on it"),
    _req("until", UTC, "start of that day, the last one on which the learner answered"),
    _req(
        "basis",
        Text,
        "hash of the other inputs: published set, rules, item times, and the time from which answers count",
    ),
    _req("n_items", Integer, "number of answers to published items in the state", None, ge=1),
    _req("answers", Text, "sum of the hashes of these answers"),
    _req(
        "n_attempts",
        BigInteger,
        "number of the learner's rows in the log before that day, including the look-back",
        None,
        ge=1,
    ),
    _opt("recorded_at", UTC, "latest recorded_at of these rows"),
    Index("ability_state_until", "until"),
)

form = _table(
    "form",
    "Forms of tests: fixed lists of items in a fixed order.",
    NO_JOB,
    _key("form_id", Text, "form"),
    _req(
        "source",
        Text,
        "file: imported; assembled: from a blueprint; log: all sessions of the form in the log agree on it",
    ),
    _req("recorded_at", UTC, "time at which it was imported, released or last read from the log", NOW),
    _opt("seed_places", JSONB, "places in a session, from 1, that seed draws fill; null: no places"),
)

form_item = _table(
    "form_item",
    "Items of forms.",
    NO_JOB,
    _key("form_id", Text, "form"),
    _item(),
    _req("position", Integer, "place of the item in the form, from 1", None, ge=1),
    _req("max_score", sa.SmallInteger, "maximum score", sa.text("1"), ge=1),
    _req("scored", Boolean, "whether the item counts towards the score of the form", sa.text("true")),
)

item_analysis = _table(
    "item_analysis",
    "Item analysis by classical test theory, for each form and item of a month or a day.",
    RecomputedBy(("item_analysis", "item_analysis_daily")),
    _scale(),
    _key("period", Text, "month (2026-09) or day (2026-09-14), UTC"),
    _key("form_id", Text, "form; empty: all answers of the period"),
    _key("item_id", Text, "item; empty: the row of the form as a whole"),
    _req("n", Integer, "number of learners with a score", None, ge=0),
    _req("statistics", JSONB, "statistics of the item with its options, or of the form; missing: not known"),
    _req("computed_at", UTC, "time of the analysis", NOW),
)

key_evidence = _table(
    "key_evidence",
    "Test martingale of each item in a calendar year, as of the end of a day: evidence against its key.",
    NO_JOB,
    _item(),
    _key("day", Date, "last day (UTC) whose answers count"),
    _req("key", Text, "key that the evidence is against"),
    _req("n", Integer, "number of answers in the year that count", None, ge=0),
    _req(
        "e_value",
        Double,
        "evidence that another option is right; a right key reaches 1,000 in a year with probability 0.001 at most",
        None,
        ge=0,
    ),
    _opt("option", Text, "option for which the evidence is strongest"),
    _req("state", JSONB, "state from which the next day's answers go on"),
)

score_table = _table(
    "score_table",
    "Score tables of forms: θ, scaled score, percentile and pass of each raw score. Append-only.",
    NO_JOB,
    Column("table_id", BigInteger, Identity(always=True), primary_key=True, comment="number of the table, in order"),
    _req("scale_id", Text, "scale"),
    _req("form_id", Text, "form"),
    _req("month", Text, "month whose published values and learners the table uses"),
    _req(
        "method",
        Text,
        "rule score_by (eap, test-curve, normalised, raw, percent or percentile); or the equating that was chosen",
    ),
    _req("set_hash", Text, "hash of the published set; empty: no published values are needed"),
    _req("spec", JSONB, "rules of the reported scale, pass mark, number of learners, and equating"),
    _req("scores", JSONB, "for each raw score, from 0: its scores and their errors, and whether it passes"),
    _req("table_hash", Text, "hash of the form's items, the specification and the scores"),
    _req("code_version", Text, "version of this code"),
    _opt("run_id", Text, "Dagster run that made it"),
    _req("made_at", UTC, "time at which it was made", NOW),
    Index("score_table_form", "scale_id", "form_id", "month"),
)

issued_score = _table(
    "issued_score",
    "Scores that were handed out, by sitting. A newer row replaces an older one, which stays. Append-only.",
    NO_JOB,
    Column("issued_id", BigInteger, Identity(always=True), primary_key=True, comment="number of the row, in order"),
    _req("user_id", Text, "learner"),
    _req("scale_id", Text, "scale"),
    _req("form_id", Text, "form"),
    _req("session_id", Text, "session; empty if the log has no session"),
    _req("sat_at", UTC, "time of the sitting's last answer"),
    _opt("raw", Integer, "raw score; null: scored by θ", ge=0),
    _opt("theta", Double, "ability; null: the score comes from the raw score alone", unit="θ"),
    _opt(
        "theta_se",
        Double,
        "standard error of θ, with the errors of the items if scored by θ; null: there is no θ",
        unit="θ",
        ge=0,
    ),
    _req("scaled", Double, "reported score"),
    _req("scaled_se", Double, "standard error of the reported score", ge=0),
    _opt("percentile", Double, "percentile rank in the norm group; null: there is no norm group", ge=0, le=100),
    _opt("passes", Boolean, "whether the learner passes; null: no pass mark"),
    _opt(
        "pass_probability",
        Double,
        "probability that the learner's true θ or, without θ, true score reaches the pass mark",
        ge=0,
        le=1,
    ),
    _opt("table_id", BigInteger, "score table; null: scored by θ"),
    _req("set_hash", Text, "hash of the published set; empty: no published values are needed"),
    _req("status", Text, "issued, held (not handed out), or invalid (does not count)"),
    _opt("replaces", BigInteger, "row that this one replaces"),
    _req("decided_by", Text, "person who decided"),
    _req("reason", Text, "reason"),
    _req("issued_at", UTC, "time of the decision", NOW),
    Index("issued_score_learner", "user_id", "scale_id", "issued_id"),
    Index("issued_score_form", "scale_id", "form_id", "issued_id"),
)

adaptive_test = _table(
    "adaptive_test",
    "Decisions on adaptive tests: each row is a version of the policy of a test. Append-only.",
    NO_JOB,
    Column("version", BigInteger, Identity(always=True), primary_key=True, comment="number of the version, in order"),
    _req("test_id", Text, "test"),
    _req("scale_id", Text, "scale"),
    _opt("policy", JSONB, "the policy; null: the test is not offered"),
    _opt("undoes", BigInteger, "version whose decision this one undoes"),
    _req("effective_from", UTC, "time from which new sessions use this version"),
    _req("decided_by", Text, "person who decided"),
    _req("reason", Text, "reason"),
    _req("decided_at", UTC, "time of the decision", NOW),
    _req("decision_id", BigInteger, "decision that made this version"),
    Index("adaptive_test_id", "test_id", "version"),
)

adaptive_session = _table(
    "adaptive_session",
    "Sessions of adaptive tests: everything that their first request fixed.",
    NO_JOB,
    _key("session_id", Text, "session"),
    _req("user_id", Text, "learner"),
    _req("test_id", Text, "test; the form_id of the session's answers"),
    _req("version", BigInteger, "version of the policy"),
    _req("scale_id", Text, "scale"),
    _req("scale_version", Integer, "version of the scale's anchors"),
    _req("set_hash", Text, "hash of the published set"),
    _opt("bank_hash", Text, "bank in adaptive_bank; null: the session began before banks were stored"),
    _req("seed", BigInteger, "seed of the session's random choices", None, ge=0),
    _opt("start_theta", Double, "θ from which items are chosen; null: the population", unit="θ"),
    _opt("start_se", Double, "standard error of start_theta", unit="θ", ge=0),
    _req("eligible", JSONB, "items that are not eligible in an interval of θ: for each interval, 0 or 1"),
    _req("unscored", JSONB, "items drawn for the unscored places, in order"),
    _req("seen", JSONB, "items of the test that the learner had seen within the look-back before the start"),
    _req("started_at", UTC, "time of the first request", NOW),
    Index("adaptive_session_started", "started_at"),
    Index("adaptive_session_learner", "user_id"),
)

adaptive_bank = _table(
    "adaptive_bank",
    "Banks that sessions of adaptive tests use: all that a session's items and θ depend on, apart from the answers. "
    "Append-only.",
    NO_JOB,
    _key("bank_hash", Text, "hash of the content"),
    _req("content", JSONB, "policy, scale, hash of the published set, and values, errors and topics of the items"),
    _req("stored_at", UTC, "time at which a session used the bank first", NOW),
)

item_exposure = _table(
    "item_exposure",
    "How often items of adaptive tests were eligible and given, by day of the session's start.",
    RecomputedBy(("item_exposure",)),
    _key("day", Date, "day (UTC)"),
    _key("version", BigInteger, "version of the policy"),
    _key("theta_interval", Integer, "interval of θ, from 0; 0 if exposure is limited over all θ"),
    _item(),
    _req("sessions", Integer, "sessions of the version on this day, in this interval", None, ge=0),
    _req("eligible", Integer, "sessions in which the item was eligible", None, ge=0),
    _req("given", Integer, "sessions in which the item was given", None, ge=0),
)

adaptive_simulation = _table(
    "adaptive_simulation",
    "Simulations of the adaptive tests in force with the published set at a month's end.",
    RecomputedBy(("adaptive_simulation",)),
    _month(),
    _key("version", BigInteger, "version of the policy"),
    _req("test_id", Text, "test"),
    _req("scale_id", Text, "scale"),
    _req("set_hash", Text, "hash of the published set"),
    _req("summary", JSONB, "precision, length, exposure, content and classification, over all θ and by θ"),
    _req("items", JSONB, "for each item, by interval of θ: tests in which it was eligible, and given"),
    _req("code_version", Text, "version of this code"),
    _opt("run_id", Text, "Dagster run that made it"),
    _req("made_at", UTC, "time at which it was made", NOW),
)

seed_draw = _table(
    "seed_draw",
    "Draws of new items for places in sessions. Answers in these places have the reason seed.",
    NO_JOB,
    Column("draw_id", BigInteger, Identity(always=True), primary_key=True, comment="number of the draw, in order"),
    _req("scale_id", Text, "scale"),
    _req("item_id", Text, "new item"),
    _req("user_id", Text, "learner"),
    _req("session_id", Text, "session"),
    _req("position", Integer, "place in the session, from 1", None, ge=1),
    _opt("form_id", Text, "form or test; null: practice"),
    _opt("theta", Double, "mean of the posterior of the learner's ability; null: not known", unit="θ"),
    _opt("theta_se", Double, "standard deviation of this posterior", unit="θ", ge=0),
    _req("probability", Double, "probability with which the item was drawn", None, ge=0, le=1),
    _req("at_random", Boolean, "whether the item was drawn at random"),
    _req("drawn_at", UTC, "time of the draw", NOW),
    _opt("given_back_at", UTC, "time at which the draw was given back; null: it counts as an answer in the limits"),
    Index("seed_draw_place", "session_id", "position", unique=True),
    Index("seed_draw_session_item", "session_id", "item_id", unique=True),
    Index("seed_draw_item", "item_id", postgresql_where=sa.text("given_back_at IS NULL")),
    Index("seed_draw_learner", "user_id"),
)

item_pipeline = _table(
    "item_pipeline",
    "Unpublished items with answers: their posteriors, and whether they can be published. Replaced each night.",
    RecomputedBy(("item_pipeline",)),
    _scale(),
    _item(),
    _req("model", Text, "model"),
    _req("parameters", JSONB, "parameters and their standard errors, by the names in the model; missing: not known"),
    _req("n", Integer, "number of answers", None, ge=0),
    _req("first_at", UTC, "time of the first answer"),
    _req("last_at", UTC, "time of the last answer"),
    _opt("measured_at", UTC, "time of the answer with which it reached min_provisional_responses; null: not yet"),
    _opt("prior_share", Double, "share of the prior in the precision; null: not known", ge=0, le=1),
    _req("p_gates", JSONB, "item gate → probability of passing it", sa.text("'{}'::jsonb")),
    _opt("e_value", Double, "evidence that another option is right; null: no evidence", ge=0),
    _req("accused", Boolean, "whether this evidence accuses the key", sa.text("false")),
    _opt("position", Double, "mean place of the answers in their sessions; null: not known", ge=1),
    _opt("misfit", Double, "misfit of the item's curve as a z statistic; null: not known"),
    _req("flags", JSONB, "flags of the estimate", sa.text("'[]'::jsonb")),
    _req("publishable", Boolean, "whether a person may publish it"),
    _opt("publishable_at", UTC, "first night of those since which it is publishable; null: it is not"),
    _opt("ready_at", Date, "day on which it is expected to be publishable; null: no forecast"),
    _opt("ready_from", Date, "first day of the forecast's 80 % interval"),
    _opt("ready_to", Date, "last day of this interval"),
    _opt("stuck", Text, "why it does not get ahead; null: it does"),
    _req("evaluated_at", UTC, "time of the evaluation", NOW),
)

item_parameter_publication = _table(
    "item_parameter_publication",
    "The ledger: published values, each with its start, its fit, the rule or person, and the reason. Append-only.",
    NO_JOB,
    Column(
        "publication_id",
        BigInteger,
        Identity(always=True),
        primary_key=True,
        comment="number of the publication, in order",
    ),
    _req("scale_id", Text, "scale"),
    _req("item_id", Text, "item"),
    *_parameters(),
    _req("effective_from", UTC, "time from which the values are in force"),
    _opt("month", Text, "month of the fit, or FIRST:LAST of a recalibration; null: values of the bank"),
    _opt("fit_id", Text, "fit that estimated the values; null: values of the bank"),
    _req(
        "rule",
        Text,
        "origin, first, pipeline (a new item's estimate), decision, or undo (the values before a decision)",
    ),
    _opt("decided_by", Text, "person who decided; null: a rule did"),
    _req("reason", Text, "reason"),
    _opt("replaces", BigInteger, "publication that it replaces"),
    _opt("data_hash", Text, "hash of the answers from which the values were estimated"),
    _req("anchor_hash", Text, "hash of the anchor set"),
    _req("code_version", Text, "version of this code"),
    _opt("run_id", Text, "Dagster run that published it"),
    _req("published_at", UTC, "time of the publication", NOW),
    Index("item_parameter_publication_item", "scale_id", "item_id", "effective_from"),
)

testlet_sd_publication = _table(
    "testlet_sd_publication",
    "Published strength of the dependence between answers in one testlet. Append-only.",
    NO_JOB,
    Column(
        "publication_id",
        BigInteger,
        Identity(always=True),
        primary_key=True,
        comment="number of the publication, in order",
    ),
    _req("scale_id", Text, "scale"),
    _req("sd", Double, "SD of the learners' effects in testlets", unit="θ", ge=0),
    _opt("se", Double, "standard error of the SD", unit="θ", ge=0),
    _req("n_testlets", Integer, "number of testlets from which the SD was estimated"),
    _req("testlets", JSONB, "testlet of each item in the month's fit"),
    _req("effective_from", UTC, "time from which the SD is in force"),
    _req("month", Text, "month of the fit"),
    _req("fit_id", Text, "fit that estimated the SD"),
    _req("published_at", UTC, "time of the publication", NOW),
    Index("testlet_sd_publication_scale", "scale_id", "effective_from"),
)

item_parameter_proposal = _table(
    "item_parameter_proposal",
    "Values that a month or a recalibration would publish, but that need a person's decision.",
    NO_JOB,
    _key("month", Text, "calendar month of the window, or FIRST:LAST of a recalibration"),
    _scale(),
    _item(),
    _key("fit_id", Text, "fit that estimated the values"),
    *_parameters(),
    _req("why", Text, "reason why the values were not published automatically"),
    _req("created_at", UTC, "time of the proposal", NOW),
)

release_decision = _table(
    "release_decision",
    "Decisions on proposals and anchors.",
    NO_JOB,
    Column(
        "decision_id", BigInteger, Identity(always=True), primary_key=True, comment="number of the decision, in order"
    ),
    _req("month", Text, "window of the proposal; for an anchor, the first month without it, or with it again"),
    _req("scale_id", Text, "scale"),
    _req("item_id", Text, "item"),
    _req("fit_id", Text, "fit of the proposal; for an anchor, its last linked fit"),
    _req("decision", Text, "accept, reject, undo (of an accept or reject), drop_anchor or restore_anchor"),
    _req("decided_by", Text, "person who decided"),
    _req("reason", Text, "reason"),
    _opt("effective_from", UTC, "time from which new values are in force; null: no values change"),
    _req("decided_at", UTC, "time of the decision", NOW),
    Index("release_decision_item", "scale_id", "item_id"),
)

decision = _table(
    "decision",
    "Decisions of people, of all kinds that `irt decisions` lists. Append-only.",
    NO_JOB,
    Column(
        "decision_id", BigInteger, Identity(always=True), primary_key=True, comment="number of the decision, in order"
    ),
    _req("kind", Text, "kind of the decision, such as: withdraw an item"),
    _req("scale_id", Text, "scale"),
    _req("subject", Text, "item or test that was decided on; empty: the window", sa.text("''")),
    _opt("window", Text, "month that was decided on; null: no month"),
    _req("value", JSONB, "decided value; its fields depend on the kind"),
    _opt("undoes", BigInteger, "decision that this one undoes"),
    _opt("effective_from", UTC, "time from which the decision holds; null: the time of the decision"),
    _req("decided_by", Text, "person who decided"),
    _req("reason", Text, "reason"),
    _req("decided_at", UTC, "time of the decision", NOW),
    _opt("former_table", Text, "table that had the decision before an upgrade; null: made since"),
    _opt("former_id", BigInteger, "number of the decision in former_table"),
    Index("decision_subject", "kind", "scale_id", "subject"),
)

month_verdict = _table(
    "month_verdict",
    "Verdict on each month of a scale: results of its set gates, and its publication step if it has run.",
    NO_JOB,
    _month(),
    _scale(),
    _opt("fit_id", Text, "linked fit that the publication step judged"),
    _opt("snapshot_hash", Text, "file of the month's answers when gates were judged last"),
    _opt(
        "gates",
        JSONB,
        "gate → asset, passed, why, details, and the fit and rules with which it was judged; null: earlier releases "
        "kept no results",
    ),
    _opt("state", Text, "done, pending (an earlier month is not settled) or held (a set gate failed); null: no step"),
    _req("n_published", Integer, "number of items first published by this step", sa.text("0"), ge=0),
    _req("n_proposed", Integer, "number of items proposed", sa.text("0"), ge=0),
    _req("n_held", Integer, "number of items held back by an item gate", sa.text("0"), ge=0),
    _req("held", JSONB, "items held back, each with the reasons", sa.text("'{}'::jsonb")),
    _req("why", Text, "sentence that explains the state", sa.text("''::text")),
    _opt("settled_at", UTC, "time at which the month was first done; after it, the month only proposes"),
    _opt("run_id", Text, "Dagster run of the step"),
    Column("stepped_at", UTC, server_default=NOW, comment="time of the step"),
)

calibration_scale = _table(
    "calibration_scale",
    "Scales with their origins and rules.",
    NO_JOB,
    _scale(),
    _req("origin", JSONB, "origin: the bank, or the window that was declared the origin"),
    _req("mu", Double, "mean of the population with which abilities are compared in reports", sa.text("0"), unit="θ"),
    _req("sigma", Double, "SD of this population", sa.text("1"), unit="θ", ge=0),
    _req("model", Text, "model, e.g. 2pl, until scale_decision changes it", sa.text("'2pl'")),
    _req("engine", Text, "engine whose fits are published", sa.text("'em'")),
    _opt("pass_theta", Double, "pass mark", unit="θ"),
    _req(
        "rules",
        JSONB,
        "rules that differ from their defaults; each release reads the rules that it has",
        sa.text("'{}'::jsonb"),
    ),
    _req("anchor_version", Integer, "newest version of the anchor set", sa.text("1"), ge=1),
    _req("initialised_at", UTC, "time at which the scale was initialised", NOW),
)

scale_decision = _table(
    "scale_decision",
    "Decisions on a scale's model, priors, movement, guessing, misfit, rules and pass mark, on keys of its items, and "
    "on score tables of its forms. Append-only.",
    NO_JOB,
    Column(
        "decision_id", BigInteger, Identity(always=True), primary_key=True, comment="number of the decision, in order"
    ),
    _req("scale_id", Text, "scale"),
    _req(
        "subject",
        Text,
        "model, prior_a, prior_b, prior_c, occasions, ability_variance, ability_growth, occasion_variance, guessing, "
        "misfit, the name of a rule, standard, or key: and an item, scores: and a form, or equating: and a form",
    ),
    _req(
        "value",
        Text,
        "the model; a prior, such as lognormal(0, 0.5), or none; for a rule of movement, a number or "
        "auto; for guessing, accepted; for misfit, accepted or reference; for a rule, its value as JSON; for a key, "
        "the former key, the new one, and the decision that is undone, as JSON; for score tables, equating and pass "
        "marks, a JSON object",
    ),
    _req(
        "effective_from",
        UTC,
        "start of the decision, which applies to months that begin then or later, and to nights, until a "
        "later decision",
    ),
    _req("decided_by", Text, "person who decided"),
    _req("reason", Text, "reason"),
    _req("decided_at", UTC, "time of the decision", NOW),
    Index("scale_decision_scale", "scale_id", "subject", "effective_from"),
)

movement_proposal = _table(
    "movement_proposal",
    "Estimates of how the abilities of a scale move, or the reasons why there are none. Append-only.",
    NO_JOB,
    Column(
        "proposal_id", BigInteger, Identity(always=True), primary_key=True, comment="number of the proposal, in order"
    ),
    _req("scale_id", Text, "scale"),
    _req("month", Text, "last month of the 52 weeks whose answers were used"),
    _req("why_not", Text, "reason why nothing is proposed; empty: something is proposed"),
    _opt("variance", Double, "variance of the random walk per week; null: not estimated", unit="θ²", ge=0),
    _opt("growth", Double, "growth per week; null: not estimated", unit="θ"),
    _opt(
        "occasion_variance",
        Double,
        "variance of θ between days that does not last; null: not estimated",
        unit="θ²",
        ge=0,
    ),
    _req("details", JSONB, "data used, standard errors, tests, log-likelihoods and the effect on learners"),
    _req("proposed_at", UTC, "time of the proposal", NOW),
    Index("movement_proposal_scale", "scale_id"),
)

anchor_set = _table(
    "anchor_set",
    "Frozen anchors of a scale, with their parameters and errors.",
    NO_JOB,
    _scale(),
    _key("version", Integer, "version of the set"),
    _item(),
    *_parameters(),
    _req(
        "errors_assumed",
        Boolean,
        "whether the errors are those of a calibration with n = 500, because the bank has none",
    ),
    _opt("topic_id", Text, "topic of the item when the set was frozen"),
    _req("anchor_hash", Text, "hash of the anchor set"),
    _opt(
        "cov",
        JSONB,
        "covariances of the anchor's a and b with a and b of each anchor of the set, {item: [aa, ab, ba, "
        "bb]}; null: independent",
    ),
    _opt(
        "effective_from",
        UTC,
        "start of the version: months that begin then or later, and nights, are linked to it; null: all months",
    ),
    _req("frozen_at", UTC, "time at which the set was frozen", NOW),
)

item_drift = _table(
    "item_drift",
    "Changes of item parameters, compared with the published values.",
    RecomputedBy(("item_drift",)),
    _month(),
    _scale(),
    _item(),
    _key("engine", Text, "engine"),
    _opt("delta_a", Double, "change of a", unit="1/θ"),
    _opt("delta_b", Double, "change of b", unit="θ"),
    _opt("delta_c", Double, "change of c"),
    _opt("p_value", Double, "p-value of the joint Wald test, or of the test of proportion correct", ge=0, le=1),
    _opt("q_value", Double, "q-value (Benjamini-Hochberg) over the items with the same test", ge=0, le=1),
    _opt(
        "wabc",
        Double,
        "weighted area between the curves; for proportion correct, the difference, which is a lower bound of the area",
        ge=0,
        le=1,
    ),
    _req("severity", Text, "none, medium or high"),
    _req(
        "details",
        JSONB,
        "published {a, b, c}, delta_a_se, delta_b_se, delta_b_95, wald, tau, most_tau, limits {a, b, c}, "
        "chance_a_large, chance_b_large, log_bayes_factor, trend {b_a_month, se, q, months}, change "
        "{kind, size, gains, time_z, onset, distractor_above_the_key}; for an item that is compared by "
        "its curves, curves {right, right_se, with_ability, with_ability_se, df}; for a scored item, categories "
        "[{score, shift, se, p, q, wabc, named}] (of P(X ≥ score); shift in θ, above 0: harder); for an item that was "
        "published with another model, across_models and no changes of parameters; for an item without an"
        " estimate, published, change and proportion_correct {n, observed, expected, difference, se, z, "
        "why}",
        sa.text("'{}'::jsonb"),
    ),
    _req("computed_at", UTC, "time of the computation", NOW),
)

dif_analysis = _table(
    "dif_analysis",
    "Test of each item for DIF: whether its parameters differ between groups of equal ability.",
    RecomputedBy(("dif_analysis",)),
    _month(),
    _scale(),
    _item("item; empty: the attribute as a whole, one row for each attribute that the scale tests"),
    _key("attribute", Text, "learner attribute"),
    _key("focal_group", Text, "group that is compared with the reference group; empty: the attribute as a whole"),
    _req(
        "reference_group", Text, "reference group, the largest group that can be compared; empty: none can be compared"
    ),
    _opt("p_value", Double, "p-value of the multi-group Wald test; null: not tested", ge=0, le=1),
    _opt("q_value", Double, "q-value (Benjamini-Hochberg) over the items of all attributes", ge=0, le=1),
    _opt(
        "ets_class",
        Text,
        "A, B or C by Mantel-Haenszel, for a scored item by its standardised mean difference; null: not tested",
    ),
    _req(
        "details",
        JSONB,
        "for an item: large (Wald severity high; if not tested, class C), why_not (of the Wald test; empty: "
        "tested), low_power, n {reference, focal} (answers), wald {statistic, df, severity (none, small, medium, "
        "high), wabc, shift, shift_se (difference of expected scores; below 0: harder for the focal group), delta_a, "
        "delta_a_se, delta_b, delta_b_se, delta_b_95 [low, high] (focal minus reference, in the reference group's SD; "
        "b's are null if |b| > 6 or a < 0.2 in a group), anchor} or null, categories [{score, shift, se, p, q, wabc, "
        "named}] (of P(X ≥ score) of a scored item; shift in θ, above 0: harder for the focal group), within_forms "
        "{sittings {reference, focal}, mantel_haenszel {delta, se, odds_ratio, chi2, p} or null "
        "(null for a scored item, which has mantel {smd, se, chi2, p}), logistic {p, "
        "p_uniform, p_nonuniform, delta_r2, delta_r2_uniform, size} or null} or null. For an attribute as a whole: "
        "why_not, groups [{name, n_learners, n_responses, why_not, low_power, mean, sd (of θ, on the reference "
        "group's scale, or null)}], smaller_groups {groups, learners} (without names), n_unknown, n_unreadable "
        "(part of n_unknown), anchors [item], warnings [sentence], sittings {complete, incomplete} or null, items "
        "{tested, low_power, not_tested} (pairs of an item and a focal group)",
        sa.text("'{}'::jsonb"),
    ),
    _req("computed_at", UTC, "time of the computation", NOW),
)

group_ability = _table(
    "group_ability",
    "Ability of each group of a month's learners by latent regression: mean, SD, percentiles and changes with errors.",
    RecomputedBy(("group_abilities",)),
    _month(),
    _scale(),
    _key("attribute", Text, "learner attribute"),
    _key("group_name", Text, "group; empty: the attribute as a whole"),
    _req("n", Integer, "number of learners with an answer that counts in the month", None, ge=0),
    _req("reference_group", Text, "reference group, the largest group; empty: no group is large enough"),
    _opt("mean", Double, "mean ability", unit="θ"),
    _opt("mean_se", Double, "standard error of the mean", unit="θ", ge=0),
    _opt("sd", Double, "standard deviation of ability", unit="θ", ge=0),
    _opt("sd_se", Double, "standard error of the standard deviation", unit="θ", ge=0),
    _opt("difference", Double, "mean minus the mean of the reference group; null: it is the reference", unit="θ"),
    _opt("difference_se", Double, "standard error of the difference", unit="θ", ge=0),
    _opt("change", Double, "mean minus the mean of the month before, both by the set in force now", unit="θ"),
    _opt("change_se", Double, "standard error of the change", unit="θ", ge=0),
    _opt("change_q", Double, "q-value (Benjamini-Hochberg) of the change over the scale's groups", ge=0, le=1),
    _req(
        "details",
        JSONB,
        "for a group: why_not (why it has no estimates, or empty), n_responses, item_se (part of mean_se that "
        "comes from the errors of the items; null: not known, and no error includes it), percentiles "
        "[{percentile, theta, se}], passing {mark, share, se} or null (without a pass mark in θ), no_change (why "
        "change is null, or empty). For an attribute as a whole: why_not (why no group is described, or empty), "
        "smaller_groups {groups, learners}, n_unknown, n_unreadable (part of n_unknown), sample (in words; empty:"
        " all learners)",
        sa.text("'{}'::jsonb"),
    ),
    _req("computed_at", UTC, "time of the computation", NOW),
)

test_information = _table(
    "test_information",
    "Information over θ of an item or, if item_id is empty, of the test.",
    RecomputedBy(("test_information",)),
    _month(),
    _scale(),
    _item("item; empty: the whole test"),
    _req(
        "curve",
        JSONB,
        "lists of equal length: theta; published and now, the information with the parameters in force at"
        " the month's start and with the month's parameters (null: the item has none); for the test, both"
        " for the compared items, then in_force (all items in force, with the month's parameters if there"
        " are any), without_flagged, and se_published, se_now, se_in_force, se_without_flagged (null: no "
        "information)",
    ),
    _req("flagged", Boolean, "whether the item lost more than a fifth of its information", sa.text("false")),
    _req(
        "details",
        JSONB,
        "for an item: status (compared, not estimated, new), why, published, now, ratio, upper, p, q "
        "(averages over the population, the 95 % bound of the ratio), share_of_test, share_of_max, "
        "largest_drop {theta, drop, ratio}, severity, retire; for the test: worst {theta, ratio, low, "
        "high}, certain, trusted, caution, average {published, now, ratio}, retiring {items, efficiency, "
        "lowest, lowest_at, se_limit, se_above_before, se_above_after}, items {in_force, compared, new, "
        "not_estimated}, flagged_items, drifted_items, population {mean, sd}, middle, learners, fit_id, "
        "why",
        sa.text("'{}'::jsonb"),
    ),
    _req("computed_at", UTC, "time of the computation", NOW),
)

drift_alerts = _table(
    "drift_alerts",
    "Alerts on items that drift, open and closed.",
    NO_JOB,
    Column(
        "alert_id",
        BigInteger,
        Identity(always=True),
        primary_key=True,
        comment="number of the alert, in order of opening",
    ),
    _req("scale_id", Text, "scale"),
    _req("item_id", Text, "item"),
    _req("kind", Text, "kind of the change; drift: not known"),
    _req("severity", Text, "medium or high"),
    _req("opened_month", Text, "month in which it was opened"),
    _opt("closed_month", Text, "month in which it was closed"),
    _req("details", JSONB, "evidence", sa.text("'{}'::jsonb")),
    _req("opened_at", UTC, "time at which it was opened", NOW),
    _opt("closed_at", UTC, "time at which it was closed"),
    Index("drift_alerts_item", "scale_id", "item_id"),
)

report_file = _table(
    "report_file",
    "Report files that have been written.",
    NO_JOB,
    Column(
        "artifact_id",
        BigInteger,
        Identity(always=True),
        primary_key=True,
        comment="number of the file, in order of writing",
    ),
    _opt("user_id", Text, "learner; null: a report on the bank"),
    _opt("week_start", Date, "week of a learner report"),
    _opt("window", Text, "window of a bank report"),
    _req("format", Text, "html or pdf"),
    _req("url", Text, "permanent s3:// or file URL, signed when it is shown"),
    _req("sha256", Text, "sha256 of the file"),
    _opt("inputs_hash", Text, "hash of the file's inputs; while it is unchanged, the file is not made again"),
    _req("generated_at", UTC, "time at which the file was written", NOW),
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
    "Results of the invariants: one row for each run, and one row for each violation, from the run that opened it.",
    NO_JOB,
    _key("run", Text, "run that evaluated the invariant"),
    _key("invariant", Text, "invariant"),
    _key("partition", Text, "month, week or day; empty: no partition"),
    _key("subject", Text, "item, learner, month, …; empty: the result of the run"),
    _req("passed", Boolean, "whether the invariant held, as far as it could be tested"),
    _opt("not_tested", Text, "reason why all or part of it could not be tested"),
    _opt("observed", Text, "observed value"),
    _opt("expected", Text, "expected value"),
    _opt("fix", Text, "remedy"),
    _req("evaluated_at", UTC, "time of the evaluation", NOW),
    _opt("resolved_at", UTC, "time at which the violation was gone"),
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
    "Alerts, each opened once and resolved once. An alert of severity info is resolved when it is opened.",
    NO_JOB,
    Column(
        "alert_id",
        BigInteger,
        Identity(always=True),
        primary_key=True,
        comment="number of the alert, in order of opening",
    ),
    _req("key", Text, "key of the problem; at most one alert per key is open"),
    _req("severity", Text, "error, warning or info"),
    _req("what", Text, "the problem, in words"),
    _req("partition", Text, "month, week or day; empty: no partition"),
    _req("kind", Text, "kind of the subjects: items, learners, months, …"),
    _req("subjects", JSONB, "list of all subjects"),
    _req("fix", Text, "remedy"),
    _req("link", Text, "path below the UI's address"),
    _req("opened_at", UTC, "time at which it was opened", NOW),
    _opt("queued_at", UTC, "time at which it was queued for the channels that were configured then"),
    _opt("resolved_at", UTC, "time at which it was resolved"),
    Index("alert_open", "key", unique=True, postgresql_where=sa.text("resolved_at IS NULL")),
)

alert_delivery = _table(
    "alert_delivery",
    "Delivery of each message to each channel.",
    NO_JOB,
    _key("alert_id", BigInteger, "alert"),
    _key("event", Text, "opened or resolved"),
    _key("channel", Text, "slack, discord, email, pagerduty or webhook"),
    _req("attempts", Integer, "number of attempts to send the message", sa.text("0"), ge=0),
    _req("next_attempt_at", UTC, "earliest time of the next attempt", NOW),
    _opt("last_error", Text, "reason why the last attempt failed"),
    _opt("delivered_at", UTC, "time of delivery"),
    Index("alert_delivery_due", "channel", "next_attempt_at", postgresql_where=sa.text("delivered_at IS NULL")),
)

object_folder = _table(
    "object_folder",
    "The folder of snapshots and reports. No row: not recorded yet, or the files are in a bucket.",
    NO_JOB,
    _key("folder_id", Text, "content of the folder's file .folder-id"),
    _req("path", Text, "path of the folder when it was recorded"),
    _req("host", Text, "host that recorded it"),
    _req("recorded_at", UTC, "time at which it was recorded", NOW),
)

backup = _table(
    "backup",
    "Complete backups. The row of a backup that is removed later is kept.",
    NO_JOB,
    _key("address", Text, "folder or s3:// address"),
    _req("made_at", UTC, "time of the database state in the backup"),
    _req("size", BigInteger, "size of the files", None, unit="bytes", ge=0),
    _req("seconds", Double, "duration of the backup", None, unit="s", ge=0),
)

server_setting = _table(
    "server_setting",
    "Settings of one server that others read, because they do not have the setting themselves.",
    NO_JOB,
    _key("name", Text, "ENABLE_IRT_ONLINE_UPDATE of the θ API, or of the session hook that calls it"),
    _req("value", Text, "true or false"),
    _req("recorded_at", UTC, "time at which the θ API was ready, or at which the hook first called it", NOW),
)

intake = _table(
    "intake",
    "Counts of the rows that arrived, for each import and for each minute of posts.",
    NO_JOB,
    _key("source", Text, "file, or sender of posts: service (the static token) or the sub of a JWT"),
    _key("kind", Text, "file, inbox, pull or http; question or learner: a file of items or of learners"),
    _key("arrived_at", UTC, "time of arrival; for posts, the minute"),
    _key("writer", Integer, "database process that wrote the row, so that no process waits for another"),
    _req("read", BigInteger, "number of rows that arrived", None),
    _req("accepted", BigInteger, "number of new rows", None),
    _req("corrected", BigInteger, "number of rows that replaced an answer because their revision is higher", None),
    _req("duplicates", BigInteger, "number of rows that were already known", None),
    _req("clock_ahead", BigInteger, "number of accepted rows whose clock was up to five minutes ahead", None),
    _req("rejected", JSONB, "number of refused rows by reason"),
    _opt("latest", UTC, "latest completed_at of the rows"),
    Index("intake_arrived", "arrived_at"),
)

intake_reject = _table(
    "intake_reject",
    "Refused rows: at most 10,000 per source and day, kept for 30 days, without rows of erased learners.",
    NO_JOB,
    Column(
        "reject_id",
        BigInteger,
        Identity(always=True),
        primary_key=True,
        comment="number of the row, in order of refusal",
    ),
    _req("source", Text, "file, or sender of posts"),
    _req("kind", Text, "as in intake"),
    _req("arrived_at", UTC, "time of arrival", NOW),
    _req("line", BigInteger, "line of the file, or position in the post, from 1"),
    _req("reason", Text, "reason why the row was refused"),
    _req("value", Text, "value for which it was refused"),
    _req("row", Text, "the row as it arrived"),
    Index("intake_reject_source", "source", "arrived_at"),
)

inbox_file = _table(
    "inbox_file",
    "Files of the inbox, with the outcome of each.",
    NO_JOB,
    _key("path", Text, "path of the file, or address of the object"),
    _req("size", BigInteger, "size in bytes"),
    _req("version", Text, "times of the file, or ETag of the object; changes if it is written again"),
    _req("seen_at", UTC, "time at which this size and version were first seen", NOW),
    _opt("taken_at", UTC, "time at which the whole file was imported; null: not imported yet"),
    _opt("sha256", Text, "hash of the imported content, uncompressed"),
    _opt("problem", Text, "reason why the file was set aside; null: not set aside"),
    _opt("options", Text, "version of the options with which the file was set aside"),
    _req(
        "begun",
        Integer,
        "imports of this version that began and whose process died; with 2, the file is set aside",
        sa.text("0"),
    ),
)

pull_source = _table(
    "pull_source",
    "State of the pulls of each source, stored in the transaction of the answers that they fetched.",
    NO_JOB,
    _key("name", Text, "name in the file of sources"),
    Column("number", Integer, Identity(always=True), nullable=False, comment="response_log.pulled_from"),
    _req("columns", JSONB, "names and types of the source's columns, and its time zone, at the first pull"),
    _req("position", JSONB, "cursor and key of the last row that was read"),
    _req(
        "stood",
        JSONB,
        "earlier cursors, each with its time, for as long as rows may be committed out of order",
        sa.text("'[]'::jsonb"),
    ),
    _opt("again", JSONB, "range that is being read again, and when this began; null: no such range"),
    _opt("first_pull", JSONB, "days that the first pull still has to read, in order; null: it is complete"),
    _req(
        "refused",
        JSONB,
        "hashes of refused rows that are read again, each with its time, so that they are counted once",
        sa.text("'{}'::jsonb"),
    ),
    _req("notices_regrading", Boolean, "whether the cursor is the time of the last write"),
    _opt("stopped", Text, "reason why the source is not pulled; null: it is pulled"),
    _req("pulled_at", UTC, "time of the last pull", NOW),
)

pull_day = _table(
    "pull_day",
    "Comparison of each day of a source with the log: missing and vanished answers.",
    NO_JOB,
    _key("name", Text, "source"),
    _key("day", Date, "day of the answers (UTC)"),
    _req("there", BigInteger, "number of rows in the source"),
    _req("here", BigInteger, "number of answers in the log from this source"),
    _req("missing", BigInteger, "number of missing answers that were or will be fetched"),
    _req("vanished", BigInteger, "number of vanished answers that were or will be withdrawn"),
    _req(
        "waits",
        Boolean,
        "whether nothing was changed: the change is more than 1 % of the day, and a person has to confirm it",
    ),
    _req("compared_at", UTC, "time of the comparison", NOW),
)

erasure = _table(
    "erasure",
    "Erasures of learners, each with who erased, when and why, without the learner's id. Append-only.",
    NO_JOB,
    Column(
        "erasure_id", BigInteger, Identity(always=True), primary_key=True, comment="number of the erasure, in order"
    ),
    _req("learner_hash", Text, "sha256 of the salt and the learner's id (hexadecimal)"),
    _req("salt", LargeBinary, "random salt, the same for all rows"),
    _req("erased_by", Text, "person who erased the learner"),
    _req("reason", Text, "reason"),
    _req("begun_at", UTC, "start of the erasure", NOW),
    _opt("finished_at", UTC, "time at which nothing was left; null: interrupted"),
    _req("removed", JSONB, "number of rows removed from each table, and number of files", sa.text("'{}'::jsonb")),
    _req(
        "rewritten",
        JSONB,
        "rewritten snapshots: [{old, new (sha256), old_uri, new_uri, old_data, new_data (hash of the "
        "answers; empty: unchanged)}]",
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
    "publication_step": """
        SELECT month, scale_id, fit_id, state, n_published, n_proposed, n_held, held, why, settled_at, run_id,
               stepped_at
        FROM month_verdict WHERE state IS NOT NULL
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
    "item_status": """
        SELECT coalesce(former_id, decision_id) AS status_id, subject AS item_id, value ->> 'state' AS state,
               effective_from, reason, decided_by, decided_at
        FROM decision
        WHERE kind IN ('withdraw an item', 'restore an item')
    """,
    "item_withdrawal": """
        SELECT item_id, since, until, reason, decided_by, decided_at FROM (
          SELECT *, effective_from AS since, lead(effective_from) OVER (
            PARTITION BY item_id ORDER BY effective_from, status_id) AS until
          FROM item_status) decided
        WHERE state = 'withdrawn' AND (until IS NULL OR until > since)
    """,
    "item_stage": """
        SELECT q.item_id, q.scale_id,
               CASE WHEN published.since IS NOT NULL AND fate.state IS DISTINCT FROM 'retired' THEN 'published'
                    WHEN fate.state IN ('rejected', 'retired') THEN fate.state
                    WHEN p.publishable THEN 'publishable'
                    WHEN p.measured_at IS NOT NULL THEN 'measured'
                    WHEN p.n > 0 THEN 'seeded'
                    ELSE 'draft' END AS stage,
               CASE WHEN published.since IS NOT NULL AND fate.state IS DISTINCT FROM 'retired' THEN published.since
                    WHEN fate.state IN ('rejected', 'retired') THEN fate.decided_at
                    WHEN p.publishable THEN p.publishable_at
                    ELSE coalesce(p.measured_at, p.first_at) END AS since,
               coalesce(p.n, 0) AS n,
               CASE WHEN published.since IS NOT NULL AND fate.state IS DISTINCT FROM 'retired' THEN published.reason
                    WHEN fate.state IN ('rejected', 'retired') THEN format('%s: %s', fate.decided_by, fate.reason)
                    WHEN p.publishable THEN 'a person may publish it'
                    WHEN p.stuck IS NOT NULL THEN p.stuck
                    WHEN p.n > 0 AND p.ready_at IS NULL THEN 'there is no forecast yet'
                    WHEN p.n > 0 THEN format('publishable around %s', p.ready_at)
                    ELSE 'it has no answers yet' END AS why
        FROM question q
        LEFT JOIN (
          SELECT DISTINCT ON (subject) subject, value ->> 'state' AS state, decided_by, reason, decided_at
          FROM decision WHERE kind IN ('reject items', 'retire items', 'bring items back')
          ORDER BY subject, decision_id DESC) fate ON fate.subject = q.item_id
        LEFT JOIN (
          SELECT DISTINCT ON (scale_id, item_id) scale_id, item_id, effective_from AS since, reason
          FROM item_parameter_publication WHERE effective_from <= now()
          ORDER BY scale_id, item_id, effective_from, publication_id) published USING (scale_id, item_id)
        LEFT JOIN item_pipeline p USING (scale_id, item_id)
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
