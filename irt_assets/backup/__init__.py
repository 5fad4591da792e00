"""Backups: made of the database and a listing of the files it cites, restored into an empty one, and compared.

What does not belong here: the files themselves, which the bucket's versions or a copy of the folder keep.
"""
