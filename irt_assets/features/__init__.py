"""Daily features: what a learner did in a topic on a day."""
