"""Names of jobs and assets that several modules use. Imports nothing."""

MONTHLY_JOB = "monthly_calibration"
NIGHTLY, NIGHTLY_JOB = "nightly_calibration", "mirt_calibrate"
LEARNER_REPORT, LEARNER_REPORT_JOB = "weekly_learner_report", "generate_weekly_report"
INVARIANT_REPORT = "invariant_report"
PRUNE_JOB = "prune"
