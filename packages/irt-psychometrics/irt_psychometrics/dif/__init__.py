"""Which items function differently for groups of learners of equal ability."""
