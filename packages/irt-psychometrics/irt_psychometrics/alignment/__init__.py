"""Items seen by two samples, put on one scale: the line between both, how much items vary around it, and who moved."""

__all__: list[str] = []
