CREATE TABLE question (
    item_id TEXT NOT NULL,
    scale_id TEXT DEFAULT 'default' NOT NULL,
    topic_id TEXT,
    testlet_id TEXT,
    meta JSONB DEFAULT '{}'::jsonb NOT NULL,
    max_score SMALLINT GENERATED ALWAYS AS (CASE WHEN (((meta -> 'irt'::text) ->> 'max_score'::text) ~ '^([1-9]|1[0-9]|20)$'::text) THEN (((meta -> 'irt'::text) ->> 'max_score'::text))::smallint ELSE NULL::smallint END) STORED,
    PRIMARY KEY (item_id)
);
COMMENT ON TABLE question IS 'The item bank.';
COMMENT ON COLUMN question.item_id IS 'item id, text, never assumed numeric';
COMMENT ON COLUMN question.scale_id IS 'bank whose items measure one ability';
COMMENT ON COLUMN question.topic_id IS 'topic';
COMMENT ON COLUMN question.testlet_id IS 'testlet of items that share a stimulus';
COMMENT ON COLUMN question.meta IS 'tags (e.g. "anchor"), irt {a, b, c, a_se, b_se, c_se, cov_ab, n, D, model, max_score, block}, key';
COMMENT ON COLUMN question.max_score IS 'the highest score of an answer, from meta; null: 1';
CREATE TABLE learner (
    user_id TEXT NOT NULL,
    attributes JSONB DEFAULT '{}'::jsonb NOT NULL,
    is_test BOOLEAN DEFAULT false NOT NULL,
    target_scale_id TEXT,
    target_theta DOUBLE PRECISION,
    learner_key BIGINT DEFAULT (hashtextextended((gen_random_uuid())::text, (0)::bigint) & '9223372036854775807'::bigint),
    PRIMARY KEY (user_id),
    UNIQUE (learner_key)
);
COMMENT ON TABLE learner IS 'Everyone who answers.';
COMMENT ON COLUMN learner.user_id IS 'learner id, text, never assumed numeric';
COMMENT ON COLUMN learner.attributes IS 'lang, country, tier, …';
COMMENT ON COLUMN learner.is_test IS 'test account: its answers are never used';
COMMENT ON COLUMN learner.target_scale_id IS 'scale of the learner''s goal';
COMMENT ON COLUMN learner.target_theta IS 'ability the learner aims for';
COMMENT ON COLUMN learner.learner_key IS 'random number that verdicts and files carry in place of the id';
CREATE TABLE response_log (
    attempt_id TEXT NOT NULL,
    completed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    user_id TEXT NOT NULL,
    item_id TEXT NOT NULL,
    session_id TEXT,
    form_id TEXT,
    position INTEGER,
    started_at TIMESTAMP WITH TIME ZONE,
    correct BOOLEAN,
    response TEXT,
    response_time_ms BIGINT,
    hints_used INTEGER,
    mode TEXT DEFAULT 'live' NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    revision BIGINT DEFAULT 0 NOT NULL,
    sent_at TIMESTAMP WITH TIME ZONE,
    pulled_from INTEGER DEFAULT (NULLIF(current_setting('irt.pull'::text, true), ''::text))::integer,
    score SMALLINT,
    PRIMARY KEY (attempt_id, completed_at)
)
 PARTITION BY RANGE (completed_at);
CREATE INDEX response_log_user ON response_log (user_id, completed_at);
CREATE INDEX response_log_recorded ON response_log USING brin (recorded_at);
COMMENT ON TABLE response_log IS 'Every answer event. Partitioned by month of completed_at; read it only through the attempt view.';
COMMENT ON COLUMN response_log.attempt_id IS 'id of the answer event';
COMMENT ON COLUMN response_log.completed_at IS 'when it was answered, or when an unanswered item left the screen';
COMMENT ON COLUMN response_log.user_id IS 'learner';
COMMENT ON COLUMN response_log.item_id IS 'item';
COMMENT ON COLUMN response_log.session_id IS 'session';
COMMENT ON COLUMN response_log.form_id IS 'exam form; null: practice';
COMMENT ON COLUMN response_log.position IS 'place within the session, from 1';
COMMENT ON COLUMN response_log.started_at IS 'when the item was shown';
COMMENT ON COLUMN response_log.correct IS 'whether it has full credit; null: shown, not answered';
COMMENT ON COLUMN response_log.response IS 'the chosen option';
COMMENT ON COLUMN response_log.response_time_ms IS 'response time';
COMMENT ON COLUMN response_log.hints_used IS 'hints taken; null where unknown';
COMMENT ON COLUMN response_log.mode IS 'live or sandbox';
COMMENT ON COLUMN response_log.recorded_at IS 'when it reached this database, or was last corrected';
COMMENT ON COLUMN response_log.revision IS 'of two rows with one attempt_id the higher one holds';
COMMENT ON COLUMN response_log.sent_at IS 'completed_at as it was sent, where the sender''s clock was ahead; null: as it is';
COMMENT ON COLUMN response_log.pulled_from IS 'pull_source.number of the pull that brought it; null: none did';
COMMENT ON COLUMN response_log.score IS 'from 0 to the item''s maximum score; null: what correct says is all that is known';
CREATE TABLE attempt_correction (
    attempt_id TEXT NOT NULL,
    completed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    user_id TEXT NOT NULL,
    item_id TEXT NOT NULL,
    session_id TEXT,
    form_id TEXT,
    position INTEGER,
    started_at TIMESTAMP WITH TIME ZONE,
    correct BOOLEAN,
    response TEXT,
    response_time_ms BIGINT,
    hints_used INTEGER,
    mode TEXT NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    revision BIGINT NOT NULL,
    sent_at TIMESTAMP WITH TIME ZONE,
    pulled_from INTEGER,
    score SMALLINT,
    correction_id BIGINT GENERATED ALWAYS AS IDENTITY,
    how TEXT NOT NULL,
    corrected_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    corrected_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (correction_id)
);
CREATE INDEX attempt_correction_attempt ON attempt_correction (attempt_id);
CREATE INDEX attempt_correction_at ON attempt_correction (corrected_at);
COMMENT ON TABLE attempt_correction IS 'What an answer was before it was corrected or withdrawn: its former row, and who changed it, when and why.';
COMMENT ON COLUMN attempt_correction.attempt_id IS 'id of the answer event';
COMMENT ON COLUMN attempt_correction.completed_at IS 'when it was answered, or when an unanswered item left the screen';
COMMENT ON COLUMN attempt_correction.user_id IS 'learner';
COMMENT ON COLUMN attempt_correction.item_id IS 'item';
COMMENT ON COLUMN attempt_correction.session_id IS 'session';
COMMENT ON COLUMN attempt_correction.form_id IS 'exam form; null: practice';
COMMENT ON COLUMN attempt_correction.position IS 'place within the session, from 1';
COMMENT ON COLUMN attempt_correction.started_at IS 'when the item was shown';
COMMENT ON COLUMN attempt_correction.correct IS 'whether it has full credit; null: shown, not answered';
COMMENT ON COLUMN attempt_correction.response IS 'the chosen option';
COMMENT ON COLUMN attempt_correction.response_time_ms IS 'response time';
COMMENT ON COLUMN attempt_correction.hints_used IS 'hints taken; null where unknown';
COMMENT ON COLUMN attempt_correction.mode IS 'live or sandbox';
COMMENT ON COLUMN attempt_correction.recorded_at IS 'when it reached this database, or was last corrected';
COMMENT ON COLUMN attempt_correction.revision IS 'of two rows with one attempt_id the higher one holds';
COMMENT ON COLUMN attempt_correction.sent_at IS 'completed_at as it was sent, where the sender''s clock was ahead; null: as it is';
COMMENT ON COLUMN attempt_correction.pulled_from IS 'pull_source.number of the pull that brought it; null: none did';
COMMENT ON COLUMN attempt_correction.score IS 'from 0 to the item''s maximum score; null: what correct says is all that is known';
COMMENT ON COLUMN attempt_correction.correction_id IS 'order of correction';
COMMENT ON COLUMN attempt_correction.how IS 'import, rescore, withdraw, or double: another row with the id stayed';
COMMENT ON COLUMN attempt_correction.corrected_by IS 'who; of an import or a double, the role of the database';
COMMENT ON COLUMN attempt_correction.reason IS 'why; of an import, the file';
COMMENT ON COLUMN attempt_correction.corrected_at IS 'when';
CREATE TABLE item_time (
    month TEXT NOT NULL,
    item_id TEXT NOT NULL,
    median_ms DOUBLE PRECISION NOT NULL,
    n BIGINT NOT NULL,
    taken_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (month, item_id)
);
COMMENT ON TABLE item_time IS 'Median response time of an item over the live answers of a month.';
COMMENT ON COLUMN item_time.month IS 'calendar month of the window, e.g. 2026-09 (UTC)';
COMMENT ON COLUMN item_time.item_id IS 'item';
COMMENT ON COLUMN item_time.median_ms IS 'median response time of its live answers';
COMMENT ON COLUMN item_time.n IS 'live answers with a response time';
COMMENT ON COLUMN item_time.taken_at IS 'when it was computed from the log';
CREATE TABLE attempt_verdict (
    attempt_id TEXT NOT NULL,
    completed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    learner_key BIGINT NOT NULL,
    item_id TEXT NOT NULL,
    scale_id TEXT NOT NULL,
    reason TEXT,
    score SMALLINT,
    max_score SMALLINT,
    rules_hash BIGINT NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    judged_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (attempt_id, completed_at)
)
 PARTITION BY RANGE (completed_at);
