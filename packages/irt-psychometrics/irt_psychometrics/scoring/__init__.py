"""θ from answers and known item parameters, what it says of learners, and how reliable it is."""
