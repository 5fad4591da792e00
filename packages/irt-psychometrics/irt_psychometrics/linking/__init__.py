"""One fit put on the scale of another through anchors, and what the anchors say of that."""
