-- The first schema. {schema} stands for the schema in which it is made, where the text of a function needs its name.

ALTER TABLE irt_alembic_version ADD COLUMN oldest_code text;

CREATE TABLE question (
    item_id text NOT NULL,
    scale_id text NOT NULL DEFAULT 'default',
    topic_id text,
    testlet_id text,
    meta jsonb NOT NULL DEFAULT '{}'::jsonb,
    PRIMARY KEY (item_id)
);
COMMENT ON TABLE question IS 'The item bank.';
COMMENT ON COLUMN question.item_id IS 'item id, text, never assumed numeric';
COMMENT ON COLUMN question.scale_id IS 'bank whose items measure one ability';
COMMENT ON COLUMN question.topic_id IS 'topic';
COMMENT ON COLUMN question.testlet_id IS 'testlet of items that share a stimulus';
COMMENT ON COLUMN question.meta IS 'tags (e.g. "anchor"), irt {a, b, c, a_se, b_se, c_se, cov_ab, n, D, model}, key';

CREATE TABLE learner (
    user_id text NOT NULL,
    attributes jsonb NOT NULL DEFAULT '{}'::jsonb,
    is_test boolean NOT NULL DEFAULT false,
    target_scale_id text,
    target_theta double precision,
    PRIMARY KEY (user_id)
);
COMMENT ON TABLE learner IS 'Everyone who answers.';
COMMENT ON COLUMN learner.user_id IS 'learner id, text, never assumed numeric';
COMMENT ON COLUMN learner.attributes IS 'lang, country, tier, …';
COMMENT ON COLUMN learner.is_test IS 'test account: its answers are never used';
COMMENT ON COLUMN learner.target_scale_id IS 'scale of the learner''s goal';
COMMENT ON COLUMN learner.target_theta IS 'ability the learner aims for';

CREATE TABLE response_log (
    attempt_id text NOT NULL,
    completed_at timestamptz NOT NULL,
    user_id text NOT NULL,
    item_id text NOT NULL,
    session_id text,
    form_id text,
    position integer,
    started_at timestamptz,
    correct boolean,
    response text,
    response_time_ms bigint,
    hints_used integer,
    mode text NOT NULL DEFAULT 'live',
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (attempt_id, completed_at)
) PARTITION BY RANGE (completed_at);
CREATE INDEX response_log_recorded ON response_log USING brin (recorded_at);
CREATE INDEX response_log_user ON response_log (user_id, completed_at);
COMMENT ON TABLE response_log IS
    'Every answer event. Partitioned by month of completed_at; read it only through the attempt view.';
COMMENT ON COLUMN response_log.attempt_id IS 'id of the answer event';
COMMENT ON COLUMN response_log.completed_at IS 'when it was answered, or when an unanswered item left the screen';
COMMENT ON COLUMN response_log.user_id IS 'learner';
COMMENT ON COLUMN response_log.item_id IS 'item';
COMMENT ON COLUMN response_log.session_id IS 'session';
COMMENT ON COLUMN response_log.form_id IS 'exam form; null: practice';
COMMENT ON COLUMN response_log.position IS 'place within the session, from 1';
COMMENT ON COLUMN response_log.started_at IS 'when the item was shown';
COMMENT ON COLUMN response_log.correct IS 'null: shown, not answered';
COMMENT ON COLUMN response_log.response IS 'the chosen option';
COMMENT ON COLUMN response_log.response_time_ms IS 'response time';
COMMENT ON COLUMN response_log.hints_used IS 'hints taken; null where unknown';
COMMENT ON COLUMN response_log.mode IS 'live or sandbox';
COMMENT ON COLUMN response_log.recorded_at IS 'when it reached this database';

CREATE TABLE features_topic_daily (
    user_id text NOT NULL,
    topic_id text NOT NULL,
    date date NOT NULL,
    attempts integer NOT NULL,
    correct integer NOT NULL,
    rt_median double precision,
    hints integer,
    computed_at timestamptz NOT NULL DEFAULT now(),
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
    user_id text NOT NULL,
    week_start date NOT NULL,
    kpis jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, week_start)
);
CREATE INDEX weekly_kpi_week ON weekly_kpi (week_start);
COMMENT ON TABLE weekly_kpi IS 'A learner''s week in six numbers.';
COMMENT ON COLUMN weekly_kpi.user_id IS 'learner';
COMMENT ON COLUMN weekly_kpi.week_start IS 'Monday of the week (UTC)';
COMMENT ON COLUMN weekly_kpi.kpis IS 'I_t, E_t, R_t, A_t, P, S; null where undefined, with the reason under why';
COMMENT ON COLUMN weekly_kpi.updated_at IS 'when this row was computed';

CREATE TABLE partition_source (
    asset text NOT NULL,
    partition text NOT NULL,
    data_hash text NOT NULL,
    computed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (asset, partition)
);
COMMENT ON TABLE partition_source IS
    'What the days of features and the item times were computed from: another hash now means that they are stale.';
COMMENT ON COLUMN partition_source.asset IS 'features_topic_daily or item_response_time';
COMMENT ON COLUMN partition_source.partition IS 'a day of features; as_of/since of item times';
COMMENT ON COLUMN partition_source.data_hash IS 'hash of the answers that were read';
COMMENT ON COLUMN partition_source.computed_at IS 'when';

CREATE TABLE item_response_time (
    as_of timestamptz NOT NULL,
    since timestamptz NOT NULL,
    item_id text NOT NULL,
    median_ms double precision NOT NULL,
    n bigint NOT NULL,
    PRIMARY KEY (as_of, since, item_id)
);
COMMENT ON TABLE item_response_time IS
    'An item''s response times over the live answers of a window and the look-back before it.';
