"""Item parameters: fits, linking, the publication ledger, abilities, and whether a month is green."""
