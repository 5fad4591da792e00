"""The commands of `irt items`. Decisions are recorded after a confirmation.

Exit codes: 0 done; 1 not confirmed; 2 the request is wrong.
"""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from irt_assets.adaptive.changes import effects_of_withdrawal
from irt_assets.adaptive.supply import read_supplies
from irt_assets.blocks import Paragraph, table
from irt_assets.cli.attempts import print_correction
from irt_assets.cli.console import (
    AsJson,
    DryRun,
    Reopen,
    Yes,
    confirm,
    print_blocks,
    print_json,
    say,
)
from irt_assets.cli.deciding import confirm_decision
from irt_assets.cli.desk import (
    Denominator,
    Key,
    Mapping,
    MarksOff,
    MaxScore,
    Omitted,
    Responses,
    print_result,
    read_answers,
)
from irt_assets.cli.import_ import Missing, Suggest, print_suggestion
from irt_assets.cli.installation import By, Reason, current_database
from irt_assets.common.wording import quantity, sentence
from irt_assets.decision_kinds import RESTORE, WITHDRAW
from irt_assets.decisions import rekey as decide_key
from irt_assets.decisions.exports import write_export
from irt_assets.decisions.release import midnight
from irt_assets.decisions.withdrawal import UseRequest
from irt_assets.new_items.decided import (
    BRING_BACK,
    MAX_ANSWERS,
    REJECT,
    RETIRE,
    SEED,
    STOP,
    ItemsRequest,
    SeedLimits,
)
from irt_assets.new_items.pipeline_blocks import items_table
from irt_assets.new_items.progress import read_pipeline
from irt_assets.new_items.publishing import PUBLISH, PublishRequest
from irt_assets.new_items.stages import UNPUBLISHED, Stage, item_stages
from irt_assets.scales.item_status import item_status
from irt_assets.scales.scale import read_scales
from irt_psychometrics.commands import analyse as analyse_answers
from resources.failures import PermanentFailure

app = typer.Typer(no_args_is_help=True)

Items = Annotated[list[str], typer.Argument(metavar="ITEM…", help="Item ids.")]


@app.command(epilog='Example: irt items withdraw A21 --by Kim --reason "leaked"')
def withdraw(
    items: Items,
    by: By,
    reason: Reason,
    since: Annotated[
        str | None, typer.Option("--from", help="First day (UTC) out of use, YYYY-MM-DD. Default: tomorrow.")
    ] = None,
    yes: Yes = False,
) -> None:
    """Withdraw items from use.

    Answers from that day on do not count towards θ, and the items need no other
    decisions.
    """
    request = UseRequest(items, midnight(since, "--from") if since else None)
    confirm_decision(WITHDRAW, request, by=by, reason=reason, yes=yes)


@app.command(epilog='Example: irt items restore A21 --by Kim --reason "not leaked"')
def restore(
    items: Items,
    by: By,
    reason: Reason,
    since: Annotated[
        str | None,
        typer.Option("--from", help="First day (UTC) in use again, YYYY-MM-DD. Default: the first possible one."),
    ] = None,
    yes: Yes = False,
) -> None:
    """Restore withdrawn items to use.

    Answers from that day on count again. Answers given in between never count.
    """
    request = UseRequest(items, midnight(since, "--from") if since else None)
    confirm_decision(RESTORE, request, by=by, reason=reason, yes=yes)


