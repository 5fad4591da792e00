"""What a month does on Apache Spark: judging its attempts, fitting its answers, scoring learners.

What does not belong here: sessions, executors and their failures (see `resources.cluster`), and the rules and formulas
themselves (see `responses` and `psychometrics`). Nothing that this room is built on knows of it.
"""
