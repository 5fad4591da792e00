"""θ of learners in the database: of a month, at a request, and of those that a request missed."""