@app.command(epilog="Example: irt items seed N01 N02 --max-answers 200 --by Kim --reason June")
def seed(
    items: Items,
    by: By,
    reason: Reason,
    max_answers: Annotated[
        int, typer.Option("--max-answers", min=1, max=MAX_ANSWERS, help="Most answers to each item.")
    ] = SeedLimits().max_answers,
    per_day: Annotated[
        int | None, typer.Option("--per-day", min=1, max=MAX_ANSWERS, help="Most answers to each item a day (UTC).")
    ] = None,
    first: Annotated[str | None, typer.Option("--from", help="First day (UTC), YYYY-MM-DD. Default: now.")] = None,
    last: Annotated[str | None, typer.Option("--until", help="Last day (UTC), YYYY-MM-DD. Default: no limit.")] = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Seed new items: show them to learners in places that count for no score.

    Replaces the former limits of items that are seeded already.
    """
    limits = SeedLimits(
        max_answers=max_answers,
        max_per_day=per_day,
        first_day=midnight(first, "--from").date() if first else None,
        last_day=midnight(last, "--until").date() if last else None,
    )
    confirm_decision(SEED, ItemsRequest(items, limits), by=by, reason=reason, yes=yes, as_json=as_json)


@app.command(epilog='Example: irt items stop N01 --by Kim --reason "enough answers"')
def stop(items: Items, by: By, reason: Reason, yes: Yes = False, as_json: AsJson = False) -> None:
    """Stop seeding items. Answers to earlier draws still count for the items' estimates."""
    confirm_decision(STOP, ItemsRequest(items), by=by, reason=reason, yes=yes, as_json=as_json)


@app.command(epilog='Example: irt items reject N01 --by Kim --reason "two right answers"')
def reject(items: Items, by: By, reason: Reason, yes: Yes = False, as_json: AsJson = False) -> None:
    """Reject unpublished items. They are not drawn for seed places, nor proposed for publication."""
    confirm_decision(REJECT, ItemsRequest(items), by=by, reason=reason, yes=yes, as_json=as_json)


@app.command(epilog='Example: irt items publish N01 --by Kim --reason "read and sound"')
def publish(items: Items, by: By, reason: Reason, yes: Yes = False, as_json: AsJson = False) -> None:
    """Publish new items with the values of the newest night, from next month on."""
    confirm_decision(PUBLISH, PublishRequest(items), by=by, reason=reason, yes=yes, as_json=as_json)


@app.command(epilog='Example: irt items retire A21 --by Kim --reason "replaced by N01"')
def retire(items: Items, by: By, reason: Reason, yes: Yes = False, as_json: AsJson = False) -> None:
    """Retire published items. Answers count towards θ until the items are withdrawn."""
    confirm_decision(RETIRE, ItemsRequest(items), by=by, reason=reason, yes=yes, as_json=as_json)


@app.command("bring-back", epilog='Example: irt items bring-back N01 --by Kim --reason "rewritten key"')
def bring_back(items: Items, by: By, reason: Reason, yes: Yes = False, as_json: AsJson = False) -> None:
    """Bring rejected or retired items back to the stage that their data gives them."""
    confirm_decision(BRING_BACK, ItemsRequest(items), by=by, reason=reason, yes=yes, as_json=as_json)


@app.command(epilog='Example: irt items rekey A01 --key C --also D --by Kim --reason "both right"')
def rekey(
    item: Annotated[str, typer.Argument(help="Item id.")],
    by: By,
    reason: Reason,
    key: Annotated[str | None, typer.Option("--key", help="Right option, as stored in the log.")] = None,
    also: Annotated[list[str] | None, typer.Option("--also", help="Further right option; may be repeated.")] = None,
    every_answer: Annotated[bool, typer.Option("--all", help="Every answer gets credit.")] = False,
    drop: Annotated[bool, typer.Option("--drop", help="Drop the item from scoring, in all sittings.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Undo the last decision on the key.")] = False,
    reopen: Reopen = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Change the key of an item, and score its answers again.

    Prints how many answers, θ and passes change, and the months concerned,
    before it asks. The former key and scores stay on record.
    """
    database = current_database()
    options = [*filter(None, [key]), *(also or [])]
    new = decide_key.choose_key(options, every_answer=every_answer, drop=drop, undo=undo)
    basis = None
    if dry_run or not yes:
        seen = decide_key.preview(database, item, new, reopen=reopen, now=datetime.now(UTC))
        basis, lines = seen.basis, [] if as_json else decide_key.effect_in_words(seen)
        if drop and not as_json:
            lines += database.call(effects_of_withdrawal, [item], datetime.now(UTC))
        say(*lines)
        if as_json and dry_run:
            print_json({"rekeying": asdict(seen.done), "shift": seen.shift.as_dict(), "steps": seen.steps})
    if not dry_run:
        confirm(f"change the key of {item}?", yes)
        done = decide_key.rekey(database, item, new, by=by, reason=reason, reopen=reopen, seen=basis)
        print_correction(done, as_json)


@app.command("list", epilog="Example: irt items list --withdrawn")
def list_(
    withdrawn: Annotated[
        bool, typer.Option("--withdrawn", help="Only items that are, or will be, out of use.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the items of the bank, and whether they are in use."""
    with current_database().connect() as connection:
        bank = connection.execute("SELECT item_id, scale_id, topic_id FROM question ORDER BY 2, 1").fetchall()
        status = item_status(connection)
    shown = [row for row in bank if not withdrawn or (row[0] in status and status[row[0]].is_withdrawn)]
    if as_json:
        print_json(
            [
                {
                    "item_id": item,
                    "scale_id": scale,
                    "topic_id": topic,
                    "status": vars(status[item]) if item in status else None,
                }
                for item, scale, topic in shown
            ]
        )
        return
    if shown:
        rows = [
            (item, scale, topic, status[item].sentence if item in status else "in use") for item, scale, topic in shown
        ]
        print_blocks(table(("item", "scale", "topic", "use"), rows))
    out_of_use = sum(use.is_withdrawn for use in status.values())
    say(f"{len(bank):,} items, {out_of_use:,} of them withdrawn")


@app.command(epilog="Example: irt items pipeline --stuck")
def pipeline(
    scale: Annotated[str | None, typer.Option(help="Only items of this scale.")] = None,
    stage: Annotated[
        Stage | None, typer.Option(help="Only items at this stage. Drafts and published items have no row.")
    ] = None,
    stuck: Annotated[bool, typer.Option("--stuck", help="Only items that do not get ahead, with the remedy.")] = False,
    to: Annotated[Path | None, typer.Option(help="File to write the items to, .csv or .xlsx.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the new items as of the last night, and the topics that run short.

    Items have values, forecast and obstacles. A topic runs short if it has
    fewer items in use than a stored blueprint needs.
    """
    if to is not None and to.suffix not in (".csv", ".xlsx"):
        raise PermanentFailure(f"--to takes a file named .csv or .xlsx, not {to}")
    with current_database().connect() as connection:
        stages = {each.item_id: each.stage for each in item_stages(connection, scale)}
        found = read_pipeline(connection, scale)
        scales, now = read_scales(connection) if scale is None else [scale], datetime.now(UTC)
        supplies = [own for name in scales for own in read_supplies(connection, name, now)]
    chosen = (stage,) if stage else UNPUBLISHED
    items = [item for item in found if stages[item.item_id] in chosen and (item.stuck or not stuck)]
    rows = [{"stage": stages[item.item_id]} | item.as_row() for item in items]
    if to is not None:
        write_export(pd.DataFrame(rows), "csv" if to.suffix == ".csv" else "xlsx", to, "new items")
        say(f"{quantity(len(rows), 'new item')} in {to}")
    elif as_json:
        print_json(rows)
    else:
        remedies = (f"{item.item_id}: {item.remedy}" for item in items if item.stuck)
        shortages = (sentence(own.shortage) for own in supplies if own.shortage)
        print_blocks(items_table(items), *map(Paragraph, (*remedies, *shortages)))


@app.command(epilog="Example: irt items analyse choices.csv --key key.csv --out analysis")
def analyse(
    file: Responses,
    mapping: Mapping = None,
    key: Key = None,
    max_score: MaxScore = None,
    missing: Missing = None,
    omitted: Omitted = None,
    denominator: Denominator = 1,
    marks_off: MarksOff = 0,
    folder: Annotated[Path | None, typer.Option("--out", help="Folder for items.csv, options.csv, forms.csv.")] = None,
    as_json: AsJson = False,
    suggest: Suggest = False,
) -> None:
    """Analyse the items and options of a file of answers, without a model or a database."""
    if suggest:
        print_suggestion([file], key=key, command="items analyse")
        return
    answers = read_answers(
        file,
        key,
        max_score,
        missing,
        folder,
        mapping,
        omitted=omitted,
        denominator=denominator,
        marks_off=marks_off,
        classical=True,
    )
    print_result(analyse_answers(answers), as_json, folder)
