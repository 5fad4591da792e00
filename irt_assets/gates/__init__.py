"""Gates that decide whether a month is green, their evidence, and the month's state. Nothing here writes anything."""
