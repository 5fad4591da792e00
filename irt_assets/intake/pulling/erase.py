"""An erased learner's rows in the sources: delete them if the file of sources has a DELETE, otherwise count them."""

from collections.abc import Iterator

from irt_assets.intake.pulling.pull import open_source
from irt_assets.intake.pulling.sources_file import read_sources
from resources.failures import PermanentFailure, TransientFailure
from resources.postgres.database import Database


def erase_at_sources(database: Database, user_id: str) -> None:
    """Run the DELETE of each source that names one, in a transaction of its own.

    Raises PermanentFailure if a DELETE fails or leaves rows, and TransientFailure if a source cannot be reached.
    """
    for source in read_sources(database.settings).values():
        if source.erase is not None:
            with open_source(source, database) as reader:
                reader.erase(user_id)


def rows_left_at_sources(database: Database, user_id: str) -> Iterator[str]:
    """A line for each source without a DELETE that still has rows of the learner, or that cannot be read."""
    for source in read_sources(database.settings).values():
        if source.erase is not None or source.kind == "question":
            continue
        fix = "erase the learner there; rows of an erased learner are refused here"
        try:
            with open_source(source, database) as reader:
                if n := reader.count_rows_of(user_id):
                    yield f"{source.name} still has {n:,} rows of the learner: {fix}, or name a DELETE (erase: …)"
        except (PermanentFailure, TransientFailure) as failure:
            yield f"{failure}: {fix}"
