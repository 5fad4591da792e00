"""Work on Apache Spark: judging a month's attempts, fitting its answers, scoring learners.

What does not belong here: sessions, executors and their failures (see `resources.cluster`), and the rules and formulas
themselves (see `responses` and `irt_psychometrics`).
"""