COMMENT ON COLUMN item_response_time.as_of IS 'answers before this time were counted';
COMMENT ON COLUMN item_response_time.since IS 'and from this time on: the window''s start less the look-back';
COMMENT ON COLUMN item_response_time.item_id IS 'item';
COMMENT ON COLUMN item_response_time.median_ms IS 'median response time';
COMMENT ON COLUMN item_response_time.n IS 'answers with a time';

CREATE TABLE scored_snapshot (
    month text NOT NULL,
    snapshot_hash text NOT NULL,
    uri text NOT NULL,
    data_hash text NOT NULL,
    n_attempts bigint NOT NULL,
    counts jsonb NOT NULL,
    rules jsonb NOT NULL,
    run_id text,
    created_at timestamptz NOT NULL DEFAULT now(),
    superseded_at timestamptz,
    PRIMARY KEY (month, snapshot_hash)
);
COMMENT ON TABLE scored_snapshot IS 'The Parquet snapshots of a month''s attempts with what eligibility made of each.';
COMMENT ON COLUMN scored_snapshot.month IS 'calendar month of the window, e.g. 2026-09 (UTC)';
COMMENT ON COLUMN scored_snapshot.snapshot_hash IS 'sha256 of the file';
COMMENT ON COLUMN scored_snapshot.uri IS 'where the file is, below the object store''s root';
COMMENT ON COLUMN scored_snapshot.data_hash IS 'hash of the month''s answers as eligibility saw them';
COMMENT ON COLUMN scored_snapshot.n_attempts IS 'attempts in the file';
COMMENT ON COLUMN scored_snapshot.counts IS 'attempts by scale and reason (scored under ''scored'')';
COMMENT ON COLUMN scored_snapshot.rules IS 'eligibility settings by scale';
COMMENT ON COLUMN scored_snapshot.run_id IS 'Dagster run that wrote it';
COMMENT ON COLUMN scored_snapshot.created_at IS 'when it was written';
COMMENT ON COLUMN scored_snapshot.superseded_at IS 'when a later snapshot of the month replaced it';

CREATE TABLE data_change (
    change_id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    part text NOT NULL,
    changes bigint NOT NULL,
    PRIMARY KEY (change_id)
);
CREATE INDEX data_change_part ON data_change (part);
COMMENT ON TABLE data_change IS
    'How often the answers of a day, the bank''s items and scales, or the test accounts were changed. Written by '
    'triggers: equal sums prove that nothing was changed.';
COMMENT ON COLUMN data_change.change_id IS 'order of writing';
COMMENT ON COLUMN data_change.part IS 'a day of the log (UTC), question or learner';
COMMENT ON COLUMN data_change.changes IS 'transactions that changed it; rows of a part add up';

CREATE TABLE data_version (
    month text NOT NULL,
    encoding integer NOT NULL,
    data_hash text NOT NULL,
    log_state text NOT NULL,
    bank_state text NOT NULL,
    account_state text NOT NULL,
    items jsonb NOT NULL,
    test_accounts text NOT NULL,
    computed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (month, encoding)
);
COMMENT ON TABLE data_version IS 'The hash of a month''s answers, and what proves that it still is.';
COMMENT ON COLUMN data_version.month IS 'calendar month of the window, e.g. 2026-09 (UTC)';
COMMENT ON COLUMN data_version.encoding IS 'how rows are written out to be hashed';
COMMENT ON COLUMN data_version.data_hash IS 'hash of the month''s answers as eligibility sees them';
COMMENT ON COLUMN data_version.log_state IS
    'changes of the window''s days, its partitions and the query: where it is another now, the hash may be';
COMMENT ON COLUMN data_version.bank_state IS 'the same of the item bank';
COMMENT ON COLUMN data_version.account_state IS 'the same of the learners';
COMMENT ON COLUMN data_version.items IS
    'items answered in the month: scale and topic; null where the bank did not have it';
COMMENT ON COLUMN data_version.test_accounts IS 'hash of the test accounts that answered';
COMMENT ON COLUMN data_version.computed_at IS 'when';

CREATE TABLE fit_staging (
    fit_id text NOT NULL,
    month text NOT NULL,
    scale_id text NOT NULL,
    engine text NOT NULL,
    snapshot_hash text NOT NULL,
    calibration bytea,
    error text,
    error_kind text,
    spec jsonb NOT NULL,
    code_version text NOT NULL,
    run_id text,
    fitted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (fit_id)
);
CREATE INDEX fit_staging_month ON fit_staging (month, scale_id, engine, fitted_at);
COMMENT ON TABLE fit_staging IS
    'Fits as they left the engine, before linking, and the reasons of those that could not be made.';
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
    fit_id text NOT NULL,
    scale_id text NOT NULL,
    kind text NOT NULL,
    window_start timestamptz NOT NULL,
    window_end timestamptz NOT NULL,
    engine text NOT NULL,
    engine_version text NOT NULL,
    model text NOT NULL,
    n_persons integer NOT NULL,
    n_items integer NOT NULL,
    n_responses bigint NOT NULL,
    loglik double precision NOT NULL,
    aic double precision NOT NULL,
    bic double precision NOT NULL,
    converged boolean NOT NULL,
    iterations integer NOT NULL,
    max_rhat double precision,
    min_ess double precision,
    model_spec jsonb NOT NULL,
    data_hash text NOT NULL,
    snapshot_hash text NOT NULL,
    anchor_hash text NOT NULL,
    code_version text NOT NULL,
    run_id text,
    fitted_at timestamptz NOT NULL DEFAULT now(),
    superseded_at timestamptz,
    calibration bytea,
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
COMMENT ON COLUMN mirt_fit_meta.model IS 'rasch, 1pl, 2pl or 3pl';
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
COMMENT ON COLUMN mirt_fit_meta.data_hash IS 'hash of the window''s answers as eligibility saw them';
COMMENT ON COLUMN mirt_fit_meta.snapshot_hash IS 'snapshot it was fitted on; empty for a night, which keeps none';
COMMENT ON COLUMN mirt_fit_meta.anchor_hash IS 'hash of the anchor set it was linked to';
COMMENT ON COLUMN mirt_fit_meta.code_version IS 'version of this code';
COMMENT ON COLUMN mirt_fit_meta.run_id IS 'Dagster run that linked it';
COMMENT ON COLUMN mirt_fit_meta.fitted_at IS 'when it was fitted';
COMMENT ON COLUMN mirt_fit_meta.superseded_at IS 'when a later fit of the window replaced it';
COMMENT ON COLUMN mirt_fit_meta.calibration IS 'of an origin window: the Calibration, compressed';

