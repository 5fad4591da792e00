"""Backups: the database and a list of the files that it cites. They are restored into an empty database, and compared.

What does not belong here: the files themselves, which the bucket's versions or a copy of the folder preserve.
"""
