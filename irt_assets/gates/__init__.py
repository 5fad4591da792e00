"""Whether a month is green: the gates, what they look at, and the state that follows. Nothing here changes anything."""