CREATE TABLE mirt_item_params (
    fit_id text NOT NULL,
    item_id text NOT NULL,
    params jsonb NOT NULL,
    n_responses integer NOT NULL,
    p_value double precision,
    point_biserial double precision,
    infit double precision,
    outfit double precision,
    rmsd double precision,
    flags jsonb NOT NULL DEFAULT '[]'::jsonb,
    fitted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (fit_id, item_id)
);
COMMENT ON TABLE mirt_item_params IS 'An item''s parameters in a linked fit, on the bank''s scale.';
COMMENT ON COLUMN mirt_item_params.fit_id IS 'fit';
COMMENT ON COLUMN mirt_item_params.item_id IS 'item';
COMMENT ON COLUMN mirt_item_params.params IS
    'a, b, c, a_se, b_se, c_se, cov_ab on the bank''s scale, of a 3PL cov_logit_c (of logit c with a, b, itself); '
    'the unlinked ones under raw; of a night provisional: true where nothing is published for the item';
COMMENT ON COLUMN mirt_item_params.n_responses IS 'responses';
COMMENT ON COLUMN mirt_item_params.p_value IS 'proportion correct';
COMMENT ON COLUMN mirt_item_params.point_biserial IS 'item-rest correlation';
COMMENT ON COLUMN mirt_item_params.infit IS 'information-weighted mean square';
COMMENT ON COLUMN mirt_item_params.outfit IS 'unweighted mean square';
COMMENT ON COLUMN mirt_item_params.rmsd IS 'root mean squared difference of observed and model curve';
COMMENT ON COLUMN mirt_item_params.flags IS 'what the engine says about the item';
COMMENT ON COLUMN mirt_item_params.fitted_at IS 'when it was fitted';

