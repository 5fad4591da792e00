"""What people decide: proposals, releases, withdrawals, anchors, models, origins; and what they decide from."""
