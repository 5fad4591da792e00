"""Daily features: a learner's activity in a topic on a day."""