CREATE TABLE mirt_ability (
    update_id text NOT NULL,
    user_id text NOT NULL,
    scale_id text NOT NULL,
    theta double precision NOT NULL,
    se double precision NOT NULL,
    method text NOT NULL,
    n_items integer NOT NULL,
    kind text NOT NULL,
    window_end timestamptz NOT NULL,
    published_as_of timestamptz NOT NULL,
    set_hash text NOT NULL,
    scale_version integer NOT NULL,
    fitted_at timestamptz NOT NULL DEFAULT now(),
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
COMMENT ON COLUMN mirt_ability.method IS 'eap, map or wle';
COMMENT ON COLUMN mirt_ability.n_items IS 'answers to published items that were used';
COMMENT ON COLUMN mirt_ability.kind IS 'monthly, nightly or online';
COMMENT ON COLUMN mirt_ability.window_end IS 'answers before this time were used';
COMMENT ON COLUMN mirt_ability.published_as_of IS 'the published set in force then was used';
COMMENT ON COLUMN mirt_ability.set_hash IS 'hash of that set';
COMMENT ON COLUMN mirt_ability.scale_version IS 'version of the anchor set';
COMMENT ON COLUMN mirt_ability.fitted_at IS 'when it was computed';

CREATE TABLE item_parameter_publication (
    publication_id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    scale_id text NOT NULL,
    item_id text NOT NULL,
    a double precision NOT NULL,
    b double precision NOT NULL,
    c double precision NOT NULL,
    a_se double precision,
    b_se double precision,
    c_se double precision,
    cov_ab double precision,
    effective_from timestamptz NOT NULL,
    month text,
    fit_id text,
    rule text NOT NULL,
    decided_by text,
    reason text NOT NULL,
    replaces bigint,
    data_hash text,
    anchor_hash text NOT NULL,
    code_version text NOT NULL,
    run_id text,
    published_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (publication_id)
);
CREATE INDEX item_parameter_publication_item ON item_parameter_publication (scale_id, item_id, effective_from);
COMMENT ON TABLE item_parameter_publication IS
    'The ledger: what was published, from when on, from which fit, by which rule or person, and why. Append-only.';
COMMENT ON COLUMN item_parameter_publication.publication_id IS 'order of publication';
COMMENT ON COLUMN item_parameter_publication.scale_id IS 'scale';
COMMENT ON COLUMN item_parameter_publication.item_id IS 'item';
COMMENT ON COLUMN item_parameter_publication.a IS 'discrimination, logistic metric (D = 1)';
COMMENT ON COLUMN item_parameter_publication.b IS 'difficulty on the bank''s scale';
COMMENT ON COLUMN item_parameter_publication.c IS 'lower asymptote';
COMMENT ON COLUMN item_parameter_publication.a_se IS 'standard error of a';
COMMENT ON COLUMN item_parameter_publication.b_se IS 'standard error of b';
COMMENT ON COLUMN item_parameter_publication.c_se IS 'standard error of c';
COMMENT ON COLUMN item_parameter_publication.cov_ab IS 'covariance of a and b';
COMMENT ON COLUMN item_parameter_publication.effective_from IS 'in force from this time on';
COMMENT ON COLUMN item_parameter_publication.month IS
    'month whose fit it comes from, or FIRST:LAST of a recalibration; null for bank values';
COMMENT ON COLUMN item_parameter_publication.fit_id IS 'fit it comes from; null for bank values';
COMMENT ON COLUMN item_parameter_publication.rule IS
    'origin, first, decision or undo (of a decision: the values before it)';
COMMENT ON COLUMN item_parameter_publication.decided_by IS 'who decided; null where a rule did';
COMMENT ON COLUMN item_parameter_publication.reason IS 'why';
COMMENT ON COLUMN item_parameter_publication.replaces IS 'publication that it replaces';
COMMENT ON COLUMN item_parameter_publication.data_hash IS 'hash of the answers it comes from';
COMMENT ON COLUMN item_parameter_publication.anchor_hash IS 'hash of the anchor set';
COMMENT ON COLUMN item_parameter_publication.code_version IS 'version of this code';
COMMENT ON COLUMN item_parameter_publication.run_id IS 'Dagster run that published it';
COMMENT ON COLUMN item_parameter_publication.published_at IS 'when it was published';

CREATE TABLE testlet_sd_publication (
    publication_id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    scale_id text NOT NULL,
    sd double precision NOT NULL,
    se double precision,
    n_testlets integer NOT NULL,
    testlets jsonb NOT NULL,
    effective_from timestamptz NOT NULL,
    month text NOT NULL,
    fit_id text NOT NULL,
    published_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (publication_id)
);
CREATE INDEX testlet_sd_publication_scale ON testlet_sd_publication (scale_id, effective_from);
COMMENT ON TABLE testlet_sd_publication IS
    'How far answers in one testlet depend on each other, from when on. Append-only.';
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
    month text NOT NULL,
    scale_id text NOT NULL,
    item_id text NOT NULL,
    fit_id text NOT NULL,
    a double precision NOT NULL,
    b double precision NOT NULL,
    c double precision NOT NULL,
    a_se double precision,
    b_se double precision,
    c_se double precision,
    cov_ab double precision,
    why text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (month, scale_id, item_id, fit_id)
);
COMMENT ON TABLE item_parameter_proposal IS 'What a month, or a recalibration, would publish but only a person may.';
COMMENT ON COLUMN item_parameter_proposal.month IS 'calendar month of the window, or FIRST:LAST of a recalibration';
COMMENT ON COLUMN item_parameter_proposal.scale_id IS 'bank whose items measure one ability';
COMMENT ON COLUMN item_parameter_proposal.item_id IS 'item';
COMMENT ON COLUMN item_parameter_proposal.fit_id IS 'fit it comes from';
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
    decision_id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    month text NOT NULL,
    scale_id text NOT NULL,
    item_id text NOT NULL,
    fit_id text NOT NULL,
    decision text NOT NULL,
    decided_by text NOT NULL,
    reason text NOT NULL,
    effective_from timestamptz,
    decided_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (decision_id)
);
CREATE INDEX release_decision_item ON release_decision (scale_id, item_id);
COMMENT ON TABLE release_decision IS 'What a person decided on a proposal or an anchor.';
COMMENT ON COLUMN release_decision.decision_id IS 'order of decision';
COMMENT ON COLUMN release_decision.month IS 'window of the proposal; of an anchor the first month without it';
COMMENT ON COLUMN release_decision.scale_id IS 'scale';
COMMENT ON COLUMN release_decision.item_id IS 'item';
COMMENT ON COLUMN release_decision.fit_id IS 'fit of the proposal; of an anchor the last linked one';
COMMENT ON COLUMN release_decision.decision IS 'accept, reject, undo (of an accept or reject) or drop_anchor';
COMMENT ON COLUMN release_decision.decided_by IS 'who';
COMMENT ON COLUMN release_decision.reason IS 'why';
COMMENT ON COLUMN release_decision.effective_from IS 'from when on, where values change';
COMMENT ON COLUMN release_decision.decided_at IS 'when';

CREATE TABLE item_status (
    status_id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    item_id text NOT NULL,
    state text NOT NULL,
    effective_from timestamptz NOT NULL,
    reason text NOT NULL,
    decided_by text NOT NULL,
    decided_at timestamptz NOT NULL DEFAULT now(),
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
    month text NOT NULL,
    scale_id text NOT NULL,
    fit_id text,
    state text NOT NULL,
    n_published integer NOT NULL DEFAULT 0,
    n_proposed integer NOT NULL DEFAULT 0,
    n_held integer NOT NULL DEFAULT 0,
    held jsonb NOT NULL DEFAULT '{}'::jsonb,
    why text NOT NULL,
    settled_at timestamptz,
    run_id text,
    stepped_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (month, scale_id)
);
COMMENT ON TABLE publication_step IS 'How far publication has come with each month of a scale.';
COMMENT ON COLUMN publication_step.month IS 'calendar month of the window, e.g. 2026-09 (UTC)';
COMMENT ON COLUMN publication_step.scale_id IS 'bank whose items measure one ability';
COMMENT ON COLUMN publication_step.fit_id IS 'linked fit that was judged';
COMMENT ON COLUMN publication_step.state IS
    'done, pending (an earlier month is not settled) or held (a set gate failed)';
