"""Item analysis before any fit: forms, items, options and keys. Does not belong here: pages about them (`reports`)."""
