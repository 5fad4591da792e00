"""Which attempts count in a window, and the rules of a scale."""