COMMENT ON COLUMN publication_step.n_published IS 'items first published by this step';
COMMENT ON COLUMN publication_step.n_proposed IS 'items proposed';
COMMENT ON COLUMN publication_step.n_held IS 'items held back by an item gate';
COMMENT ON COLUMN publication_step.held IS 'items held back, each with its reasons';
COMMENT ON COLUMN publication_step.why IS 'the state in a sentence';
COMMENT ON COLUMN publication_step.settled_at IS 'when the month was first done; what comes after it only proposes';
COMMENT ON COLUMN publication_step.run_id IS 'Dagster run that took the step';
COMMENT ON COLUMN publication_step.stepped_at IS 'when';

CREATE TABLE calibration_scale (
    scale_id text NOT NULL,
    origin jsonb NOT NULL,
    mu double precision NOT NULL DEFAULT 0,
    sigma double precision NOT NULL DEFAULT 1,
    model text NOT NULL DEFAULT '2pl',
    engine text NOT NULL DEFAULT 'em',
    assignment text NOT NULL DEFAULT 'linear',
    pass_theta double precision,
    thresholds jsonb NOT NULL DEFAULT '{}'::jsonb,
    anchor_version integer NOT NULL DEFAULT 1,
    initialised_at timestamptz NOT NULL DEFAULT now(),
    latent text NOT NULL DEFAULT 'normal',
    new_misfit text NOT NULL DEFAULT 'warn',
    newer_rules jsonb NOT NULL DEFAULT '{}'::jsonb,
    PRIMARY KEY (scale_id)
);
COMMENT ON TABLE calibration_scale IS 'A scale, its origin and its rules.';
COMMENT ON COLUMN calibration_scale.scale_id IS 'bank whose items measure one ability';
COMMENT ON COLUMN calibration_scale.origin IS 'bank, or the window that was declared the origin';
COMMENT ON COLUMN calibration_scale.mu IS 'mean of the population that abilities are reported against';
COMMENT ON COLUMN calibration_scale.sigma IS 'its standard deviation';
COMMENT ON COLUMN calibration_scale.model IS 'rasch, 1pl, 2pl or 3pl, until scale_decision changes it';
COMMENT ON COLUMN calibration_scale.engine IS 'engine whose fits are published';
COMMENT ON COLUMN calibration_scale.assignment IS 'linear or adaptive: how items are chosen for learners';
COMMENT ON COLUMN calibration_scale.pass_theta IS 'pass mark';
COMMENT ON COLUMN calibration_scale.thresholds IS 'eligibility and gate settings that differ from the defaults';
COMMENT ON COLUMN calibration_scale.anchor_version IS 'newest version of the anchor set';
COMMENT ON COLUMN calibration_scale.initialised_at IS 'when the scale was initialised';
COMMENT ON COLUMN calibration_scale.latent IS 'what em takes for the distribution of θ: normal, histogram or auto';
COMMENT ON COLUMN calibration_scale.new_misfit IS 'warn or hold: what new misfit does to a month';
COMMENT ON COLUMN calibration_scale.newer_rules IS
    'settings that differ from the defaults, of rules made since there is this column; a release reads those that '
    'it knows';

CREATE TABLE scale_decision (
    decision_id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    scale_id text NOT NULL,
    subject text NOT NULL,
    value text NOT NULL,
    effective_from timestamptz NOT NULL,
    decided_by text NOT NULL,
    reason text NOT NULL,
    decided_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (decision_id)
);
CREATE INDEX scale_decision_scale ON scale_decision (scale_id, subject, effective_from);
COMMENT ON TABLE scale_decision IS 'What a person decided on a scale''s model. Append-only.';
COMMENT ON COLUMN scale_decision.decision_id IS 'order of decision';
COMMENT ON COLUMN scale_decision.scale_id IS 'bank whose items measure one ability';
COMMENT ON COLUMN scale_decision.subject IS 'model, prior_a, prior_b, prior_c, guessing or misfit';
COMMENT ON COLUMN scale_decision.value IS
    'the model; a prior, such as lognormal(0, 0.5), or none; accepted, of guessing and misfit; reference, of misfit';
COMMENT ON COLUMN scale_decision.effective_from IS
    'months that begin then or later, and nights, follow it, until a later decision';
COMMENT ON COLUMN scale_decision.decided_by IS 'who';
COMMENT ON COLUMN scale_decision.reason IS 'why';
COMMENT ON COLUMN scale_decision.decided_at IS 'when';

CREATE TABLE anchor_set (
    scale_id text NOT NULL,
    version integer NOT NULL,
    item_id text NOT NULL,
    a double precision NOT NULL,
    b double precision NOT NULL,
    c double precision NOT NULL,
    a_se double precision,
    b_se double precision,
    c_se double precision,
    cov_ab double precision,
    errors_assumed boolean NOT NULL,
    topic_id text,
    anchor_hash text NOT NULL,
    frozen_at timestamptz NOT NULL DEFAULT now(),
    effective_from timestamptz,
    cov jsonb,
    PRIMARY KEY (scale_id, version, item_id)
);
COMMENT ON TABLE anchor_set IS 'The frozen anchors of a scale, with their parameters and errors.';
COMMENT ON COLUMN anchor_set.scale_id IS 'bank whose items measure one ability';
COMMENT ON COLUMN anchor_set.version IS 'version of the set';
COMMENT ON COLUMN anchor_set.item_id IS 'item';
COMMENT ON COLUMN anchor_set.a IS 'discrimination, logistic metric (D = 1)';
COMMENT ON COLUMN anchor_set.b IS 'difficulty on the bank''s scale';
COMMENT ON COLUMN anchor_set.c IS 'lower asymptote';
COMMENT ON COLUMN anchor_set.a_se IS 'standard error of a';
COMMENT ON COLUMN anchor_set.b_se IS 'standard error of b';
COMMENT ON COLUMN anchor_set.c_se IS 'standard error of c';
COMMENT ON COLUMN anchor_set.cov_ab IS 'covariance of a and b';
COMMENT ON COLUMN anchor_set.errors_assumed IS
    'true: the errors are those of a calibration with n = 500, as the bank gave none';
