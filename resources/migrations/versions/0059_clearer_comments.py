"""Clearer descriptions of tables and columns.

A downgrade keeps them, as no code reads them.
"""

from alembic import op

revision = "0059_clearer_comments"
down_revision = "0058_one_shape"
oldest_code = "0057_verdict_state"

TABLES = {
    "ability_state": "Empty. On scales with movement, earlier releases stored here the state from which the θ API "
    "resumed.",
    "alert": "Alerts, each opened once and resolved once. An alert of severity info is resolved when it is opened.",
    "alert_delivery": "Delivery of each message to each channel.",
    "anchor_set": "Frozen anchors of a scale, with their parameters and errors.",
    "attempt_correction": "Former rows of corrected and withdrawn answers, with who changed them, when and why.",
    "attempt_verdict": "The verdict on each attempt: the score that counts, or the reason why it does not count. "
    "Partitioned like response_log.",
    "backup": "Complete backups. The row of a backup that is removed later is kept.",
    "calibration_scale": "Scales with their origins and rules.",
    "dif_analysis": "Test of each item for DIF: whether its parameters differ between groups of equal ability.",
    "drift_alerts": "Alerts on items that drift, open and closed.",
    "erasure": "Erasures of learners, each with who erased, when and why, without the learner's id. Append-only.",
    "features_topic_daily": "A learner's answers in a topic on a day.",
    "fit_staging": "Fits as the engine returned them, before linking, and the reasons of fits that failed.",
    "inbox_file": "Files of the inbox, with the outcome of each.",
    "intake": "Counts of the rows that arrived, for each import and for each minute of posts.",
    "intake_reject": "Refused rows: at most 10,000 per source and day, kept for 30 days, without rows of erased "
    "learners.",
    "invariant_result": "Results of the invariants: one row for each run, and one row for each violation, from the "
    "run that opened it.",
    "item_drift": "Changes of item parameters, compared with the published values.",
    "item_parameter_proposal": "Values that a month or a recalibration would publish, but that need a person's "
    "decision.",
    "item_parameter_publication": "The ledger: published values, each with its start, its fit, the rule or person, "
    "and the reason. Append-only.",
    "item_status": "Decisions to withdraw and restore items. Append-only.",
    "item_time": "Median response time of each item in the live answers of a month.",
    "judged_day": "Fingerprint of each judged day. If it differs from the log, the day is judged again.",
    "learner": "Learners and their attributes.",
    "mirt_ability": "Abilities of learners, each at a point in time.",
    "mirt_fit_meta": "Linked fits.",
    "month_impact": "Shift of a month's anchors as a group, compared with the other published items.",
    "month_state": "Closed and reopened months. The newest row of a month applies; a month without a row is open.",
    "movement_proposal": "Estimates of how the abilities of a scale move, or the reasons why there are none. "
    "Append-only.",
    "object_folder": "The folder of snapshots and reports. No row: not recorded yet, or the files are in a bucket.",
    "partition_source": "State of the verdicts from which each day of features and each week of KPIs was made.",
    "publication_step": "State of the publication of each month of a scale.",
    "pull_day": "Comparison of each day of a source with the log: missing and vanished answers.",
    "pull_source": "State of the pulls of each source, stored in the transaction of the answers that they fetched.",
    "release_decision": "Decisions on proposals and anchors.",
    "report_file": "Report files that have been written.",
    "response_log": "All answers, partitioned by the month of completed_at. Read them only through the view attempt.",
    "scale_decision": "Decisions on a scale's model, priors, movement, guessing and misfit. Append-only.",
    "scored_snapshot": "Snapshots: Parquet files of a month's attempts with their verdicts.",
    "server_setting": "Settings of one server that others read, because they do not have the setting themselves.",
    "snapshot_rewrite": "Snapshots that were searched for learner ids, and rewritten with learner keys if they "
    "contained ids.",
    "test_information": "Information over θ of an item or, if item_id is empty, of the test.",
    "testlet_sd_publication": "Published strength of the dependence between answers in one testlet. Append-only.",
    "weekly_kpi": "Six KPIs of a learner's week.",
}
COLUMNS = {
    "ability_state": {
        "scale_id": "scale",
        "state": "posterior from the answers before a day, and the effect of item errors on it",
        "until": "start of that day, the last one on which the learner answered",
        "basis": "hash of the other inputs: published set, rules, item times, and the time from which answers count",
        "n_items": "number of answers to published items in the state",
        "n_attempts": "number of the learner's rows in the log before that day, including the look-back",
        "recorded_at": "latest recorded_at of these rows",
    },
    "alert": {
        "alert_id": "number of the alert, in order of opening",
        "key": "key of the problem; at most one alert per key is open",
        "what": "the problem, in words",
        "partition": "month, week or day; empty: no partition",
        "kind": "kind of the subjects: items, learners, months, …",
        "subjects": "list of all subjects",
        "fix": "remedy",
        "link": "path below the UI's address",
        "opened_at": "time at which it was opened",
        "queued_at": "time at which it was queued for the channels that were configured then",
        "resolved_at": "time at which it was resolved",
    },
    "alert_delivery": {
        "attempts": "number of attempts to send the message",
        "next_attempt_at": "earliest time of the next attempt",
        "last_error": "reason why the last attempt failed",
        "delivered_at": "time of delivery",
    },
    "anchor_set": {
        "scale_id": "scale",
        "parameters": "parameters and their standard errors, by the names in the item's model; missing: not known",
        "errors_assumed": "whether the errors are those of a calibration with n = 500, because the bank has none",
        "anchor_hash": "hash of the anchor set",
        "cov": "covariances of the anchor's a and b with a and b of each anchor of the set, {item: [aa, ab, ba, bb]};"
        " null: independent",
        "effective_from": "start of the version: months that begin then or later, and nights, are linked to it; null:"
        " all months",
        "frozen_at": "time at which the set was frozen",
    },
    "attempt_correction": {
        "attempt_id": "id of the attempt",
        "completed_at": "time of the answer; if there is no answer, the time at which the item left the screen",
        "position": "position in the session, from 1",
        "started_at": "time at which the item was shown",
        "correct": "whether the answer has full credit; null: the item was shown but not answered",
        "response": "chosen option",
        "hints_used": "number of hints used; null: not known",
        "recorded_at": "time at which the row reached this database or was last corrected",
        "revision": "revision; of two rows with the same attempt_id, the one with the higher revision is kept",
        "sent_at": "completed_at as it was sent, if the sender's clock was ahead; null: completed_at is unchanged",
        "pulled_from": "pull_source.number of the pull that fetched the row; null: not fetched by a pull",
        "score": "score, from 0 to the item's maximum score; null: only correct is known",
        "correction_id": "number of the correction, in order",
        "how": "import, rescore, withdraw, or double (another row with the same id was kept)",
        "corrected_by": "person; for an import or a double, the database role",
        "reason": "reason; for an import, the file",
        "corrected_at": "time of the correction",
    },
    "attempt_verdict": {
        "attempt_id": "id of the attempt",
        "completed_at": "time of the answer; if there is no answer, the time at which the item left the screen",
        "scale_id": "scale",
        "reason": "reason why the attempt does not count; null: it counts",
        "score": "score that counts, from 0; null: the attempt does not count",
        "max_score": "maximum score of the item; null: 1",
        "rules_hash": "hash of the eligibility rules by which the attempt was judged",
        "recorded_at": "recorded_at of the answer when it was judged",
        "judged_at": "time at which the attempt was judged",
    },
    "backup": {
        "made_at": "time of the database state in the backup",
        "size": "size of the files",
        "seconds": "duration of the backup",
    },
    "calibration_scale": {
        "scale_id": "scale",
        "origin": "origin: the bank, or the window that was declared the origin",
        "mu": "mean of the population with which abilities are compared in reports",
        "sigma": "SD of this population",
        "model": "model, e.g. 2pl, until scale_decision changes it",
        "rules": "rules that differ from their defaults; each release reads the rules that it has",
        "initialised_at": "time at which the scale was initialised",
    },
    "dif_analysis": {
        "scale_id": "scale",
        "item_id": "item; empty: the attribute as a whole, one row for each attribute that the scale tests",
        "focal_group": "group that is compared with the reference group; empty: the attribute as a whole",
        "reference_group": "reference group, the largest group that can be compared; empty: none can be compared",
        "p_value": "p-value of the multi-group Wald test; null: not tested",
        "q_value": "q-value (Benjamini-Hochberg) over the items of all attributes",
        "ets_class": "A, B or C by Mantel-Haenszel, for a scored item by its standardised mean difference; null: not "
        "tested",
        "details": "for an item: large (Wald severity high; if not tested, class C), why_not (of the Wald test; "
        "empty: tested), low_power, n {reference, focal} (answers), wald {statistic, df, severity (none, small, "
        "medium, high), wabc, shift, shift_se (difference of expected scores; below 0: harder for the focal group), "
        "delta_a, delta_a_se, delta_b, delta_b_se, delta_b_95 [low, high] (focal minus reference, in the reference "
        "group's SD; b's are null if |b| > 6 or a < 0.2 in a group), anchor} or null, within_forms {sittings "
        "{reference, focal}, mantel_haenszel {delta, se, odds_ratio, chi2, p} or null (null for a scored item, which "
        "has mantel {smd, se, chi2, p}), logistic {p, p_uniform, p_nonuniform, delta_r2, delta_r2_uniform, size} or "
        "null} or null. For an attribute as a whole: why_not, groups [{name, n_learners, n_responses, why_not, "
        "low_power, mean, sd (of θ, on the reference group's scale, or null)}], smaller_groups {groups, learners} "
        "(without names), n_unknown, n_unreadable (part of n_unknown), anchors [item], warnings [sentence], sittings "
        "{complete, incomplete} or null, items {tested, low_power, not_tested} (pairs of an item and a focal group)",
        "computed_at": "time of the computation",
    },
    "drift_alerts": {
        "alert_id": "number of the alert, in order of opening",
        "kind": "kind of the change; drift: not known",
        "opened_month": "month in which it was opened",
        "closed_month": "month in which it was closed",
        "opened_at": "time at which it was opened",
        "closed_at": "time at which it was closed",
    },
    "erasure": {
        "erasure_id": "number of the erasure, in order",
        "learner_hash": "sha256 of the salt and the learner's id (hexadecimal)",
        "salt": "random salt, the same for all rows",
        "erased_by": "person who erased the learner",
        "reason": "reason",
        "begun_at": "start of the erasure",
        "finished_at": "time at which nothing was left; null: interrupted",
        "removed": "number of rows removed from each table, and number of files",
        "rewritten": "rewritten snapshots: [{old, new (sha256), old_uri, new_uri, old_data, new_data (hash of the "
        "answers; empty: unchanged)}]",
    },
    "features_topic_daily": {
        "topic_id": "topic; 'unknown' if the item has none",
        "attempts": "number of live answers",
        "correct": "number of correct answers",
        "rt_median": "median response time of correct answers that have a response time",
        "hints": "number of hints used; null: not known",
        "computed_at": "time at which the row was computed",
    },
    "fit_staging": {
        "snapshot_hash": "snapshot that was fitted",
        "calibration": "the Calibration, compressed; null: the fit failed",
        "error": "reason why there is no fit",
        "error_kind": "type of the error",
        "run_id": "Dagster run that wrote the fit",
        "fitted_at": "time of the fit",
    },
    "inbox_file": {
        "path": "path of the file, or address of the object",
        "size": "size in bytes",
        "version": "times of the file, or ETag of the object; changes if it is written again",
        "seen_at": "time at which this size and version were first seen",
        "taken_at": "time at which the whole file was imported; null: not imported yet",
        "sha256": "hash of the imported content, uncompressed",
        "problem": "reason why the file was set aside; null: not set aside",
        "options": "version of the options with which the file was set aside",
    },
    "intake": {
        "source": "file, or sender of posts: service (the static token) or the sub of a JWT",
        "kind": "file, inbox, pull or http; question or learner: a file of items or of learners",
        "arrived_at": "time of arrival; for posts, the minute",
        "writer": "database process that wrote the row, so that no process waits for another",
        "read": "number of rows that arrived",
        "accepted": "number of new rows",
        "corrected": "number of rows that replaced an answer because their revision is higher",
        "duplicates": "number of rows that were already known",
        "clock_ahead": "number of accepted rows whose clock was up to five minutes ahead",
        "rejected": "number of refused rows by reason",
        "latest": "latest completed_at of the rows",
    },
    "intake_reject": {
        "reject_id": "number of the row, in order of refusal",
        "source": "file, or sender of posts",
        "arrived_at": "time of arrival",
        "line": "line of the file, or position in the post, from 1",
        "reason": "reason why the row was refused",
        "value": "value for which it was refused",
        "row": "the row as it arrived",
    },
    "invariant_result": {
        "run": "run that evaluated the invariant",
        "partition": "month, week or day; empty: no partition",
        "subject": "item, learner, month, …; empty: the result of the run",
        "passed": "whether the invariant held, as far as it could be tested",
        "not_tested": "reason why all or part of it could not be tested",
        "observed": "observed value",
        "expected": "expected value",
        "fix": "remedy",
        "evaluated_at": "time of the evaluation",
        "resolved_at": "time at which the violation was gone",
    },
    "item_drift": {
        "scale_id": "scale",
        "p_value": "p-value of the joint Wald test, or of the test of proportion correct",
        "q_value": "q-value (Benjamini-Hochberg) over the items with the same test",
        "wabc": "weighted area between the curves; for proportion correct, the difference, which is a lower bound of "
        "the area",
        "details": "published {a, b, c}, delta_a_se, delta_b_se, delta_b_95, wald, tau, most_tau, limits {a, b, c}, "
        "chance_a_large, chance_b_large, log_bayes_factor, trend {b_a_month, se, q, months}, change {kind, size, "
        "gains, time_z, onset, distractor_above_the_key}; for an item that is compared by its curves, curves {right, "
        "right_se, with_ability, with_ability_se, df}; for an item that was published with another model, "
        "across_models and no changes of parameters; for an item without an estimate, published, change and "
        "proportion_correct {n, observed, expected, difference, se, z, why}",
        "computed_at": "time of the computation",
    },
    "item_parameter_proposal": {
        "scale_id": "scale",
        "fit_id": "fit that estimated the values",
        "parameters": "parameters and their standard errors, by the names in the item's model; missing: not known",
        "why": "reason why the values were not published automatically",
        "created_at": "time of the proposal",
    },
    "item_parameter_publication": {
        "publication_id": "number of the publication, in order",
        "parameters": "parameters and their standard errors, by the names in the item's model; missing: not known",
        "effective_from": "time from which the values are in force",
        "month": "month of the fit, or FIRST:LAST of a recalibration; null: values of the bank",
        "fit_id": "fit that estimated the values; null: values of the bank",
        "rule": "origin, first, decision, or undo (the values before a decision)",
        "decided_by": "person who decided; null: a rule did",
        "reason": "reason",
        "data_hash": "hash of the answers from which the values were estimated",
        "published_at": "time of the publication",
    },
    "item_status": {
        "status_id": "number of the decision, in order",
        "effective_from": "start of the state",
        "reason": "reason",
        "decided_by": "person who decided",
        "decided_at": "time of the decision",
    },
    "item_time": {
        "median_ms": "median response time of the item's live answers",
        "n": "number of live answers with a response time",
        "taken_at": "time at which it was computed from the log",
    },
    "judged_day": {
        "n": "number of attempts",
        "recorded_sum": "sum of recorded_at (µs since 1970)",
        "test_accounts": "hash of the test accounts with attempts on the day",
        "items": "hash of the scales and maximum scores of the day's items",
        "rules": "hashes of the month's rules, of the previous month's item times, and of the month's answers up to "
        "that day to items with too few times in the previous month",
        "judged_at": "time at which a verdict of the day last changed",
    },
    "learner": {
        "user_id": "learner id: text, never treated as a number",
        "attributes": "attributes: lang, country, tier, …",
        "is_test": "whether this is a test account, whose answers are never used",
        "target_theta": "ability that the learner aims for",
        "learner_key": "random number that replaces the id in verdicts and files",
    },
    "mirt_ability": {
        "update_id": "run or update that computed the ability",
        "scale_id": "scale",
        "se_total": "standard error including the errors of item parameters and linking; null: not known",
        "n_items": "number of answers to published items that were used",
        "window_end": "end of the answers that were used (exclusive)",
        "as_of": "time of the last answer that was used, to which θ refers if abilities move; null: computed before "
        "1.1",
        "published_as_of": "time whose published set was used",
        "set_hash": "hash of the published set",
        "fitted_at": "time of the computation",
    },
    "mirt_fit_meta": {
        "kind": "monthly, nightly, origin, or pooled (a recalibration)",
        "engine_version": "version of the engine",
        "model": "model, e.g. 2pl; if the items have several models, their names joined by +",
        "n_persons": "number of learners",
        "n_items": "number of items with parameters",
        "n_responses": "number of responses",
        "bic": "Bayesian information criterion, with the number of learners as sample size",
        "converged": "whether the engine reached the maximum",
        "iterations": "number of iterations",
        "calibration": "the Calibration of an origin window, compressed",
        "common_errors": "[4], covariance matrix of (stretch, shift), the error that all items share; null: not known",
        "data_hash": "hash of the window's attempts with their verdicts",
        "snapshot_hash": "snapshot that was fitted; empty for a nightly fit, which stores none",
        "anchor_hash": "hash of the anchor set to which the fit was linked",
        "run_id": "Dagster run that linked the fit",
        "fitted_at": "time of the fit",
        "superseded_at": "time at which a later fit of the window replaced it",
    },
    "mirt_item_params": {
        "params": "model; a, b, c, a_se, b_se, c_se and cov_ab on the bank's scale; for a 3PL item, cov_logit_c "
        "(covariances of logit c with a, b and itself); the unlinked values under raw; in a nightly fit, provisional:"
        " true if the item has no published values",
        "n_responses": "number of responses",
        "rmsd": "root mean squared difference between the observed curve and the model's curve",
        "flags": "the engine's flags for the item",
        "fitted_at": "time of the fit",
    },
    "month_impact": {
        "why": "reason why nothing could be compared, and all numbers are 0; empty: compared",
        "learners": "number of learners behind the shift in release 1.0.0; in later releases 0",
        "items": "number of items behind the shift: in force, fitted again, and not anchors",
        "shift": "change of these items' b, compared with the anchors' b",
        "shift_se": "standard error of the shift",
        "compared_with": "digest of the values in force with which the fit was compared; null: not known",
    },
    "month_state": {
        "scale_id": "scale",
        "since": "start of the state",
        "decided_by": "person who reopened the month; nightly: closed by the rule late_days; upgrade: closed by an "
        "upgrade",
        "reason": "reason for the state",
        "snapshot_hash": "sha256 of the snapshot with which the month closed",
        "rules": "rules by which the month's answers were judged; missing rules have their defaults",
        "items": "maximum score of each item of the scale when the month closed",
        "test_accounts": "learner keys of the test accounts when the month closed",
        "came": "number of answers when the month closed, number of answers changed since by kind, and the changed "
        "share of each item with more than 5 % changed",
        "counted_at": "time at which the changes were counted; null: not counted yet",
    },
    "movement_proposal": {
        "proposal_id": "number of the proposal, in order",
        "scale_id": "scale",
        "month": "last month of the 52 weeks whose answers were used",
        "why_not": "reason why nothing is proposed; empty: something is proposed",
        "variance": "variance of the random walk per week; null: not estimated",
        "growth": "growth per week; null: not estimated",
        "occasion_variance": "variance of θ between days that does not last; null: not estimated",
        "details": "data used, standard errors, tests, log-likelihoods and the effect on learners",
        "proposed_at": "time of the proposal",
    },
    "object_folder": {
        "folder_id": "content of the folder's file .folder-id",
        "path": "path of the folder when it was recorded",
        "host": "host that recorded it",
        "recorded_at": "time at which it was recorded",
    },
    "partition_source": {
        "partition": "day, or Monday of the week",
        "computed_at": "time of the computation",
    },
    "publication_step": {
        "scale_id": "scale",
        "fit_id": "linked fit that was checked",
        "n_published": "number of items first published by this step",
        "n_proposed": "number of items proposed",
        "n_held": "number of items held back by an item gate",
        "held": "items held back, each with the reasons",
        "why": "sentence that explains the state",
        "settled_at": "time at which the month was first done; after it, the month only proposes",
        "run_id": "Dagster run of the step",
        "stepped_at": "time of the step",
    },
    "pull_day": {
        "there": "number of rows in the source",
        "here": "number of answers in the log from this source",
        "missing": "number of missing answers that were or will be fetched",
        "vanished": "number of vanished answers that were or will be withdrawn",
        "waits": "whether nothing was changed: the change is more than 1 % of the day, and a person has to confirm it",
        "compared_at": "time of the comparison",
    },
    "pull_source": {
        "name": "name in the file of sources",
        "columns": "names and types of the source's columns, and its time zone, at the first pull",
        "position": "cursor and key of the last row that was read",
        "stood": "earlier cursors, each with its time, for as long as rows may be committed out of order",
        "again": "range that is being read again, and when this began; null: no such range",
        "first_pull": "days that the first pull still has to read, in order; null: it is complete",
        "refused": "hashes of refused rows that are read again, each with its time, so that they are counted once",
        "notices_regrading": "whether the cursor is the time of the last write",
        "stopped": "reason why the source is not pulled; null: it is pulled",
        "pulled_at": "time of the last pull",
    },
    "question": {
        "item_id": "item id: text, never treated as a number",
        "scale_id": "scale: items that measure one ability",
        "testlet_id": "testlet: items that share a stimulus",
        "max_score": "maximum score, computed from meta; null: 1",
    },
    "release_decision": {
        "decision_id": "number of the decision, in order",
        "month": "window of the proposal; for an anchor, the first month without it, or with it again",
        "fit_id": "fit of the proposal; for an anchor, its last linked fit",
        "decided_by": "person who decided",
        "reason": "reason",
        "effective_from": "time from which new values are in force; null: no values change",
        "decided_at": "time of the decision",
    },
    "report_file": {
        "artifact_id": "number of the file, in order of writing",
        "user_id": "learner; null: a report on the bank",
        "url": "permanent s3:// or file URL, signed when it is shown",
        "sha256": "sha256 of the file",
        "inputs_hash": "hash of the file's inputs; while it is unchanged, the file is not made again",
        "generated_at": "time at which the file was written",
    },
    "response_log": {
        "attempt_id": "id of the attempt",
        "completed_at": "time of the answer; if there is no answer, the time at which the item left the screen",
        "position": "position in the session, from 1",
        "started_at": "time at which the item was shown",
        "correct": "whether the answer has full credit; null: the item was shown but not answered",
        "response": "chosen option",
        "hints_used": "number of hints used; null: not known",
        "recorded_at": "time at which the row reached this database or was last corrected",
        "revision": "revision; of two rows with the same attempt_id, the one with the higher revision is kept",
        "sent_at": "completed_at as it was sent, if the sender's clock was ahead; null: completed_at is unchanged",
        "pulled_from": "pull_source.number of the pull that fetched the row; null: not fetched by a pull",
        "score": "score, from 0 to the item's maximum score; null: only correct is known",
    },
    "scale_decision": {
        "decision_id": "number of the decision, in order",
        "scale_id": "scale",
        "value": "the model; a prior, such as lognormal(0, 0.5), or none; for a rule of movement, a number or auto; "
        "for guessing, accepted; for misfit, accepted or reference",
        "effective_from": "start of the decision, which applies to months that begin then or later, and to nights, "
        "until a later decision",
        "decided_by": "person who decided",
        "reason": "reason",
        "decided_at": "time of the decision",
    },
    "scored_snapshot": {
        "snapshot_hash": "sha256 of the file, or of the former file with learner ids that it replaces (see "
        "snapshot_rewrite)",
        "uri": "path of the file below the object store's root",
        "data_hash": "hash of the month's attempts with their verdicts",
        "n_attempts": "number of attempts in the file",
        "counts": "number of attempts by scale and reason; attempts that count are under 'scored'",
        "rules": "eligibility rules by scale",
        "run_id": "Dagster run that wrote the file",
        "created_at": "time at which the file was written",
        "superseded_at": "time at which a later snapshot of the month replaced it",
        "verdict_state": "state of the verdicts from which the file was made",
    },
    "server_setting": {
        "name": "ENABLE_IRT_ONLINE_UPDATE of the θ API, or of the session hook that calls it",
        "recorded_at": "time at which the θ API was ready, or at which the hook first called it",
    },
    "snapshot_rewrite": {
        "old_hash": "hash under which the snapshot was stored and is cited",
        "new_hash": "sha256 of the file that replaces it; equal to old_hash if it contained no ids",
        "rewritten_at": "time at which it was searched or rewritten",
    },
    "test_information": {
        "scale_id": "scale",
        "curve": "lists of equal length: theta; published and now, the information with the parameters in force at "
        "the month's start and with the month's parameters (null: the item has none); for the test, both for the "
        "compared items, then in_force (all items in force, with the month's parameters if there are any), "
        "without_flagged, and se_published, se_now, se_in_force, se_without_flagged (null: no information)",
        "flagged": "whether the item lost more than a fifth of its information",
        "details": "for an item: status (compared, not estimated, new), why, published, now, ratio, upper, p, q "
        "(averages over the population, the 95 % bound of the ratio), share_of_test, share_of_max, largest_drop "
        "{theta, drop, ratio}, severity, retire; for the test: worst {theta, ratio, low, high}, certain, trusted, "
        "caution, average {published, now, ratio}, retiring {items, efficiency, lowest, lowest_at, se_limit, "
        "se_above_before, se_above_after}, items {in_force, compared, new, not_estimated}, flagged_items, "
        "drifted_items, population {mean, sd}, middle, learners, fit_id, why",
        "computed_at": "time of the computation",
    },
    "testlet_sd_publication": {
        "publication_id": "number of the publication, in order",
        "sd": "SD of the learners' effects in testlets",
        "se": "standard error of the SD",
        "n_testlets": "number of testlets from which the SD was estimated",
        "testlets": "testlet of each item in the month's fit",
        "effective_from": "time from which the SD is in force",
        "month": "month of the fit",
        "fit_id": "fit that estimated the SD",
        "published_at": "time of the publication",
    },
    "weekly_kpi": {
        "kpis": "I_t, E_t, R_t, A_t, P and S; null: undefined, with the reason under why",
        "updated_at": "time at which the week was computed; the week's Monday if only P and S of an inactive learner "
        "were computed",
        "inactivity_at": "time at which P and S were last set because the learner was inactive; null: not since "
        "updated_at",
    },
}


def upgrade() -> None:
    for table, comment in TABLES.items():
        op.create_table_comment(table, comment)
    for table, comments in COLUMNS.items():
        for column, comment in comments.items():
            op.alter_column(table, column, comment=comment)


def downgrade() -> None:
    pass
