"""The commands of `irt learner`, which ask for confirmation before they erase anything.

Exit codes: 0 done; 1 not confirmed; 2 the request is wrong, or runs are in progress.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from irt_assets.blocks import Moment, table
from irt_assets.cli.console import (
    AsJson,
    Yes,
    confirm,
    escape,
    out,
    print_blocks,
    print_error,
    print_json,
    say,
)
from irt_assets.cli.documents import write_document
from irt_assets.cli.installation import By, Reason, current_database, current_instance, current_settings, current_store
from irt_assets.common.wording import quantity
from irt_assets.intake.pulling.erase import rows_left_at_sources
from irt_assets.reports import letter_blocks, transcript_blocks
from irt_assets.reports.letter_facts import read_letters, scores_that_count
from irt_assets.responses.erased import Erasure, erasures
from irt_assets.scales.scale import read_scales
from irt_assets.scores.issued import counting_scores, issued_scores
from jobs.retention import erasure as erasing
from resources.cluster.lake import lake_to_write
from resources.failures import PermanentFailure

app = typer.Typer(no_args_is_help=True)


@app.command(epilog='Example: irt learner erase u17 --by Kim --reason "asked on 3 September"')
def erase(
    user: Annotated[str, typer.Argument(metavar="USER", help="Id of the learner.")],
    by: By,
    reason: Reason,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Erase a learner: answers, verdicts, abilities, scores, features, KPIs, reports and the learner's row.

    The command lists the data before it asks. Published parameters and the files
    of months do not change. If it is interrupted, run it again to finish.
    """
    settings, database = current_settings(), current_database()
    store = current_store(database)
    lake = lake_to_write(settings)
    with current_instance(database) as instance:
        erasing.refuse_while_running(instance)
        held = erasing.holdings(database, store, user, lake)
        if held.is_empty and all(erasure.finished_at for erasure in held.earlier):
            _print(held.earlier[-1], as_json, "was erased already")
            return
        if not as_json:
            _print_holdings(held)
        confirm(f"erase {user} permanently?", yes)
        done, old_versions = erasing.erase(
            database, store, instance, held, by=by, reason=reason, rejects=settings.irt_home / "rejects", lake=lake
        )
    _print(done, as_json, "is erased")
    for line in rows_left_at_sources(database, user):
        print_error("warning: ", line)
    if old_versions:
        print_error(
            "warning: ",
            f"S3_BUCKET has versioning, and keeps {quantity(old_versions, 'deleted file')} of the learner as old "
            "versions, besides those that `irt prune` deleted earlier. Let a lifecycle rule remove old versions, or "
            "remove these: docs/how-to/erasure.md has the rule",
        )


@app.command("erasures", epilog="Example: irt learner erasures")
def list_(as_json: AsJson = False) -> None:
    """List erasures: who erased a learner, when, why, and what was removed, without the learner's id."""
    found = current_database().call(erasures)
    if as_json:
        print_json([_as_dict(erasure) for erasure in found])
    else:
        rows = [
            (
                str(erasure.erasure_id),
                f"{Moment(erasure.begun_at).text}{'' if erasure.finished_at else ', interrupted'}",
                erasure.erased_by,
                erasure.reason,
                _removed_in_words(erasure),
            )
            for erasure in found
        ]
        columns = ("erasure", "begun", "by", "reason", "removed")
        print_blocks(table(columns, rows, empty="no learner was erased"))


@app.command(epilog="Example: irt learner scores u17 --to u17.pdf")
def scores(
    user: Annotated[str, typer.Argument(metavar="USER", help="Id of the learner.")],
    to: Annotated[
        Path | None, typer.Option(help="Write the letter to the learner: NAME.pdf, NAME.docx or NAME.html.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the scores of a learner: the score that counts, every sitting, and the scores that were replaced.

    The letter has the score that counts, on a page for each scale.
    """
    settings = current_settings()
    with current_database().connect() as connection:
        rows, scales = issued_scores(connection, user_id=user), read_scales(connection)
        if not rows:
            raise PermanentFailure(
                f"no score of a learner {user!r} has been issued: ids are case-sensitive; `irt scores issue` issues "
                "scores"
            )
        if to is not None:
            letters = read_letters(connection, scores_that_count(connection, user_id=user), zone=settings.irt_time_zone)
            head = letter_blocks.read_letterhead(settings.irt_letterhead)
            write_document(letter_blocks.document(letters, head, datetime.now(UTC)), to)
    if as_json:
        counting = counting_scores(rows, scales).values()
        print_json([vars(row) | {"counts": row in counting} for row in rows])
    elif to is None:
        print_blocks(*transcript_blocks.transcript_blocks(rows, scales, settings.irt_time_zone))


def _print_holdings(held: erasing.Holdings) -> None:
    rows = [(table, f"{quantity(n, 'row')}, deleted") for table, n in held.rows.items()]
    rows += [(name, "deleted") for name in held.reports]
    if held.in_lake:
        answers, files = quantity(sum(held.in_lake.values()), "answer"), quantity(len(held.in_lake), "file")
        rows.append(("the lake of attempts", f"{answers}, {files} written again without them"))
    print_blocks(table(("what is kept of the learner", ""), rows))
    if held.earlier:
        say(f"{held.earlier[-1].name} was interrupted, or the learner has come back since")


def _print(done: Erasure, as_json: bool, state: str) -> None:
    if as_json:
        print_json(_as_dict(done))
        return
    out.print(f"the learner {state}: {done.name}, {escape(_removed_in_words(done))}")


def _removed_in_words(erasure: Erasure) -> str:
    parts = ", ".join(
        f"{n:,} {kind}" if " " in kind else f"{n:,} of {kind}" for kind, n in sorted(erasure.removed.items())
    )
    return parts or "nothing was left to remove"


def _as_dict(erasure: Erasure) -> dict[str, Any]:
    return {
        "erasure": erasure.erasure_id,
        "by": erasure.erased_by,
        "reason": erasure.reason,
        "begun_at": erasure.begun_at.isoformat(),
        "finished_at": erasure.finished_at and erasure.finished_at.isoformat(),
        "removed": erasure.removed,
    }