COMMENT ON COLUMN anchor_set.topic_id IS 'topic of the item when the set was frozen';
COMMENT ON COLUMN anchor_set.anchor_hash IS 'hash of the whole set';
COMMENT ON COLUMN anchor_set.frozen_at IS 'when';
COMMENT ON COLUMN anchor_set.effective_from IS
    'months that begin then or later, and nights, are linked to this version; null: all';
COMMENT ON COLUMN anchor_set.cov IS
    'covariance of a and b with those of each anchor of the set, {item: [aa, ab, ba, bb]}; null: independent';

CREATE TABLE item_drift (
    month text NOT NULL,
    scale_id text NOT NULL,
    item_id text NOT NULL,
    engine text NOT NULL,
    delta_a double precision,
    delta_b double precision,
    delta_c double precision,
    p_value double precision,
    q_value double precision,
    wabc double precision,
    severity text NOT NULL,
    details jsonb NOT NULL DEFAULT '{}'::jsonb,
    computed_at timestamptz NOT NULL DEFAULT now(),
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
COMMENT ON COLUMN item_drift.wabc IS
    'weighted area between the curves; by proportion correct: the difference, which the area is at least';
COMMENT ON COLUMN item_drift.severity IS 'none, medium or high';
COMMENT ON COLUMN item_drift.details IS
    'published {a, b, c}, delta_a_se, delta_b_se, delta_b_95, wald, inflation, limits {a, b, c}, chance_a_large, '
    'chance_b_large, log_bayes_factor, trend {b_a_month, se, q, months}, change {kind, size, gains, time_z, onset, '
    'distractor_above_the_key}; curves {right, right_se, with_ability, with_ability_se, df} of what is compared by '
    'its curves, across_models where it was published as another model (no changes of parameters then); of an item '
    'without an estimate published, change and proportion_correct {n, observed, expected, difference, se, z, why}';
COMMENT ON COLUMN item_drift.computed_at IS 'when';

CREATE TABLE dif_analysis (
    month text NOT NULL,
    scale_id text NOT NULL,
    item_id text NOT NULL,
    attribute text NOT NULL,
    focal_group text NOT NULL,
    reference_group text NOT NULL,
    p_value double precision,
    q_value double precision,
    ets_class text,
    details jsonb NOT NULL DEFAULT '{}'::jsonb,
    computed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (month, scale_id, item_id, attribute, focal_group)
);
COMMENT ON TABLE dif_analysis IS 'Whether an item treats groups of equal ability differently.';
COMMENT ON COLUMN dif_analysis.month IS 'calendar month of the window, e.g. 2026-09 (UTC)';
COMMENT ON COLUMN dif_analysis.scale_id IS 'bank whose items measure one ability';
COMMENT ON COLUMN dif_analysis.item_id IS
    'item; empty: the attribute as a whole, one row of each that the scale asks about';
COMMENT ON COLUMN dif_analysis.attribute IS 'learner attribute';
COMMENT ON COLUMN dif_analysis.focal_group IS
    'group compared with the reference group; empty: the attribute as a whole';
COMMENT ON COLUMN dif_analysis.reference_group IS
    'reference group, the largest that can be compared; empty: there is none';
COMMENT ON COLUMN dif_analysis.p_value IS 'of the multi-group Wald test; null: not tested';
COMMENT ON COLUMN dif_analysis.q_value IS 'after Benjamini-Hochberg over the items';
COMMENT ON COLUMN dif_analysis.ets_class IS 'A, B or C by Mantel-Haenszel; null: not tested';
COMMENT ON COLUMN dif_analysis.details IS
    'of an item: large (Wald severity high; where not tested, class C), why_not (of the Wald test; empty: tested), '
    'low_power, n {reference, focal} (answers), wald {statistic, df, severity (none, small, medium, high), wabc, '
    'shift, shift_se (difference of expected scores; below 0: harder for the focal group), delta_a, delta_a_se, '
    'delta_b, delta_b_se, delta_b_95 [low, high] (focal minus reference, in the reference group''s SD; b''s null '
    'where |b| > 6 or a < 0.2 in a group), anchor} or null, within_forms {sittings {reference, focal}, '
    'mantel_haenszel {delta, se, odds_ratio, chi2, p} or null, logistic {p, p_uniform, p_nonuniform, delta_r2, '
    'delta_r2_uniform, size} or null} or null. Of an attribute as a whole: why_not, groups [{name, n_learners, '
    'n_responses, why_not, low_power, mean, sd (of θ, on the reference group''s scale, or null)}], smaller_groups '
    '{groups, learners} (not named), n_unknown, n_unreadable (of the unknown), anchors [item], warnings '
    '[sentence], sittings {complete, incomplete} or null, items {tested, low_power, not_tested} (of items × focal '
    'groups)';
COMMENT ON COLUMN dif_analysis.computed_at IS 'when';

CREATE TABLE test_information (
    month text NOT NULL,
    scale_id text NOT NULL,
    item_id text NOT NULL,
    curve jsonb NOT NULL,
    flagged boolean NOT NULL DEFAULT false,
    details jsonb NOT NULL DEFAULT '{}'::jsonb,
    computed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (month, scale_id, item_id)
);
COMMENT ON TABLE test_information IS 'Information of an item (or, under item_id '''', of the test) over θ.';
COMMENT ON COLUMN test_information.month IS 'calendar month of the window, e.g. 2026-09 (UTC)';
COMMENT ON COLUMN test_information.scale_id IS 'bank whose items measure one ability';
COMMENT ON COLUMN test_information.item_id IS 'item; empty: the whole test';
COMMENT ON COLUMN test_information.curve IS
    'equally long lists: theta; published and now, information with the parameters in force at the month''s start '
    'and with the month''s (null where the item has none); of the test both of the compared items, then in_force '
    '(all items in force, the month''s parameters where it has them), without_flagged, and se_published, se_now, '
    'se_in_force, se_without_flagged (null where there is no information)';
COMMENT ON COLUMN test_information.flagged IS 'lost more than a fifth of its information';
COMMENT ON COLUMN test_information.details IS
    'of an item: status (compared, not estimated, new), why, published, now, ratio, upper, p, q (averages over the '
    'population, the 95 % bound of the ratio), share_of_test, share_of_max, largest_drop {theta, drop, ratio}, '
    'severity, retire; of the test: worst {theta, ratio, low, high}, certain, trusted, caution, average '
    '{published, now, ratio}, retiring {items, efficiency, lowest, lowest_at, se_limit, se_above_before, '
    'se_above_after}, items {in_force, compared, new, not_estimated}, flagged_items, drifted_items, population '
    '{mean, sd}, middle, learners, fit_id, why';
COMMENT ON COLUMN test_information.computed_at IS 'when';

CREATE TABLE drift_alerts (
    alert_id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    scale_id text NOT NULL,
    item_id text NOT NULL,
    kind text NOT NULL,
    severity text NOT NULL,
    opened_month text NOT NULL,
    closed_month text,
    details jsonb NOT NULL DEFAULT '{}'::jsonb,
    opened_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz,
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

CREATE TABLE report_artifacts (
    artifact_id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    user_id text,
    week_start date,
    "window" text,
    format text NOT NULL,
    url text NOT NULL,
    sha256 text NOT NULL,
    generated_at timestamptz NOT NULL DEFAULT now(),
    inputs_hash text,
    PRIMARY KEY (artifact_id)
);
CREATE UNIQUE INDEX report_artifacts_one
    ON report_artifacts (user_id, week_start, "window", format) NULLS NOT DISTINCT;
CREATE INDEX report_artifacts_url ON report_artifacts (url);
CREATE INDEX report_artifacts_week ON report_artifacts (week_start);
COMMENT ON TABLE report_artifacts IS 'Every report file that was written.';
COMMENT ON COLUMN report_artifacts.artifact_id IS 'order of writing';
COMMENT ON COLUMN report_artifacts.user_id IS 'learner; null for bank reports';
COMMENT ON COLUMN report_artifacts.week_start IS 'week of a learner report';
COMMENT ON COLUMN report_artifacts."window" IS 'window of a bank report';
COMMENT ON COLUMN report_artifacts.format IS 'html or pdf';
COMMENT ON COLUMN report_artifacts.url IS 'permanent s3:// or file URL, signed when shown';
COMMENT ON COLUMN report_artifacts.sha256 IS 'of the file';
COMMENT ON COLUMN report_artifacts.generated_at IS 'when';
COMMENT ON COLUMN report_artifacts.inputs_hash IS
    'hash of what the file was made from; the same now means that it need not be made again';

CREATE TABLE invariant_result (
    run text NOT NULL,
    invariant text NOT NULL,
    partition text NOT NULL,
    subject text NOT NULL,
    passed boolean NOT NULL,
    observed text,
    expected text,
    fix text,
    evaluated_at timestamptz NOT NULL DEFAULT now(),
    resolved_at timestamptz,
    not_tested text,
    PRIMARY KEY (run, invariant, partition, subject)
);
CREATE UNIQUE INDEX invariant_result_open ON invariant_result (invariant, partition, subject)
    WHERE NOT passed AND subject <> '' AND resolved_at IS NULL;
COMMENT ON TABLE invariant_result IS
    'What the invariants found: a verdict for each run, and every violation once, from when it was opened.';
COMMENT ON COLUMN invariant_result.run IS 'run that evaluated it';
COMMENT ON COLUMN invariant_result.invariant IS 'invariant';
COMMENT ON COLUMN invariant_result.partition IS 'month, week or day; empty where it has none';
COMMENT ON COLUMN invariant_result.subject IS 'item, learner, month, …; empty: the verdict of the run';
COMMENT ON COLUMN invariant_result.passed IS 'whether it held, as far as it could be tested';
COMMENT ON COLUMN invariant_result.observed IS 'what was seen';
COMMENT ON COLUMN invariant_result.expected IS 'what should have been';
COMMENT ON COLUMN invariant_result.fix IS 'what to do';
COMMENT ON COLUMN invariant_result.evaluated_at IS 'when';
COMMENT ON COLUMN invariant_result.resolved_at IS 'when the violation was gone';
COMMENT ON COLUMN invariant_result.not_tested IS 'why it, or a part of it, could not be tested';

CREATE TABLE alert (
    alert_id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    key text NOT NULL,
    severity text NOT NULL,
    what text NOT NULL,
    partition text NOT NULL,
    kind text NOT NULL,
    subjects jsonb NOT NULL,
    fix text NOT NULL,
    link text NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT now(),
    queued_at timestamptz,
    resolved_at timestamptz,
    PRIMARY KEY (alert_id)
);
CREATE UNIQUE INDEX alert_open ON alert (key) WHERE resolved_at IS NULL;
COMMENT ON TABLE alert IS
    'What people are told of: opened once, resolved once; of severity info resolved as it is opened.';
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
    alert_id bigint NOT NULL,
    event text NOT NULL,
    channel text NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    last_error text,
    delivered_at timestamptz,
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
    folder_id text NOT NULL,
    path text NOT NULL,
    host text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (folder_id)
);
COMMENT ON TABLE object_folder IS 'The folder of snapshots and reports; no row: none yet, or they lie in a bucket.';
COMMENT ON COLUMN object_folder.folder_id IS 'what its file .folder-id says';
COMMENT ON COLUMN object_folder.path IS 'where it was when it was recorded';
COMMENT ON COLUMN object_folder.host IS 'the host that recorded it';
COMMENT ON COLUMN object_folder.recorded_at IS 'when';

CREATE TABLE backup (
    address text NOT NULL,
    made_at timestamptz NOT NULL,
    size bigint NOT NULL,
    seconds double precision NOT NULL,
    PRIMARY KEY (address)
);
COMMENT ON TABLE backup IS 'Every backup that was made whole; one that is removed later keeps its row.';
COMMENT ON COLUMN backup.address IS 'folder or s3:// address';
COMMENT ON COLUMN backup.made_at IS 'the state of the database that it holds';
COMMENT ON COLUMN backup.size IS 'of its files';
COMMENT ON COLUMN backup.seconds IS 'how long it took';

CREATE TABLE erasure (
    erasure_id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    learner_hash text NOT NULL,
    salt bytea NOT NULL,
    erased_by text NOT NULL,
    reason text NOT NULL,
    begun_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    removed jsonb NOT NULL DEFAULT '{}'::jsonb,
    rewritten jsonb NOT NULL DEFAULT '[]'::jsonb,
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
COMMENT ON COLUMN erasure.rewritten IS
    'snapshots written again: [{old, new (sha256), old_uri, new_uri, old_data, new_data (hash of the answers; '
    'empty: unchanged)}]';

CREATE VIEW attempt AS
    SELECT r.attempt_id AS id, r.user_id, r.item_id, coalesce(q.topic_id, 'unknown') AS topic_id,
           r.session_id, r.form_id, r.position, r.started_at, r.completed_at, r.correct, r.response,
           r.response_time_ms, r.hints_used > 0 AS hint_used, r.hints_used, r.mode, r.recorded_at
    FROM response_log r LEFT JOIN question q ON q.item_id = r.item_id;

CREATE VIEW item_parameter_current AS
    SELECT DISTINCT ON (scale_id, item_id) *
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

CREATE FUNCTION count_change(name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        DECLARE noted text := 'irt.changed_' || translate(name, '-', '_');
        BEGIN
          IF current_setting(noted, true) IS DISTINCT FROM 'yes' THEN
            INSERT INTO {schema}.data_change (part, changes) VALUES (name, 1);
            PERFORM set_config(noted, 'yes', true), set_config('irt.changes', 'yes', true);
          END IF;
        END $$;

CREATE FUNCTION count_changed_day() RETURNS trigger
    LANGUAGE plpgsql AS $$
        DECLARE day text;
        BEGIN
          IF TG_OP <> 'DELETE' THEN
            day := to_char(NEW.completed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD');
            IF current_setting('irt.changed_' || translate(day, '-', '_'), true) IS DISTINCT FROM 'yes' THEN
              PERFORM {schema}.count_change(day);
            END IF;
          END IF;
          IF TG_OP <> 'INSERT' THEN
            PERFORM {schema}.count_change(to_char(OLD.completed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD'));
          END IF;
          RETURN NULL;
        END $$;

CREATE FUNCTION count_changed_table() RETURNS trigger
    LANGUAGE plpgsql AS $$
        BEGIN
          PERFORM {schema}.count_change(TG_TABLE_NAME);
          RETURN NULL;
        END $$;

CREATE TRIGGER log_changed AFTER INSERT OR UPDATE OR DELETE ON response_log FOR EACH ROW
    EXECUTE FUNCTION count_changed_day();
ALTER TABLE response_log ENABLE ALWAYS TRIGGER log_changed;

CREATE TRIGGER item_added_or_removed AFTER INSERT OR DELETE ON question FOR EACH ROW
    EXECUTE FUNCTION count_changed_table();
ALTER TABLE question ENABLE ALWAYS TRIGGER item_added_or_removed;

CREATE TRIGGER item_changed AFTER UPDATE ON question FOR EACH ROW
    WHEN ((OLD.item_id, OLD.scale_id, OLD.topic_id) IS DISTINCT FROM (NEW.item_id, NEW.scale_id, NEW.topic_id))
    EXECUTE FUNCTION count_changed_table();
ALTER TABLE question ENABLE ALWAYS TRIGGER item_changed;

CREATE TRIGGER test_account_added AFTER INSERT ON learner FOR EACH ROW
    WHEN (NEW.is_test)
    EXECUTE FUNCTION count_changed_table();
ALTER TABLE learner ENABLE ALWAYS TRIGGER test_account_added;

CREATE TRIGGER test_account_changed AFTER UPDATE ON learner FOR EACH ROW
    WHEN ((OLD.user_id, OLD.is_test) IS DISTINCT FROM (NEW.user_id, NEW.is_test))
    EXECUTE FUNCTION count_changed_table();
ALTER TABLE learner ENABLE ALWAYS TRIGGER test_account_changed;

CREATE TRIGGER test_account_removed AFTER DELETE ON learner FOR EACH ROW
    WHEN (OLD.is_test)
    EXECUTE FUNCTION count_changed_table();
ALTER TABLE learner ENABLE ALWAYS TRIGGER test_account_removed;
