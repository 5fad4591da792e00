"""People's decisions on proposals, releases, withdrawals, anchors, models and origins, and the basis of each."""