CREATE INDEX attempt_verdict_time ON attempt_verdict USING brin (completed_at) WITH (autosummarize = on);
CREATE INDEX attempt_verdict_learner ON attempt_verdict (learner_key, completed_at);
COMMENT ON TABLE attempt_verdict IS 'Each attempt''s verdict: the score that counts, or the reason why it does not. Partitioned as response_log.';
COMMENT ON COLUMN attempt_verdict.attempt_id IS 'id of the answer event';
COMMENT ON COLUMN attempt_verdict.completed_at IS 'when it was answered, or when an unanswered item left the screen';
COMMENT ON COLUMN attempt_verdict.learner_key IS 'learner.learner_key';
COMMENT ON COLUMN attempt_verdict.item_id IS 'item';
COMMENT ON COLUMN attempt_verdict.scale_id IS 'bank whose items measure one ability';
COMMENT ON COLUMN attempt_verdict.reason IS 'why it does not count; null: it counts';
COMMENT ON COLUMN attempt_verdict.score IS 'the score that counts, from 0; null: none does';
COMMENT ON COLUMN attempt_verdict.max_score IS 'highest score of the item; null: 1';
COMMENT ON COLUMN attempt_verdict.rules_hash IS 'hash of the eligibility rules that judged it';
COMMENT ON COLUMN attempt_verdict.recorded_at IS 'recorded_at of the answer as it was judged';
COMMENT ON COLUMN attempt_verdict.judged_at IS 'when';
CREATE TABLE judged_day (
    day DATE NOT NULL,
    n BIGINT NOT NULL,
    recorded_sum NUMERIC NOT NULL,
    revision_sum NUMERIC NOT NULL,
    test_accounts TEXT NOT NULL,
    items TEXT NOT NULL,
    rules TEXT NOT NULL,
    judged_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (day)
);
COMMENT ON TABLE judged_day IS 'What the verdicts of a day were made from; if the log differs, it is judged again.';
COMMENT ON COLUMN judged_day.day IS 'day of the answers (UTC)';
COMMENT ON COLUMN judged_day.n IS 'attempts';
COMMENT ON COLUMN judged_day.recorded_sum IS 'sum of recorded_at since 1970 (µs)';
COMMENT ON COLUMN judged_day.revision_sum IS 'sum of revision';
COMMENT ON COLUMN judged_day.test_accounts IS 'hash of its test accounts';
COMMENT ON COLUMN judged_day.items IS 'hash of the scales and maximum scores of its items';
COMMENT ON COLUMN judged_day.rules IS 'hash of the rules of its month, and of the times that judge it';
COMMENT ON COLUMN judged_day.judged_at IS 'when a verdict of it last changed';
CREATE TABLE month_state (
    month TEXT NOT NULL,
    scale_id TEXT NOT NULL,
    since TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    state TEXT NOT NULL,
    decided_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    snapshot_hash TEXT NOT NULL,
    rules JSONB NOT NULL,
    items JSONB NOT NULL,
    test_accounts JSONB NOT NULL,
    came JSONB DEFAULT '{}'::jsonb NOT NULL,
    counted_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (month, scale_id, since)
);
COMMENT ON TABLE month_state IS 'Months that closed or were reopened. The newest row holds; without one, a month is open.';
COMMENT ON COLUMN month_state.month IS 'calendar month of the window, e.g. 2026-09 (UTC)';
COMMENT ON COLUMN month_state.scale_id IS 'bank whose items measure one ability';
COMMENT ON COLUMN month_state.since IS 'since when';
COMMENT ON COLUMN month_state.state IS 'closed or reopened';
COMMENT ON COLUMN month_state.decided_by IS 'who reopened it; nightly: it closed by the rule late_days; upgrade';
COMMENT ON COLUMN month_state.reason IS 'why';
COMMENT ON COLUMN month_state.snapshot_hash IS 'sha256 of the file that the month closed with';
COMMENT ON COLUMN month_state.rules IS 'the rules that its answers were judged by; absent ones are the defaults';
COMMENT ON COLUMN month_state.items IS 'highest score of each item of the scale when it closed';
COMMENT ON COLUMN month_state.test_accounts IS 'keys of the test accounts when it closed';
COMMENT ON COLUMN month_state.came IS 'its answers when it closed, those that changed since by kind, and the share of items with more than 5 %';
COMMENT ON COLUMN month_state.counted_at IS 'when these were counted';
CREATE TABLE features_topic_daily (
    user_id TEXT NOT NULL,
    topic_id TEXT NOT NULL,
    date DATE NOT NULL,
    attempts INTEGER NOT NULL,
    correct INTEGER NOT NULL,
    rt_median DOUBLE PRECISION,
    hints INTEGER,
    computed_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (user_id, topic_id, date)
);
CREATE INDEX features_topic_daily_date ON features_topic_daily (date);
COMMENT ON TABLE features_topic_daily IS 'What a learner did in a topic on a day.';
COMMENT ON COLUMN features_topic_daily.user_id IS 'learner';
COMMENT ON COLUMN features_topic_daily.topic_id IS 'topic, ''unknown'' where an item has none';
COMMENT ON COLUMN features_topic_daily.date IS 'day (UTC)';
COMMENT ON COLUMN features_topic_daily.attempts IS 'live answers';
COMMENT ON COLUMN features_topic_daily.correct IS 'correct answers';
COMMENT ON COLUMN features_topic_daily.rt_median IS 'median response time of correct answers with a time';
COMMENT ON COLUMN features_topic_daily.hints IS 'hints taken; null where unknown';
COMMENT ON COLUMN features_topic_daily.computed_at IS 'when this row was computed';
CREATE TABLE weekly_kpi (
    user_id TEXT NOT NULL,
    week_start DATE NOT NULL,
    kpis JSONB NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    inactivity_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (user_id, week_start)
);
CREATE INDEX weekly_kpi_week ON weekly_kpi (week_start);
COMMENT ON TABLE weekly_kpi IS 'A learner''s week in six numbers.';
COMMENT ON COLUMN weekly_kpi.user_id IS 'learner';
COMMENT ON COLUMN weekly_kpi.week_start IS 'Monday of the week (UTC)';
COMMENT ON COLUMN weekly_kpi.kpis IS 'I_t, E_t, R_t, A_t, P, S; null where undefined, with the reason under why';
COMMENT ON COLUMN weekly_kpi.updated_at IS 'when the week was computed; its Monday where only P and S of a quiet learner were';
COMMENT ON COLUMN weekly_kpi.inactivity_at IS 'when P and S were last set because the learner had gone quiet; null: not since updated_at';
CREATE TABLE partition_source (
    asset TEXT NOT NULL,
    partition TEXT NOT NULL,
    data_hash TEXT NOT NULL,
    computed_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (asset, partition)
);
COMMENT ON TABLE partition_source IS 'What days of features, weeks of KPIs and item times were made from: if it is another now, they are stale.';
COMMENT ON COLUMN partition_source.asset IS 'features_topic_daily, weekly_kpi or item_response_time';
COMMENT ON COLUMN partition_source.partition IS 'a day; the Monday of a week; as_of/since of item times';
COMMENT ON COLUMN partition_source.data_hash IS 'state of the verdicts, of item times hash of the answers; earlier: made by a release that stored neither';
COMMENT ON COLUMN partition_source.computed_at IS 'when';
CREATE TABLE item_response_time (
    as_of TIMESTAMP WITH TIME ZONE NOT NULL,
    since TIMESTAMP WITH TIME ZONE NOT NULL,
    item_id TEXT NOT NULL,
    median_ms DOUBLE PRECISION NOT NULL,
    n BIGINT NOT NULL,
    PRIMARY KEY (as_of, since, item_id)
);
COMMENT ON TABLE item_response_time IS 'An item''s response times over the live answers of a window and the look-back before it.';
COMMENT ON COLUMN item_response_time.as_of IS 'answers before this time were counted';
COMMENT ON COLUMN item_response_time.since IS 'and from this time on: the window''s start less the look-back';
COMMENT ON COLUMN item_response_time.item_id IS 'item';
COMMENT ON COLUMN item_response_time.median_ms IS 'median response time';
COMMENT ON COLUMN item_response_time.n IS 'answers with a time';
CREATE TABLE scored_snapshot (
    month TEXT NOT NULL,
    snapshot_hash TEXT NOT NULL,
    uri TEXT NOT NULL,
    data_hash TEXT NOT NULL,
    n_attempts BIGINT NOT NULL,
    counts JSONB NOT NULL,
    rules JSONB NOT NULL,
    run_id TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    superseded_at TIMESTAMP WITH TIME ZONE,
    verdict_state TEXT,
    PRIMARY KEY (month, snapshot_hash)
);
COMMENT ON TABLE scored_snapshot IS 'The Parquet snapshots of a month''s attempts with what eligibility made of each.';
COMMENT ON COLUMN scored_snapshot.month IS 'calendar month of the window, e.g. 2026-09 (UTC)';
COMMENT ON COLUMN scored_snapshot.snapshot_hash IS 'sha256 of the file, or of the former one that named learners by id (see snapshot_rewrite)';
COMMENT ON COLUMN scored_snapshot.uri IS 'where the file is, below the object store''s root';
COMMENT ON COLUMN scored_snapshot.data_hash IS 'hash of the month''s answers as eligibility saw them';
COMMENT ON COLUMN scored_snapshot.n_attempts IS 'attempts in the file';
COMMENT ON COLUMN scored_snapshot.counts IS 'attempts by scale and reason (scored under ''scored'')';
COMMENT ON COLUMN scored_snapshot.rules IS 'eligibility settings by scale';
COMMENT ON COLUMN scored_snapshot.run_id IS 'Dagster run that wrote it';
COMMENT ON COLUMN scored_snapshot.created_at IS 'when it was written';
COMMENT ON COLUMN scored_snapshot.superseded_at IS 'when a later snapshot of the month replaced it';
COMMENT ON COLUMN scored_snapshot.verdict_state IS 'state of the verdicts it was read from; null: made by an earlier release, and not compared yet';
CREATE TABLE snapshot_rewrite (
    old_hash TEXT NOT NULL,
    new_hash TEXT NOT NULL,
    rewritten_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (old_hash)
);
COMMENT ON TABLE snapshot_rewrite IS 'Snapshots that were searched for ids of learners, and written again with their keys if they had any.';
COMMENT ON COLUMN snapshot_rewrite.old_hash IS 'hash under which the snapshot was taken and is cited';
COMMENT ON COLUMN snapshot_rewrite.new_hash IS 'sha256 of the file in its place; equal if it had no ids';
COMMENT ON COLUMN snapshot_rewrite.rewritten_at IS 'when';
CREATE TABLE fit_staging (
    fit_id TEXT NOT NULL,
    month TEXT NOT NULL,
    scale_id TEXT NOT NULL,
    engine TEXT NOT NULL,
    snapshot_hash TEXT NOT NULL,
    calibration BYTEA,
    error TEXT,
    error_kind TEXT,
    spec JSONB NOT NULL,
    code_version TEXT NOT NULL,
    run_id TEXT,
    fitted_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (fit_id)
);
CREATE INDEX fit_staging_month ON fit_staging (month, scale_id, engine, fitted_at);
COMMENT ON TABLE fit_staging IS 'Fits as they left the engine, before linking, and the reasons of those that could not be made.';
COMMENT ON COLUMN fit_staging.fit_id IS 'fit';
COMMENT ON COLUMN fit_staging.month IS 'calendar month of the window';
COMMENT ON COLUMN fit_staging.scale_id IS 'scale';
COMMENT ON COLUMN fit_staging.engine IS 'engine';
COMMENT ON COLUMN fit_staging.snapshot_hash IS 'snapshot it was fitted on';
COMMENT ON COLUMN fit_staging.calibration IS 'the Calibration, compressed; null where the fit failed';
COMMENT ON COLUMN fit_staging.error IS 'why there is no fit';
COMMENT ON COLUMN fit_staging.error_kind IS 'type of that error';
COMMENT ON COLUMN fit_staging.spec IS 'model, priors, quadrature, eligibility, excluded items by reason';
COMMENT ON COLUMN fit_staging.code_version IS 'version of this code';
COMMENT ON COLUMN fit_staging.run_id IS 'Dagster run that wrote it';
COMMENT ON COLUMN fit_staging.fitted_at IS 'when it was fitted';
CREATE TABLE mirt_fit_meta (
    fit_id TEXT NOT NULL,
    scale_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    window_start TIMESTAMP WITH TIME ZONE NOT NULL,
    window_end TIMESTAMP WITH TIME ZONE NOT NULL,
    engine TEXT NOT NULL,
    engine_version TEXT NOT NULL,
    model TEXT NOT NULL,
    n_persons INTEGER NOT NULL,
    n_items INTEGER NOT NULL,
    n_responses BIGINT NOT NULL,
    loglik DOUBLE PRECISION NOT NULL,
    aic DOUBLE PRECISION NOT NULL,
    bic DOUBLE PRECISION NOT NULL,
    converged BOOLEAN NOT NULL,
    iterations INTEGER NOT NULL,
    max_rhat DOUBLE PRECISION,
    min_ess DOUBLE PRECISION,
    model_spec JSONB NOT NULL,
    calibration BYTEA,
    common_errors JSONB,
    data_hash TEXT NOT NULL,
    snapshot_hash TEXT NOT NULL,
    anchor_hash TEXT NOT NULL,
    code_version TEXT NOT NULL,
    run_id TEXT,
    fitted_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    superseded_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (fit_id)
);
CREATE INDEX mirt_fit_meta_window ON mirt_fit_meta (scale_id, kind, window_start);
COMMENT ON TABLE mirt_fit_meta IS 'One row per linked fit.';
COMMENT ON COLUMN mirt_fit_meta.fit_id IS 'fit';
COMMENT ON COLUMN mirt_fit_meta.scale_id IS 'scale';
COMMENT ON COLUMN mirt_fit_meta.kind IS 'monthly, nightly, origin, or pooled of a recalibration';
COMMENT ON COLUMN mirt_fit_meta.window_start IS 'start of the window';
COMMENT ON COLUMN mirt_fit_meta.window_end IS 'end of the window (exclusive)';
COMMENT ON COLUMN mirt_fit_meta.engine IS 'em, pymc, mirt or brms';
COMMENT ON COLUMN mirt_fit_meta.engine_version IS 'its version';
COMMENT ON COLUMN mirt_fit_meta.model IS 'rasch, 1pl, 2pl or 3pl; where items have several models, these joined by +';
COMMENT ON COLUMN mirt_fit_meta.n_persons IS 'learners';
COMMENT ON COLUMN mirt_fit_meta.n_items IS 'items with parameters';
COMMENT ON COLUMN mirt_fit_meta.n_responses IS 'responses';
COMMENT ON COLUMN mirt_fit_meta.loglik IS 'marginal log-likelihood';
COMMENT ON COLUMN mirt_fit_meta.aic IS 'Akaike information criterion';
COMMENT ON COLUMN mirt_fit_meta.bic IS 'Bayesian information criterion, over persons';
COMMENT ON COLUMN mirt_fit_meta.converged IS 'whether the engine reached its maximum';
COMMENT ON COLUMN mirt_fit_meta.iterations IS 'iterations';
COMMENT ON COLUMN mirt_fit_meta.max_rhat IS 'largest R-hat of a sampled fit';
COMMENT ON COLUMN mirt_fit_meta.min_ess IS 'smallest effective sample size of a sampled fit';
COMMENT ON COLUMN mirt_fit_meta.model_spec IS 'linking_constants, priors, quadrature, eligibility, excluded items';
COMMENT ON COLUMN mirt_fit_meta.calibration IS 'of an origin window: the Calibration, compressed';
COMMENT ON COLUMN mirt_fit_meta.common_errors IS '[4], covariance of (stretch, shift) that all items'' errors share; null: unknown';
COMMENT ON COLUMN mirt_fit_meta.data_hash IS 'hash of the window''s answers as eligibility saw them';
COMMENT ON COLUMN mirt_fit_meta.snapshot_hash IS 'snapshot it was fitted on; empty for a night, which keeps none';
COMMENT ON COLUMN mirt_fit_meta.anchor_hash IS 'hash of the anchor set it was linked to';
COMMENT ON COLUMN mirt_fit_meta.code_version IS 'version of this code';
COMMENT ON COLUMN mirt_fit_meta.run_id IS 'Dagster run that linked it';
COMMENT ON COLUMN mirt_fit_meta.fitted_at IS 'when it was fitted';
COMMENT ON COLUMN mirt_fit_meta.superseded_at IS 'when a later fit of the window replaced it';
CREATE TABLE month_impact (
    fit_id TEXT NOT NULL,
    why TEXT NOT NULL,
    learners INTEGER DEFAULT 0 NOT NULL,
    items INTEGER NOT NULL,
    shift DOUBLE PRECISION NOT NULL,
    shift_se DOUBLE PRECISION NOT NULL,
    sd DOUBLE PRECISION NOT NULL,
    pass_theta DOUBLE PRECISION,
    scored INTEGER DEFAULT 0 NOT NULL,
    newly_passed INTEGER DEFAULT 0 NOT NULL,
    newly_failed INTEGER DEFAULT 0 NOT NULL,
    flip_se DOUBLE PRECISION DEFAULT 0 NOT NULL,
    compared_with TEXT,
    PRIMARY KEY (fit_id)
);
COMMENT ON TABLE month_impact IS 'How far a month''s anchors as a group moved against the other published items. Release 1.0.0 measured it by θ on the same answers, once with the values in force and once with the month''s own, and counted who crossed the pass mark.';
COMMENT ON COLUMN month_impact.fit_id IS 'fit';
COMMENT ON COLUMN month_impact.why IS 'why nothing could be compared, else empty; the numbers are then 0';
COMMENT ON COLUMN month_impact.learners IS 'of release 1.0.0: learners behind the shift; else 0';
COMMENT ON COLUMN month_impact.items IS 'items behind the shift: in force, fitted again and not anchors';
COMMENT ON COLUMN month_impact.shift IS 'by how much their b moved against that of the anchors';
COMMENT ON COLUMN month_impact.shift_se IS 'its standard error';
COMMENT ON COLUMN month_impact.sd IS 'SD of the scale''s population';
COMMENT ON COLUMN month_impact.pass_theta IS 'of release 1.0.0: the scale''s pass mark; null where it has none';
COMMENT ON COLUMN month_impact.scored IS 'of release 1.0.0: learners whose θ is reported; else 0';
COMMENT ON COLUMN month_impact.newly_passed IS 'of them, who pass by the month''s values alone';
COMMENT ON COLUMN month_impact.newly_failed IS 'of them, who fail by the month''s values alone';
COMMENT ON COLUMN month_impact.flip_se IS 'standard error of the net share that crosses the pass mark';
COMMENT ON COLUMN month_impact.compared_with IS 'digest of the values in force that it was measured against; null where not known';
CREATE TABLE mirt_item_params (
    fit_id TEXT NOT NULL,
    item_id TEXT NOT NULL,
    params JSONB NOT NULL,
    n_responses INTEGER NOT NULL,
    p_value DOUBLE PRECISION,
    point_biserial DOUBLE PRECISION,
    infit DOUBLE PRECISION,
    outfit DOUBLE PRECISION,
    rmsd DOUBLE PRECISION,
    flags JSONB DEFAULT '[]'::jsonb NOT NULL,
    fitted_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (fit_id, item_id)
);
COMMENT ON TABLE mirt_item_params IS 'An item''s parameters in a linked fit, on the bank''s scale.';
COMMENT ON COLUMN mirt_item_params.fit_id IS 'fit';
COMMENT ON COLUMN mirt_item_params.item_id IS 'item';
COMMENT ON COLUMN mirt_item_params.params IS 'model; a, b, c, a_se, b_se, c_se, cov_ab on the bank''s scale, of a 3PL cov_logit_c (of logit c with a, b, itself); the unlinked ones under raw; of a night provisional: true where nothing is published for the item';
COMMENT ON COLUMN mirt_item_params.n_responses IS 'responses';
COMMENT ON COLUMN mirt_item_params.p_value IS 'proportion correct';
COMMENT ON COLUMN mirt_item_params.point_biserial IS 'item-rest correlation';
COMMENT ON COLUMN mirt_item_params.infit IS 'information-weighted mean square';
COMMENT ON COLUMN mirt_item_params.outfit IS 'unweighted mean square';
COMMENT ON COLUMN mirt_item_params.rmsd IS 'root mean squared difference of observed and model curve';
COMMENT ON COLUMN mirt_item_params.flags IS 'what the engine says about the item';
COMMENT ON COLUMN mirt_item_params.fitted_at IS 'when it was fitted';
CREATE TABLE mirt_ability (
    update_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    scale_id TEXT NOT NULL,
    theta DOUBLE PRECISION NOT NULL,
    se DOUBLE PRECISION NOT NULL,
    se_total DOUBLE PRECISION,
    method TEXT NOT NULL,
    n_items INTEGER NOT NULL,
    kind TEXT NOT NULL,
    window_end TIMESTAMP WITH TIME ZONE NOT NULL,
    as_of TIMESTAMP WITH TIME ZONE,
    published_as_of TIMESTAMP WITH TIME ZONE NOT NULL,
    set_hash TEXT NOT NULL,
    scale_version INTEGER NOT NULL,
    fitted_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (update_id, user_id, scale_id)
);
CREATE INDEX mirt_ability_user ON mirt_ability (user_id, fitted_at);
CREATE INDEX mirt_ability_window ON mirt_ability (kind, window_end, scale_id);
COMMENT ON TABLE mirt_ability IS 'A learner''s ability at a time.';
COMMENT ON COLUMN mirt_ability.update_id IS 'the run or update that computed it';
COMMENT ON COLUMN mirt_ability.user_id IS 'learner';
COMMENT ON COLUMN mirt_ability.scale_id IS 'bank whose items measure one ability';
COMMENT ON COLUMN mirt_ability.theta IS 'ability on the bank''s scale';
COMMENT ON COLUMN mirt_ability.se IS 'standard error';
COMMENT ON COLUMN mirt_ability.se_total IS 'with the errors of item parameters and linking; null: unknown';
COMMENT ON COLUMN mirt_ability.method IS 'eap, map or wle';
COMMENT ON COLUMN mirt_ability.n_items IS 'answers to published items that were used';
COMMENT ON COLUMN mirt_ability.kind IS 'monthly, nightly or online';
COMMENT ON COLUMN mirt_ability.window_end IS 'answers before this time were used';
COMMENT ON COLUMN mirt_ability.as_of IS 'the last of them, as of which θ is where ability moves; null: measured before 1.1';
COMMENT ON COLUMN mirt_ability.published_as_of IS 'the published set in force then was used';
COMMENT ON COLUMN mirt_ability.set_hash IS 'hash of that set';
COMMENT ON COLUMN mirt_ability.scale_version IS 'version of the anchor set';
COMMENT ON COLUMN mirt_ability.fitted_at IS 'when it was computed';
CREATE TABLE ability_state (
    user_id TEXT NOT NULL,
    scale_id TEXT NOT NULL,
    state BYTEA NOT NULL,
    until TIMESTAMP WITH TIME ZONE NOT NULL,
    basis TEXT NOT NULL,
    n_items INTEGER NOT NULL,
    answers TEXT NOT NULL,
    n_attempts BIGINT NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (user_id, scale_id)
);
CREATE INDEX ability_state_until ON ability_state (until);
COMMENT ON TABLE ability_state IS 'Where ability moves: what the θ API goes on from when a learner has new answers.';
COMMENT ON COLUMN ability_state.user_id IS 'learner';
COMMENT ON COLUMN ability_state.scale_id IS 'bank whose items measure one ability';
COMMENT ON COLUMN ability_state.state IS 'the posterior of the answers before a day, and what the errors of items do to it';
COMMENT ON COLUMN ability_state.until IS 'when that day began, on which the learner answered last';
COMMENT ON COLUMN ability_state.basis IS 'hash of what else it rests on: set, rules, item times, and the time from which answers count';
COMMENT ON COLUMN ability_state.n_items IS 'answers to published items that are in it';
COMMENT ON COLUMN ability_state.answers IS 'sum of the hashes of these answers';
COMMENT ON COLUMN ability_state.n_attempts IS 'rows of the learner''s log before that day, with the look-back';
COMMENT ON COLUMN ability_state.recorded_at IS 'the latest recorded_at among these';
CREATE TABLE item_parameter_publication (
    publication_id BIGINT GENERATED ALWAYS AS IDENTITY,
    scale_id TEXT NOT NULL,
    item_id TEXT NOT NULL,
    parameters JSONB NOT NULL,
    a DOUBLE PRECISION GENERATED ALWAYS AS ((parameters ->> 'a'::text)::double precision) STORED NOT NULL,
    b DOUBLE PRECISION GENERATED ALWAYS AS ((parameters ->> 'b'::text)::double precision) STORED NOT NULL,
    c DOUBLE PRECISION GENERATED ALWAYS AS ((parameters ->> 'c'::text)::double precision) STORED NOT NULL,
    a_se DOUBLE PRECISION GENERATED ALWAYS AS ((parameters ->> 'a_se'::text)::double precision) STORED,
    b_se DOUBLE PRECISION GENERATED ALWAYS AS ((parameters ->> 'b_se'::text)::double precision) STORED,
    c_se DOUBLE PRECISION GENERATED ALWAYS AS ((parameters ->> 'c_se'::text)::double precision) STORED,
    cov_ab DOUBLE PRECISION GENERATED ALWAYS AS ((parameters ->> 'cov_ab'::text)::double precision) STORED,
    effective_from TIMESTAMP WITH TIME ZONE NOT NULL,
    month TEXT,
    fit_id TEXT,
    rule TEXT NOT NULL,
    decided_by TEXT,
    reason TEXT NOT NULL,
    replaces BIGINT,
    data_hash TEXT,
    anchor_hash TEXT NOT NULL,
    code_version TEXT NOT NULL,
    run_id TEXT,
    published_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (publication_id)
);
CREATE INDEX item_parameter_publication_item ON item_parameter_publication (scale_id, item_id, effective_from);
COMMENT ON TABLE item_parameter_publication IS 'The ledger: what was published, from when on, from which fit, by which rule or person, and why. Append-only.';
COMMENT ON COLUMN item_parameter_publication.publication_id IS 'order of publication';
COMMENT ON COLUMN item_parameter_publication.scale_id IS 'scale';
COMMENT ON COLUMN item_parameter_publication.item_id IS 'item';
COMMENT ON COLUMN item_parameter_publication.parameters IS 'parameters and their errors by the names that the item''s model has for them; an absent one is not known';
COMMENT ON COLUMN item_parameter_publication.a IS 'discrimination, logistic metric (D = 1)';
COMMENT ON COLUMN item_parameter_publication.b IS 'difficulty on the bank''s scale';
COMMENT ON COLUMN item_parameter_publication.c IS 'lower asymptote';
COMMENT ON COLUMN item_parameter_publication.a_se IS 'standard error of a';
COMMENT ON COLUMN item_parameter_publication.b_se IS 'standard error of b';
COMMENT ON COLUMN item_parameter_publication.c_se IS 'standard error of c';
COMMENT ON COLUMN item_parameter_publication.cov_ab IS 'covariance of a and b';
COMMENT ON COLUMN item_parameter_publication.effective_from IS 'in force from this time on';
COMMENT ON COLUMN item_parameter_publication.month IS 'month whose fit it comes from, or FIRST:LAST of a recalibration; null for bank values';
COMMENT ON COLUMN item_parameter_publication.fit_id IS 'fit it comes from; null for bank values';
COMMENT ON COLUMN item_parameter_publication.rule IS 'origin, first, decision or undo (of a decision: the values before it)';
COMMENT ON COLUMN item_parameter_publication.decided_by IS 'who decided; null where a rule did';
COMMENT ON COLUMN item_parameter_publication.reason IS 'why';
COMMENT ON COLUMN item_parameter_publication.replaces IS 'publication that it replaces';
COMMENT ON COLUMN item_parameter_publication.data_hash IS 'hash of the answers it comes from';
COMMENT ON COLUMN item_parameter_publication.anchor_hash IS 'hash of the anchor set';
COMMENT ON COLUMN item_parameter_publication.code_version IS 'version of this code';
COMMENT ON COLUMN item_parameter_publication.run_id IS 'Dagster run that published it';
COMMENT ON COLUMN item_parameter_publication.published_at IS 'when it was published';
CREATE TABLE testlet_sd_publication (
    publication_id BIGINT GENERATED ALWAYS AS IDENTITY,
    scale_id TEXT NOT NULL,
    sd DOUBLE PRECISION NOT NULL,
    se DOUBLE PRECISION,
    n_testlets INTEGER NOT NULL,
    testlets JSONB NOT NULL,
    effective_from TIMESTAMP WITH TIME ZONE NOT NULL,
    month TEXT NOT NULL,
    fit_id TEXT NOT NULL,
    published_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (publication_id)
);
CREATE INDEX testlet_sd_publication_scale ON testlet_sd_publication (scale_id, effective_from);
COMMENT ON TABLE testlet_sd_publication IS 'How far answers in one testlet depend on each other, from when on. Append-only.';
COMMENT ON COLUMN testlet_sd_publication.publication_id IS 'order of publication';
COMMENT ON COLUMN testlet_sd_publication.scale_id IS 'scale';
COMMENT ON COLUMN testlet_sd_publication.sd IS 'SD of a learner''s effects in testlets';
COMMENT ON COLUMN testlet_sd_publication.se IS 'its standard error';
COMMENT ON COLUMN testlet_sd_publication.n_testlets IS 'testlets that it was estimated from';
COMMENT ON COLUMN testlet_sd_publication.testlets IS 'testlet of each item, as the month found them';
COMMENT ON COLUMN testlet_sd_publication.effective_from IS 'in force from this time on';
COMMENT ON COLUMN testlet_sd_publication.month IS 'month whose fit it comes from';
COMMENT ON COLUMN testlet_sd_publication.fit_id IS 'fit it comes from';
COMMENT ON COLUMN testlet_sd_publication.published_at IS 'when it was published';
CREATE TABLE item_parameter_proposal (
    month TEXT NOT NULL,
    scale_id TEXT NOT NULL,
    item_id TEXT NOT NULL,
    fit_id TEXT NOT NULL,
    parameters JSONB NOT NULL,
    a DOUBLE PRECISION GENERATED ALWAYS AS ((parameters ->> 'a'::text)::double precision) STORED NOT NULL,
    b DOUBLE PRECISION GENERATED ALWAYS AS ((parameters ->> 'b'::text)::double precision) STORED NOT NULL,
    c DOUBLE PRECISION GENERATED ALWAYS AS ((parameters ->> 'c'::text)::double precision) STORED NOT NULL,
    a_se DOUBLE PRECISION GENERATED ALWAYS AS ((parameters ->> 'a_se'::text)::double precision) STORED,
    b_se DOUBLE PRECISION GENERATED ALWAYS AS ((parameters ->> 'b_se'::text)::double precision) STORED,
    c_se DOUBLE PRECISION GENERATED ALWAYS AS ((parameters ->> 'c_se'::text)::double precision) STORED,
    cov_ab DOUBLE PRECISION GENERATED ALWAYS AS ((parameters ->> 'cov_ab'::text)::double precision) STORED,
    why TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (month, scale_id, item_id, fit_id)
);
COMMENT ON TABLE item_parameter_proposal IS 'What a month, or a recalibration, would publish but only a person may.';
COMMENT ON COLUMN item_parameter_proposal.month IS 'calendar month of the window, or FIRST:LAST of a recalibration';
COMMENT ON COLUMN item_parameter_proposal.scale_id IS 'bank whose items measure one ability';
COMMENT ON COLUMN item_parameter_proposal.item_id IS 'item';
COMMENT ON COLUMN item_parameter_proposal.fit_id IS 'fit it comes from';
COMMENT ON COLUMN item_parameter_proposal.parameters IS 'parameters and their errors by the names that the item''s model has for them; an absent one is not known';
COMMENT ON COLUMN item_parameter_proposal.a IS 'discrimination, logistic metric (D = 1)';
COMMENT ON COLUMN item_parameter_proposal.b IS 'difficulty on the bank''s scale';
COMMENT ON COLUMN item_parameter_proposal.c IS 'lower asymptote';
COMMENT ON COLUMN item_parameter_proposal.a_se IS 'standard error of a';
COMMENT ON COLUMN item_parameter_proposal.b_se IS 'standard error of b';
COMMENT ON COLUMN item_parameter_proposal.c_se IS 'standard error of c';
COMMENT ON COLUMN item_parameter_proposal.cov_ab IS 'covariance of a and b';
COMMENT ON COLUMN item_parameter_proposal.why IS 'why it was not published by itself';
COMMENT ON COLUMN item_parameter_proposal.created_at IS 'when it was proposed';
CREATE TABLE release_decision (
    decision_id BIGINT GENERATED ALWAYS AS IDENTITY,
    month TEXT NOT NULL,
    scale_id TEXT NOT NULL,
    item_id TEXT NOT NULL,
    fit_id TEXT NOT NULL,
    decision TEXT NOT NULL,
    decided_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    effective_from TIMESTAMP WITH TIME ZONE,
    decided_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (decision_id)
);
CREATE INDEX release_decision_item ON release_decision (scale_id, item_id);
COMMENT ON TABLE release_decision IS 'What a person decided on a proposal or an anchor.';
COMMENT ON COLUMN release_decision.decision_id IS 'order of decision';
COMMENT ON COLUMN release_decision.month IS 'window of the proposal; of an anchor the first month without it, or with it again';
COMMENT ON COLUMN release_decision.scale_id IS 'scale';
COMMENT ON COLUMN release_decision.item_id IS 'item';
COMMENT ON COLUMN release_decision.fit_id IS 'fit of the proposal; of an anchor the last linked one';
COMMENT ON COLUMN release_decision.decision IS 'accept, reject, undo (of an accept or reject), drop_anchor or restore_anchor';
COMMENT ON COLUMN release_decision.decided_by IS 'who';
COMMENT ON COLUMN release_decision.reason IS 'why';
COMMENT ON COLUMN release_decision.effective_from IS 'from when on, where values change';
COMMENT ON COLUMN release_decision.decided_at IS 'when';
CREATE TABLE item_status (
    status_id BIGINT GENERATED ALWAYS AS IDENTITY,
    item_id TEXT NOT NULL,
    state TEXT NOT NULL,
    effective_from TIMESTAMP WITH TIME ZONE NOT NULL,
    reason TEXT NOT NULL,
    decided_by TEXT NOT NULL,
    decided_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (status_id)
);
CREATE INDEX item_status_item ON item_status (item_id, effective_from);
COMMENT ON TABLE item_status IS 'What a person decided on an item''s use. Append-only.';
COMMENT ON COLUMN item_status.status_id IS 'order of decision';
COMMENT ON COLUMN item_status.item_id IS 'item';
COMMENT ON COLUMN item_status.state IS 'withdrawn or restored';
COMMENT ON COLUMN item_status.effective_from IS 'from when on';
COMMENT ON COLUMN item_status.reason IS 'why';
COMMENT ON COLUMN item_status.decided_by IS 'who';
COMMENT ON COLUMN item_status.decided_at IS 'when';
CREATE TABLE publication_step (
    month TEXT NOT NULL,
    scale_id TEXT NOT NULL,
    fit_id TEXT,
    state TEXT NOT NULL,
    n_published INTEGER DEFAULT 0 NOT NULL,
    n_proposed INTEGER DEFAULT 0 NOT NULL,
    n_held INTEGER DEFAULT 0 NOT NULL,
    held JSONB DEFAULT '{}'::jsonb NOT NULL,
    why TEXT NOT NULL,
    settled_at TIMESTAMP WITH TIME ZONE,
    run_id TEXT,
    stepped_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (month, scale_id)
);
COMMENT ON TABLE publication_step IS 'How far publication has come with each month of a scale.';
COMMENT ON COLUMN publication_step.month IS 'calendar month of the window, e.g. 2026-09 (UTC)';
COMMENT ON COLUMN publication_step.scale_id IS 'bank whose items measure one ability';
COMMENT ON COLUMN publication_step.fit_id IS 'linked fit that was judged';
COMMENT ON COLUMN publication_step.state IS 'done, pending (an earlier month is not settled) or held (a set gate failed)';
COMMENT ON COLUMN publication_step.n_published IS 'items first published by this step';
COMMENT ON COLUMN publication_step.n_proposed IS 'items proposed';
COMMENT ON COLUMN publication_step.n_held IS 'items held back by an item gate';
COMMENT ON COLUMN publication_step.held IS 'items held back, each with its reasons';
COMMENT ON COLUMN publication_step.why IS 'the state in a sentence';
COMMENT ON COLUMN publication_step.settled_at IS 'when the month was first done; what comes after it only proposes';
COMMENT ON COLUMN publication_step.run_id IS 'Dagster run that took the step';
COMMENT ON COLUMN publication_step.stepped_at IS 'when';
CREATE TABLE calibration_scale (
    scale_id TEXT NOT NULL,
    origin JSONB NOT NULL,
    mu DOUBLE PRECISION DEFAULT 0 NOT NULL,
    sigma DOUBLE PRECISION DEFAULT 1 NOT NULL,
    model TEXT DEFAULT '2pl' NOT NULL,
    engine TEXT DEFAULT 'em' NOT NULL,
    pass_theta DOUBLE PRECISION,
    rules JSONB DEFAULT '{}'::jsonb NOT NULL,
    anchor_version INTEGER DEFAULT 1 NOT NULL,
    initialised_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (scale_id)
);
COMMENT ON TABLE calibration_scale IS 'A scale, its origin and its rules.';
COMMENT ON COLUMN calibration_scale.scale_id IS 'bank whose items measure one ability';
COMMENT ON COLUMN calibration_scale.origin IS 'bank, or the window that was declared the origin';
COMMENT ON COLUMN calibration_scale.mu IS 'mean of the population that abilities are reported against';
COMMENT ON COLUMN calibration_scale.sigma IS 'its standard deviation';
COMMENT ON COLUMN calibration_scale.model IS 'rasch, 1pl, 2pl or 3pl, until scale_decision changes it';
COMMENT ON COLUMN calibration_scale.engine IS 'engine whose fits are published';
COMMENT ON COLUMN calibration_scale.pass_theta IS 'pass mark';
COMMENT ON COLUMN calibration_scale.rules IS 'settings that differ from the defaults; a release reads those that it knows';
COMMENT ON COLUMN calibration_scale.anchor_version IS 'newest version of the anchor set';
COMMENT ON COLUMN calibration_scale.initialised_at IS 'when the scale was initialised';
CREATE TABLE scale_decision (
    decision_id BIGINT GENERATED ALWAYS AS IDENTITY,
    scale_id TEXT NOT NULL,
    subject TEXT NOT NULL,
    value TEXT NOT NULL,
    effective_from TIMESTAMP WITH TIME ZONE NOT NULL,
    decided_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    decided_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (decision_id)
);
CREATE INDEX scale_decision_scale ON scale_decision (scale_id, subject, effective_from);
COMMENT ON TABLE scale_decision IS 'What a person decided on a scale''s model and how its abilities move. Append-only.';
COMMENT ON COLUMN scale_decision.decision_id IS 'order of decision';
COMMENT ON COLUMN scale_decision.scale_id IS 'bank whose items measure one ability';
COMMENT ON COLUMN scale_decision.subject IS 'model, prior_a, prior_b, prior_c, occasions, ability_variance, ability_growth, occasion_variance, guessing or misfit';
COMMENT ON COLUMN scale_decision.value IS 'the model; a prior, such as lognormal(0, 0.5), or none; a number or auto, of a movement; accepted, of guessing and misfit; reference, of misfit';
COMMENT ON COLUMN scale_decision.effective_from IS 'months that begin then or later, and nights, follow it, until a later decision';
COMMENT ON COLUMN scale_decision.decided_by IS 'who';
COMMENT ON COLUMN scale_decision.reason IS 'why';
COMMENT ON COLUMN scale_decision.decided_at IS 'when';
CREATE TABLE movement_proposal (
    proposal_id BIGINT GENERATED ALWAYS AS IDENTITY,
    scale_id TEXT NOT NULL,
    month TEXT NOT NULL,
    why_not TEXT NOT NULL,
    variance DOUBLE PRECISION,
    growth DOUBLE PRECISION,
    occasion_variance DOUBLE PRECISION,
    details JSONB NOT NULL,
    proposed_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (proposal_id)
);
CREATE INDEX movement_proposal_scale ON movement_proposal (scale_id);
COMMENT ON TABLE movement_proposal IS 'How abilities of a scale were found to move, or why that is not known. Append-only.';
COMMENT ON COLUMN movement_proposal.proposal_id IS 'order of proposal';
COMMENT ON COLUMN movement_proposal.scale_id IS 'bank whose items measure one ability';
COMMENT ON COLUMN movement_proposal.month IS 'answers of the 52 weeks that end with it were used';
COMMENT ON COLUMN movement_proposal.why_not IS 'why nothing is proposed; empty: something is';
COMMENT ON COLUMN movement_proposal.variance IS 'of the walk a week; null: not estimated';
COMMENT ON COLUMN movement_proposal.growth IS 'a week; null: not estimated';
COMMENT ON COLUMN movement_proposal.occasion_variance IS 'what a day has alone; null: not estimated';
COMMENT ON COLUMN movement_proposal.details IS 'what was used, standard errors, tests, log likelihoods and the effect on learners';
COMMENT ON COLUMN movement_proposal.proposed_at IS 'when';
CREATE TABLE anchor_set (
    scale_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    item_id TEXT NOT NULL,
    parameters JSONB NOT NULL,
    a DOUBLE PRECISION GENERATED ALWAYS AS ((parameters ->> 'a'::text)::double precision) STORED NOT NULL,
    b DOUBLE PRECISION GENERATED ALWAYS AS ((parameters ->> 'b'::text)::double precision) STORED NOT NULL,
    c DOUBLE PRECISION GENERATED ALWAYS AS ((parameters ->> 'c'::text)::double precision) STORED NOT NULL,
    a_se DOUBLE PRECISION GENERATED ALWAYS AS ((parameters ->> 'a_se'::text)::double precision) STORED,
    b_se DOUBLE PRECISION GENERATED ALWAYS AS ((parameters ->> 'b_se'::text)::double precision) STORED,
    c_se DOUBLE PRECISION GENERATED ALWAYS AS ((parameters ->> 'c_se'::text)::double precision) STORED,
    cov_ab DOUBLE PRECISION GENERATED ALWAYS AS ((parameters ->> 'cov_ab'::text)::double precision) STORED,
    errors_assumed BOOLEAN NOT NULL,
    topic_id TEXT,
    anchor_hash TEXT NOT NULL,
    cov JSONB,
    effective_from TIMESTAMP WITH TIME ZONE,
    frozen_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (scale_id, version, item_id)
);
COMMENT ON TABLE anchor_set IS 'The frozen anchors of a scale, with their parameters and errors.';
COMMENT ON COLUMN anchor_set.scale_id IS 'bank whose items measure one ability';
COMMENT ON COLUMN anchor_set.version IS 'version of the set';
COMMENT ON COLUMN anchor_set.item_id IS 'item';
COMMENT ON COLUMN anchor_set.parameters IS 'parameters and their errors by the names that the item''s model has for them; an absent one is not known';
COMMENT ON COLUMN anchor_set.a IS 'discrimination, logistic metric (D = 1)';
COMMENT ON COLUMN anchor_set.b IS 'difficulty on the bank''s scale';
COMMENT ON COLUMN anchor_set.c IS 'lower asymptote';
COMMENT ON COLUMN anchor_set.a_se IS 'standard error of a';
COMMENT ON COLUMN anchor_set.b_se IS 'standard error of b';
COMMENT ON COLUMN anchor_set.c_se IS 'standard error of c';
COMMENT ON COLUMN anchor_set.cov_ab IS 'covariance of a and b';
COMMENT ON COLUMN anchor_set.errors_assumed IS 'true: the errors are those of a calibration with n = 500, as the bank gave none';
COMMENT ON COLUMN anchor_set.topic_id IS 'topic of the item when the set was frozen';
COMMENT ON COLUMN anchor_set.anchor_hash IS 'hash of the whole set';
COMMENT ON COLUMN anchor_set.cov IS 'covariance of a and b with those of each anchor of the set, {item: [aa, ab, ba, bb]}; null: independent';
COMMENT ON COLUMN anchor_set.effective_from IS 'months that begin then or later, and nights, are linked to this version; null: all';
COMMENT ON COLUMN anchor_set.frozen_at IS 'when';
CREATE TABLE item_drift (
    month TEXT NOT NULL,
    scale_id TEXT NOT NULL,
    item_id TEXT NOT NULL,
    engine TEXT NOT NULL,
    delta_a DOUBLE PRECISION,
    delta_b DOUBLE PRECISION,
    delta_c DOUBLE PRECISION,
    p_value DOUBLE PRECISION,
    q_value DOUBLE PRECISION,
    wabc DOUBLE PRECISION,
    severity TEXT NOT NULL,
    details JSONB DEFAULT '{}'::jsonb NOT NULL,
    computed_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (month, scale_id, item_id, engine)
);
COMMENT ON TABLE item_drift IS 'How far an item''s parameters moved against the published ones.';
COMMENT ON COLUMN item_drift.month IS 'calendar month of the window, e.g. 2026-09 (UTC)';
COMMENT ON COLUMN item_drift.scale_id IS 'bank whose items measure one ability';
COMMENT ON COLUMN item_drift.item_id IS 'item';
COMMENT ON COLUMN item_drift.engine IS 'engine';
COMMENT ON COLUMN item_drift.delta_a IS 'change of a';
COMMENT ON COLUMN item_drift.delta_b IS 'change of b';
COMMENT ON COLUMN item_drift.delta_c IS 'change of c';
COMMENT ON COLUMN item_drift.p_value IS 'of the joint Wald test, or of the test by proportion correct';
COMMENT ON COLUMN item_drift.q_value IS 'after Benjamini-Hochberg, over the items tested alike';
COMMENT ON COLUMN item_drift.wabc IS 'weighted area between the curves; by proportion correct: the difference, which the area is at least';
COMMENT ON COLUMN item_drift.severity IS 'none, medium or high';
COMMENT ON COLUMN item_drift.details IS 'published {a, b, c}, delta_a_se, delta_b_se, delta_b_95, wald, tau, most_tau, limits {a, b, c}, chance_a_large, chance_b_large, log_bayes_factor, trend {b_a_month, se, q, months}, change {kind, size, gains, time_z, onset, distractor_above_the_key}; curves {right, right_se, with_ability, with_ability_se, df} of what is compared by its curves, across_models where it was published as another model (no changes of parameters then); of an item without an estimate published, change and proportion_correct {n, observed, expected, difference, se, z, why}';
COMMENT ON COLUMN item_drift.computed_at IS 'when';
CREATE TABLE dif_analysis (
    month TEXT NOT NULL,
    scale_id TEXT NOT NULL,
    item_id TEXT NOT NULL,
    attribute TEXT NOT NULL,
    focal_group TEXT NOT NULL,
    reference_group TEXT NOT NULL,
    p_value DOUBLE PRECISION,
    q_value DOUBLE PRECISION,
    ets_class TEXT,
    details JSONB DEFAULT '{}'::jsonb NOT NULL,
    computed_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (month, scale_id, item_id, attribute, focal_group)
);
COMMENT ON TABLE dif_analysis IS 'Whether an item treats groups of equal ability differently.';
COMMENT ON COLUMN dif_analysis.month IS 'calendar month of the window, e.g. 2026-09 (UTC)';
COMMENT ON COLUMN dif_analysis.scale_id IS 'bank whose items measure one ability';
COMMENT ON COLUMN dif_analysis.item_id IS 'item; empty: the attribute as a whole, one row of each that the scale asks about';
COMMENT ON COLUMN dif_analysis.attribute IS 'learner attribute';
COMMENT ON COLUMN dif_analysis.focal_group IS 'group compared with the reference group; empty: the attribute as a whole';
COMMENT ON COLUMN dif_analysis.reference_group IS 'reference group, the largest that can be compared; empty: there is none';
COMMENT ON COLUMN dif_analysis.p_value IS 'of the multi-group Wald test; null: not tested';
COMMENT ON COLUMN dif_analysis.q_value IS 'after Benjamini-Hochberg over the items of all attributes';
COMMENT ON COLUMN dif_analysis.ets_class IS 'A, B or C by Mantel-Haenszel, of a scored item by its standardised mean difference; null: not tested';
COMMENT ON COLUMN dif_analysis.details IS 'of an item: large (Wald severity high; where not tested, class C), why_not (of the Wald test; empty: tested), low_power, n {reference, focal} (answers), wald {statistic, df, severity (none, small, medium, high), wabc, shift, shift_se (difference of expected scores; below 0: harder for the focal group), delta_a, delta_a_se, delta_b, delta_b_se, delta_b_95 [low, high] (focal minus reference, in the reference group''s SD; b''s null where |b| > 6 or a < 0.2 in a group), anchor} or null, within_forms {sittings {reference, focal}, mantel_haenszel {delta, se, odds_ratio, chi2, p} or null (of a scored item null, and mantel {smd, se, chi2, p}), logistic {p, p_uniform, p_nonuniform, delta_r2, delta_r2_uniform, size} or null} or null. Of an attribute as a whole: why_not, groups [{name, n_learners, n_responses, why_not, low_power, mean, sd (of θ, on the reference group''s scale, or null)}], smaller_groups {groups, learners} (not named), n_unknown, n_unreadable (of the unknown), anchors [item], warnings [sentence], sittings {complete, incomplete} or null, items {tested, low_power, not_tested} (of items × focal groups)';
COMMENT ON COLUMN dif_analysis.computed_at IS 'when';
CREATE TABLE test_information (
    month TEXT NOT NULL,
    scale_id TEXT NOT NULL,
    item_id TEXT NOT NULL,
    curve JSONB NOT NULL,
    flagged BOOLEAN DEFAULT false NOT NULL,
    details JSONB DEFAULT '{}'::jsonb NOT NULL,
    computed_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (month, scale_id, item_id)
);
COMMENT ON TABLE test_information IS 'Information of an item (or, under item_id '''', of the test) over θ.';
COMMENT ON COLUMN test_information.month IS 'calendar month of the window, e.g. 2026-09 (UTC)';
COMMENT ON COLUMN test_information.scale_id IS 'bank whose items measure one ability';
COMMENT ON COLUMN test_information.item_id IS 'item; empty: the whole test';
COMMENT ON COLUMN test_information.curve IS 'equally long lists: theta; published and now, information with the parameters in force at the month''s start and with the month''s (null where the item has none); of the test both of the compared items, then in_force (all items in force, the month''s parameters where it has them), without_flagged, and se_published, se_now, se_in_force, se_without_flagged (null where there is no information)';
COMMENT ON COLUMN test_information.flagged IS 'lost more than a fifth of its information';
COMMENT ON COLUMN test_information.details IS 'of an item: status (compared, not estimated, new), why, published, now, ratio, upper, p, q (averages over the population, the 95 % bound of the ratio), share_of_test, share_of_max, largest_drop {theta, drop, ratio}, severity, retire; of the test: worst {theta, ratio, low, high}, certain, trusted, caution, average {published, now, ratio}, retiring {items, efficiency, lowest, lowest_at, se_limit, se_above_before, se_above_after}, items {in_force, compared, new, not_estimated}, flagged_items, drifted_items, population {mean, sd}, middle, learners, fit_id, why';
COMMENT ON COLUMN test_information.computed_at IS 'when';
CREATE TABLE drift_alerts (
    alert_id BIGINT GENERATED ALWAYS AS IDENTITY,
    scale_id TEXT NOT NULL,
    item_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    severity TEXT NOT NULL,
    opened_month TEXT NOT NULL,
    closed_month TEXT,
    details JSONB DEFAULT '{}'::jsonb NOT NULL,
    opened_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    closed_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (alert_id)
);
CREATE INDEX drift_alerts_item ON drift_alerts (scale_id, item_id);
COMMENT ON TABLE drift_alerts IS 'Alerts on items, opened and closed.';
COMMENT ON COLUMN drift_alerts.alert_id IS 'order of opening';
COMMENT ON COLUMN drift_alerts.scale_id IS 'scale';
COMMENT ON COLUMN drift_alerts.item_id IS 'item';
COMMENT ON COLUMN drift_alerts.kind IS 'what happened';
COMMENT ON COLUMN drift_alerts.severity IS 'medium or high';
COMMENT ON COLUMN drift_alerts.opened_month IS 'month that opened it';
COMMENT ON COLUMN drift_alerts.closed_month IS 'month that closed it';
COMMENT ON COLUMN drift_alerts.details IS 'evidence';
COMMENT ON COLUMN drift_alerts.opened_at IS 'when';
COMMENT ON COLUMN drift_alerts.closed_at IS 'when it was closed';
CREATE TABLE report_file (
    artifact_id BIGINT GENERATED ALWAYS AS IDENTITY,
    user_id TEXT,
    week_start DATE,
    "window" TEXT,
    format TEXT NOT NULL,
    url TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    inputs_hash TEXT,
    generated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (artifact_id)
);
CREATE INDEX report_file_week ON report_file (week_start);
CREATE INDEX report_file_url ON report_file (url);
CREATE UNIQUE INDEX report_file_one ON report_file (user_id, week_start, "window", format) NULLS NOT DISTINCT;
COMMENT ON TABLE report_file IS 'Every report file that was written.';
COMMENT ON COLUMN report_file.artifact_id IS 'order of writing';
COMMENT ON COLUMN report_file.user_id IS 'learner; null for bank reports';
COMMENT ON COLUMN report_file.week_start IS 'week of a learner report';
COMMENT ON COLUMN report_file."window" IS 'window of a bank report';
COMMENT ON COLUMN report_file.format IS 'html or pdf';
COMMENT ON COLUMN report_file.url IS 'permanent s3:// or file URL, signed when shown';
COMMENT ON COLUMN report_file.sha256 IS 'of the file';
COMMENT ON COLUMN report_file.inputs_hash IS 'hash of what the file was made from; the same now means that it need not be made again';
COMMENT ON COLUMN report_file.generated_at IS 'when';
CREATE TABLE invariant_result (
    run TEXT NOT NULL,
    invariant TEXT NOT NULL,
    partition TEXT NOT NULL,
    subject TEXT NOT NULL,
    passed BOOLEAN NOT NULL,
    not_tested TEXT,
    observed TEXT,
    expected TEXT,
    fix TEXT,
    evaluated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    resolved_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (run, invariant, partition, subject)
);
CREATE UNIQUE INDEX invariant_result_open ON invariant_result (invariant, partition, subject) WHERE NOT passed AND subject <> '' AND resolved_at IS NULL;
COMMENT ON TABLE invariant_result IS 'What the invariants found: a verdict for each run, and every violation once, from when it was opened.';
COMMENT ON COLUMN invariant_result.run IS 'run that evaluated it';
COMMENT ON COLUMN invariant_result.invariant IS 'invariant';
COMMENT ON COLUMN invariant_result.partition IS 'month, week or day; empty where it has none';
COMMENT ON COLUMN invariant_result.subject IS 'item, learner, month, …; empty: the verdict of the run';
COMMENT ON COLUMN invariant_result.passed IS 'whether it held, as far as it could be tested';
COMMENT ON COLUMN invariant_result.not_tested IS 'why it, or a part of it, could not be tested';
COMMENT ON COLUMN invariant_result.observed IS 'what was seen';
COMMENT ON COLUMN invariant_result.expected IS 'what should have been';
COMMENT ON COLUMN invariant_result.fix IS 'what to do';
COMMENT ON COLUMN invariant_result.evaluated_at IS 'when';
COMMENT ON COLUMN invariant_result.resolved_at IS 'when the violation was gone';
CREATE TABLE alert (
    alert_id BIGINT GENERATED ALWAYS AS IDENTITY,
    key TEXT NOT NULL,
    severity TEXT NOT NULL,
    what TEXT NOT NULL,
    partition TEXT NOT NULL,
    kind TEXT NOT NULL,
    subjects JSONB NOT NULL,
    fix TEXT NOT NULL,
    link TEXT NOT NULL,
    opened_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    queued_at TIMESTAMP WITH TIME ZONE,
    resolved_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (alert_id)
);
CREATE UNIQUE INDEX alert_open ON alert (key) WHERE resolved_at IS NULL;
COMMENT ON TABLE alert IS 'What people are told of: opened once, resolved once; of severity info resolved as it is opened.';
COMMENT ON COLUMN alert.alert_id IS 'order of opening';
COMMENT ON COLUMN alert.key IS 'what it is about; one alert of a key is open at a time';
COMMENT ON COLUMN alert.severity IS 'error, warning or info';
COMMENT ON COLUMN alert.what IS 'what happened';
COMMENT ON COLUMN alert.partition IS 'month, week or day; empty where it has none';
COMMENT ON COLUMN alert.kind IS 'what the subjects are: items, learners, months, …';
COMMENT ON COLUMN alert.subjects IS 'all of them, a list';
COMMENT ON COLUMN alert.fix IS 'what to do';
COMMENT ON COLUMN alert.link IS 'where to look, below the UI''s address';
COMMENT ON COLUMN alert.opened_at IS 'when';
COMMENT ON COLUMN alert.queued_at IS 'when it was handed to the channels of that time';
COMMENT ON COLUMN alert.resolved_at IS 'when it was over';
CREATE TABLE alert_delivery (
    alert_id BIGINT NOT NULL,
    event TEXT NOT NULL,
    channel TEXT NOT NULL,
    attempts INTEGER DEFAULT 0 NOT NULL,
    next_attempt_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    last_error TEXT,
    delivered_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (alert_id, event, channel)
);
CREATE INDEX alert_delivery_due ON alert_delivery (channel, next_attempt_at) WHERE delivered_at IS NULL;
COMMENT ON TABLE alert_delivery IS 'The way of each message to each channel.';
COMMENT ON COLUMN alert_delivery.alert_id IS 'alert';
COMMENT ON COLUMN alert_delivery.event IS 'opened or resolved';
COMMENT ON COLUMN alert_delivery.channel IS 'slack, discord, email, pagerduty or webhook';
COMMENT ON COLUMN alert_delivery.attempts IS 'how often it was tried';
COMMENT ON COLUMN alert_delivery.next_attempt_at IS 'not tried again before';
COMMENT ON COLUMN alert_delivery.last_error IS 'why the last try failed';
COMMENT ON COLUMN alert_delivery.delivered_at IS 'when it arrived';
CREATE TABLE object_folder (
    folder_id TEXT NOT NULL,
    path TEXT NOT NULL,
    host TEXT NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (folder_id)
);
COMMENT ON TABLE object_folder IS 'The folder of snapshots and reports; no row: none yet, or they lie in a bucket.';
COMMENT ON COLUMN object_folder.folder_id IS 'what its file .folder-id says';
COMMENT ON COLUMN object_folder.path IS 'where it was when it was recorded';
COMMENT ON COLUMN object_folder.host IS 'the host that recorded it';
COMMENT ON COLUMN object_folder.recorded_at IS 'when';
CREATE TABLE backup (
    address TEXT NOT NULL,
    made_at TIMESTAMP WITH TIME ZONE NOT NULL,
    size BIGINT NOT NULL,
    seconds DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (address)
);
COMMENT ON TABLE backup IS 'Every backup that was made whole; one that is removed later keeps its row.';
COMMENT ON COLUMN backup.address IS 'folder or s3:// address';
COMMENT ON COLUMN backup.made_at IS 'the state of the database that it holds';
COMMENT ON COLUMN backup.size IS 'of its files';
COMMENT ON COLUMN backup.seconds IS 'how long it took';
CREATE TABLE server_setting (
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (name)
);
COMMENT ON TABLE server_setting IS 'What one server is set to, for others that have no such setting themselves.';
COMMENT ON COLUMN server_setting.name IS 'ENABLE_IRT_ONLINE_UPDATE of the θ API, or of the session hook that asks it';
COMMENT ON COLUMN server_setting.value IS 'true or false';
COMMENT ON COLUMN server_setting.recorded_at IS 'when the θ API was ready, or the hook first asked it';
CREATE TABLE intake (
    source TEXT NOT NULL,
    kind TEXT NOT NULL,
    arrived_at TIMESTAMP WITH TIME ZONE NOT NULL,
    writer INTEGER NOT NULL,
    read BIGINT NOT NULL,
    accepted BIGINT NOT NULL,
    corrected BIGINT NOT NULL,
    duplicates BIGINT NOT NULL,
    clock_ahead BIGINT NOT NULL,
    rejected JSONB NOT NULL,
    latest TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (source, kind, arrived_at, writer)
);
CREATE INDEX intake_arrived ON intake (arrived_at);
COMMENT ON TABLE intake IS 'What came into the log: each import, and each minute of posts.';
COMMENT ON COLUMN intake.source IS 'the file, or who posted: service (the static token) or a JWT''s sub';
COMMENT ON COLUMN intake.kind IS 'file, inbox, pull or http; question, learner: a file of these';
COMMENT ON COLUMN intake.arrived_at IS 'when; of posts, the minute';
COMMENT ON COLUMN intake.writer IS 'process of the database that wrote it, so that none waits for another';
COMMENT ON COLUMN intake.read IS 'rows that came';
COMMENT ON COLUMN intake.accepted IS 'rows that were new';
COMMENT ON COLUMN intake.corrected IS 'rows that replaced an answer by a higher revision';
COMMENT ON COLUMN intake.duplicates IS 'rows that were known';
COMMENT ON COLUMN intake.clock_ahead IS 'rows accepted whose clock was up to five minutes ahead';
COMMENT ON COLUMN intake.rejected IS 'rows that were refused, by reason';
COMMENT ON COLUMN intake.latest IS 'the latest completed_at that came';
CREATE TABLE intake_reject (
    reject_id BIGINT GENERATED ALWAYS AS IDENTITY,
    source TEXT NOT NULL,
    kind TEXT NOT NULL,
    arrived_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    line BIGINT NOT NULL,
    reason TEXT NOT NULL,
    value TEXT NOT NULL,
    row TEXT NOT NULL,
    PRIMARY KEY (reject_id)
);
CREATE INDEX intake_reject_source ON intake_reject (source, arrived_at);
COMMENT ON TABLE intake_reject IS 'Rows that were refused: at most 10,000 a source and day, for 30 days, without those of erased learners.';
COMMENT ON COLUMN intake_reject.reject_id IS 'order of refusal';
COMMENT ON COLUMN intake_reject.source IS 'the file, or who posted';
COMMENT ON COLUMN intake_reject.kind IS 'as in intake';
COMMENT ON COLUMN intake_reject.arrived_at IS 'when';
COMMENT ON COLUMN intake_reject.line IS 'line of the file, or place in the post, from 1';
COMMENT ON COLUMN intake_reject.reason IS 'why it was refused';
COMMENT ON COLUMN intake_reject.value IS 'the value that is the reason';
COMMENT ON COLUMN intake_reject.row IS 'the row as it came';
CREATE TABLE inbox_file (
    path TEXT NOT NULL,
    size BIGINT NOT NULL,
    version TEXT NOT NULL,
    seen_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    last_line BIGINT DEFAULT 0 NOT NULL,
    taken_at TIMESTAMP WITH TIME ZONE,
    sha256 TEXT,
    problem TEXT,
    options TEXT,
    PRIMARY KEY (path)
);
COMMENT ON TABLE inbox_file IS 'The files of the inbox, and what became of each.';
COMMENT ON COLUMN inbox_file.path IS 'the file, or the address of the object';
COMMENT ON COLUMN inbox_file.size IS 'its bytes';
COMMENT ON COLUMN inbox_file.version IS 'its times, or its ETag: another one once it was written again';
COMMENT ON COLUMN inbox_file.seen_at IS 'since when it has this size and version';
COMMENT ON COLUMN inbox_file.last_line IS 'up to this line it was taken';
COMMENT ON COLUMN inbox_file.taken_at IS 'when all of it was taken; null: it was not yet';
COMMENT ON COLUMN inbox_file.sha256 IS 'hash of what was taken, unpacked';
COMMENT ON COLUMN inbox_file.problem IS 'why it was set aside; null: it was not';
COMMENT ON COLUMN inbox_file.options IS 'version of the options with which it was set aside';
CREATE TABLE pull_source (
    name TEXT NOT NULL,
    number INTEGER GENERATED ALWAYS AS IDENTITY,
    columns JSONB NOT NULL,
    position JSONB NOT NULL,
    stood JSONB DEFAULT '[]'::jsonb NOT NULL,
    again JSONB,
    first_pull JSONB,
    refused JSONB DEFAULT '{}'::jsonb NOT NULL,
    notices_regrading BOOLEAN NOT NULL,
    stopped TEXT,
    pulled_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (name)
);
COMMENT ON TABLE pull_source IS 'Where each pull stands, in the transaction of the answers that it brought.';
COMMENT ON COLUMN pull_source.name IS 'as the file of sources has it';
COMMENT ON COLUMN pull_source.number IS 'response_log.pulled_from';
COMMENT ON COLUMN pull_source.columns IS 'names and types of its columns, and its zone, as the first pull had them';
COMMENT ON COLUMN pull_source.position IS 'cursor and key of the last row that was taken; of an Iceberg table the snapshot';
COMMENT ON COLUMN pull_source.stood IS 'where it stood before, each with the time, for as long as rows may commit out of order';
COMMENT ON COLUMN pull_source.again IS 'what is to be read once more, from where to where, and since when; null: nothing is begun';
COMMENT ON COLUMN pull_source.first_pull IS 'days of the first pull that are to be read, in order; null: it is over';
COMMENT ON COLUMN pull_source.refused IS 'hashes of refused rows that are read again, each with the time: they count once';
COMMENT ON COLUMN pull_source.notices_regrading IS 'whether its cursor is the time of the last write';
COMMENT ON COLUMN pull_source.stopped IS 'why it is not pulled; null: it is';
COMMENT ON COLUMN pull_source.pulled_at IS 'when it was last read';
CREATE TABLE pull_day (
    name TEXT NOT NULL,
    day DATE NOT NULL,
    there BIGINT NOT NULL,
    here BIGINT NOT NULL,
    missing BIGINT NOT NULL,
    vanished BIGINT NOT NULL,
    waits BOOLEAN NOT NULL,
    compared_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (name, day)
);
COMMENT ON TABLE pull_day IS 'Days of a source compared with the log: what was missing, and what it no longer has.';
COMMENT ON COLUMN pull_day.name IS 'source';
COMMENT ON COLUMN pull_day.day IS 'day of the answers (UTC)';
COMMENT ON COLUMN pull_day.there IS 'rows of the source';
COMMENT ON COLUMN pull_day.here IS 'answers of the log that came from it';
COMMENT ON COLUMN pull_day.missing IS 'answers that were fetched, or are to be';
COMMENT ON COLUMN pull_day.vanished IS 'answers that were withdrawn, or are to be';
COMMENT ON COLUMN pull_day.waits IS 'nothing was changed: it is more than 1 % of the day, and a person has to confirm it';
COMMENT ON COLUMN pull_day.compared_at IS 'when';
CREATE TABLE erasure (
    erasure_id BIGINT GENERATED ALWAYS AS IDENTITY,
    learner_hash TEXT NOT NULL,
    salt BYTEA NOT NULL,
    erased_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    begun_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    finished_at TIMESTAMP WITH TIME ZONE,
    removed JSONB DEFAULT '{}'::jsonb NOT NULL,
    rewritten JSONB DEFAULT '[]'::jsonb NOT NULL,
    PRIMARY KEY (erasure_id)
);
CREATE INDEX erasure_learner ON erasure (learner_hash);
COMMENT ON TABLE erasure IS 'Who was erased, when, by whom and why, without the id. Append-only.';
COMMENT ON COLUMN erasure.erasure_id IS 'order of erasure';
COMMENT ON COLUMN erasure.learner_hash IS 'sha256 of the salt and the learner''s id, hexadecimal';
COMMENT ON COLUMN erasure.salt IS 'random, the same for all';
COMMENT ON COLUMN erasure.erased_by IS 'who erased';
COMMENT ON COLUMN erasure.reason IS 'why';
COMMENT ON COLUMN erasure.begun_at IS 'when';
COMMENT ON COLUMN erasure.finished_at IS 'when nothing was left; null: interrupted';
COMMENT ON COLUMN erasure.removed IS 'how many rows of each table and how many files';
COMMENT ON COLUMN erasure.rewritten IS 'snapshots written again: [{old, new (sha256), old_uri, new_uri, old_data, new_data (hash of the answers; empty: unchanged)}]';
CREATE VIEW report_artifacts AS
SELECT artifact_id, user_id, week_start, "window", format, url, sha256, generated_at, inputs_hash
        FROM report_file WHERE user_id IS NOT NULL;
CREATE VIEW attempt AS
SELECT r.attempt_id AS id, r.user_id, r.item_id, coalesce(q.topic_id, 'unknown') AS topic_id,
               r.session_id, r.form_id, r.position, r.started_at, r.completed_at, r.correct, r.response,
               r.response_time_ms, r.hints_used > 0 AS hint_used, r.hints_used, r.mode, r.recorded_at, r.score
        FROM response_log r LEFT JOIN question q ON q.item_id = r.item_id;
CREATE VIEW item_parameter_current AS
SELECT DISTINCT ON (scale_id, item_id)
               publication_id, scale_id, item_id, a, b, c, a_se, b_se, c_se, cov_ab, effective_from, month, fit_id,
               rule, decided_by, reason, replaces, data_hash, anchor_hash, code_version, run_id, published_at,
               parameters
        FROM item_parameter_publication
        WHERE effective_from <= now()
        ORDER BY scale_id, item_id, effective_from DESC, publication_id DESC;
CREATE VIEW standing_decision AS
SELECT * FROM (
          SELECT DISTINCT ON (month, scale_id, item_id, fit_id) *
          FROM release_decision
          WHERE decision IN ('accept', 'reject', 'undo')
          ORDER BY month, scale_id, item_id, fit_id, decision_id DESC) last
        WHERE decision <> 'undo';
CREATE VIEW item_withdrawal AS
SELECT item_id, since, until, reason, decided_by, decided_at FROM (
          SELECT *, effective_from AS since, lead(effective_from) OVER (
            PARTITION BY item_id ORDER BY effective_from, status_id) AS until
          FROM item_status) decided
        WHERE state = 'withdrawn' AND (until IS NULL OR until > since);

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
