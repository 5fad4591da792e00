"""Weekly KPIs: a learner's week in six numbers, and who has gone quiet."""
