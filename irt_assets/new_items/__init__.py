"""New items: stages, decisions to show them, and their answers, from an empty row of the bank to a publication.

Does not belong here: estimation (`irt_psychometrics.new_items`), and published values (`ledger`).
"""
