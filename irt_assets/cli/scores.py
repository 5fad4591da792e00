"""The commands of `irt scores`. Decisions are recorded after a confirmation.

Exit codes: 0 done; 1 not confirmed; 2 the request is wrong.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any
from zipfile import ZipFile

import typer

from irt_assets.blocks import Moment, Section, pairs, pdf, table
from irt_assets.cli.console import AsJson, DryRun, ScaleId, Yes, confirm, out, print_blocks, print_json, say
from irt_assets.cli.deciding import confirm_decision
from irt_assets.cli.documents import write_document, write_file
from irt_assets.cli.installation import (
    By,
    Reason,
    current_database,
    current_settings,
    require_reason,
    signature,
)
from irt_assets.common.arrays import finite
from irt_assets.common.partitions import month_of
from irt_assets.common.wording import quantity, sentence, some_of
from irt_assets.decisions.exports import write_export
from irt_assets.item_analysis.stored import analysed_months
from irt_assets.reports.equating_blocks import equating_blocks
from irt_assets.reports.learner_week import file_name
from irt_assets.reports.learner_words import LetterLanguage
from irt_assets.reports.letter_blocks import document, read_letterhead
from irt_assets.reports.letter_facts import read_letters, read_names, scores_that_count
from irt_assets.reports.score_blocks import score_table
from irt_assets.scales.scale import initialised_scale
from irt_assets.scores import standards
from irt_assets.scores.equating import choice_of_method, choose_equating, compare_methods, preview_choice
from irt_assets.scores.form_tables import FormTable, as_rows, compute_month, newest_tables, tables_overview
from irt_assets.scores.issued import IssuedScore, Status, current_scores
from irt_assets.scores.issuing import change_status, issue_scores, preview_issue, scores_to_change
from irt_assets.scores.left_out import COUNT_ITEMS_AGAIN, LEAVE_ITEMS_OUT, ScoringRequest
from irt_assets.scores.releases import find_table, preview_release, release_table, released_tables, table_decisions
from resources.failures import PermanentFailure

app = typer.Typer(no_args_is_help=True)

MAX_LISTED = 30
PAGE_ONLY = ("differences", "equivalents")
"""Sections of a comparison of equatings that are too wide for a terminal; --json has their numbers."""
Form = Annotated[str, typer.Argument(help="Form id.")]
OfMonth = Annotated[datetime | None, typer.Option("--month", formats=["%Y-%m"], help="Month, YYYY-MM.")]


@app.command("table", epilog="Example: irt scores table F1 --to f1.xlsx")
def table_(
    form: Annotated[str | None, typer.Argument(help="Form id. Default: an overview of all forms.")] = None,
    month: OfMonth = None,
    released: Annotated[bool, typer.Option("--released", help="Released tables, not the newest ones.")] = False,
    to: Annotated[Path | None, typer.Option(help="File to write the scores to, .csv or .xlsx.")] = None,
    scale: ScaleId = "default",
    as_json: AsJson = False,
) -> None:
    """Show the score table of a form, or list the tables of all forms.

    `irt score-table` makes the table of a form from a file of items.
    """
    named, now = _month(month), datetime.now(UTC)
    with current_database().connect() as connection:
        in_force = released_tables(connection, scale)
        if form is not None:
            listed, missing = {form: find_table(connection, scale, form, month=named, released=released)}, {}
        else:
            of_scale = initialised_scale(connection, scale, now)
            listed = in_force if released else newest_tables(connection, scale, named)
            of = named or [month_of(now), *analysed_months(connection, scale)][-1]
            made, without = compute_month(connection, of_scale, of)
            by_theta = of_scale.rules.scores.score_by == "theta"
            later = "scores are reported by θ" if by_theta else f"form_score_tables of {of} has not been materialised"
            without |= {each.form_id: later for each in made}
            missing = {name: why for name, why in without.items() if name not in listed}
    if to is not None:
        if to.suffix not in (".csv", ".xlsx"):
            raise PermanentFailure(f"--to takes a file named .csv or .xlsx, not {to}")
        write_export(as_rows(listed.values()), "csv" if to.suffix == ".csv" else "xlsx", to, f"score tables, {scale}")
        say(f"{quantity(len(listed), 'score table')} in {to}")
    elif as_json:
        print_json({"tables": [*map(_as_dict, listed.values())], "without": missing})
    elif form is not None:
        print_blocks(score_table(listed[form]))
        say(*map(sentence, [listed[form].passing_in_words, *listed[form].remarks]))
    else:
        numbers = [in_force[name].table_id if name in in_force else None for name in listed]
        print_blocks(tables_overview([*listed.values()]).with_column("released table", numbers))
        if missing:
            print_blocks(table(("form", "without a table, because"), missing.items()))
        elif not listed:
            say("a score table needs the list of a form's items: `irt import forms FILE`")


@app.command(epilog="Example: irt scores show F1")
def show(form: Form, scale: ScaleId = "default", as_json: AsJson = False) -> None:
    """Show where the released score table of a form comes from, the decisions on it, and the scores handed out."""
    database = current_database()
    with database.connect() as connection:
        decisions = table_decisions(connection, scale, form)
        counts = Counter(score.status for score in current_scores(connection, scale_id=scale, form_id=form))
        in_force = released_tables(connection, scale).get(form)
        newest = None if counts else find_table(connection, scale, form)
    if as_json:
        print_json({"table": in_force and _as_dict(in_force), "decisions": decisions, "scores": counts})
        return
    if in_force is None:
        newer = f"; the newest is table {newest.table_id} of {newest.month}" if newest else ""
        say(f"no score table of form {form} is released{newer}")
    else:
        last, n, made = decisions[-1], in_force.spec["n"], f"{in_force.made_at:%Y-%m-%d %H:%M} UTC"
        facts = {
            "released": f"on {last['decided_at']:%Y-%m-%d %H:%M} UTC by {last['decided_by']}: {last['reason']}",
            "table": f"{in_force.table_id}, made on {made} by irt-assets {in_force.code_version}",
            "passes": in_force.passing_in_words,
            "method": in_force.method,
            "month": in_force.month,
            "published set": in_force.set_hash,
            "items": f"{len(in_force.spec['items']):,}, maximum {in_force.table.raw.size - 1:,} points",
            "norm group": f"{quantity(n, 'learner')} of {in_force.month}" if n else "none",
            "reported scale": ", ".join(f"{name}={value}" for name, value in in_force.spec["rules"].items()),
        }
        print_blocks(Section(f"Form {form} on scale {scale}", (pairs(facts),)))
        say(*map(sentence, in_force.remarks))
    rows = [
        (
            *("none" if each["table_id"] is None else each["table_id"], each["decision_id"], each["undoes"]),
            *(each["decided_by"], Moment(each["decided_at"], database.settings.irt_time_zone), each["reason"]),
        )
        for each in reversed(decisions)
    ]
    print_blocks(table(("table", "decision", "undoes", "by", "when", "why"), rows, empty="no decisions on it yet"))
    say(f"current scores of sittings: {', '.join(f'{n:,} {status}' for status, n in counts.items()) or 'none'}")


@app.command(epilog='Example: irt scores release F1 --by Kim --reason "committee of 12 June"')
def release(
    form: Form,
    by: By,
    reason: Reason,
    number: Annotated[int | None, typer.Option("--table", help="Number of the table. Default: the newest.")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Undo the last release.")] = False,
    scale: ScaleId = "default",
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Release the score table of a form, by which scores are issued from then on.

    Prints how many scores and passes change against the table before. Scores
    that were handed out stay as they are.
    """
    database = current_database()
    seen = database.call(preview_release, scale, form, number, undo=undo)
    say(*seen.sentences)
    if not dry_run:
        confirm(f"{'undo the release for' if undo else 'release this table of'} form {form}?", yes)
        release_table(database, scale, form, number, undo=undo, by=by, reason=reason, seen=seen)
        out.print("undone" if undo else "released")
    if as_json:
        print_json(asdict(seen) | dict(zip(("table", "before"), seen.numbers, strict=True)))


@app.command(epilog='Example: irt scores issue F1 --by Kim --reason "results of June"')
def issue(
    form: Form,
    by: By,
    reason: Reason,
    month: OfMonth = None,
    again: Annotated[
        bool,
        typer.Option(
            "--again", help="Also issue scores of the month again that differ by the present table and answers."
        ),
    ] = False,
    scale: ScaleId = "default",
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Issue the scores of the sittings of a form, of a month or of the last year.

    Lists those concerned before it asks. Scores that were handed out stay as
    they are without --again.
    """
    database, now = current_database(), datetime.now(UTC)
    seen = preview_issue(database, scale, form, _month(month), now=now)
    count = len(seen.new) + again * len(seen.changed)
    say(*seen.sentences, *["--again issues them again, with --month"] if seen.changed and not again else [])
    _print_changes([*((None, score) for score in seen.new), *seen.changed])
    if not dry_run and count:
        confirm(f"issue {quantity(count, 'score')} of form {form}?", yes)
        issue_scores(database, scale, form, _month(month), again=again, by=by, reason=reason, now=now, seen=seen)
        out.print(f"issued: {quantity(count, 'score')}")
    if as_json:
        print_json(asdict(seen))


@app.command(epilog="Example: irt scores letters F1 --to letters.pdf --names names.csv")
def letters(
    form: Form,
    to: Annotated[
        Path, typer.Option(help="All letters as NAME.pdf, NAME.docx or NAME.html, or NAME.zip with a PDF per learner.")
    ],
    names: Annotated[
        Path | None,
        typer.Option(help="File with the columns user_id and name. The names are printed, and stored nowhere."),
    ] = None,
    language: Annotated[
        LetterLanguage | None, typer.Option(help="Language of all letters. Default: each learner's.")
    ] = None,
    month: OfMonth = None,
    scale: ScaleId = "default",
) -> None:
    """Write the letters to the learners of a form about their issued scores.

    Each learner gets one letter about the score that counts. Scores that are
    held or do not count get no letter.
    """
    settings, at = current_settings(), datetime.now(UTC)
    known, head = read_names(names) if names else {}, read_letterhead(settings.irt_letterhead)
    with current_database().connect() as connection:
        scores = scores_that_count(connection, scale_id=scale, form_id=form, month=_month(month))
        written = read_letters(connection, scores, zone=settings.irt_time_zone, language=language, names=known)
    if to.suffix == ".zip":
        packed = BytesIO()
        with ZipFile(packed, "w") as archive:
            for letter in written:
                archive.writestr(file_name(letter.score.user_id, "pdf"), pdf.typeset(document([letter], head, at)))
        write_file(packed.getvalue(), to, quantity(len(written), "letter"))
    else:
        write_document(document(written, head, at), to)
    unnamed = [letter.score.user_id for letter in written if names and not letter.name]
    unknown = sorted(known.keys() - {score.user_id for score in scores})
    for subject, ids in (("letters without a name", unnamed), (f"learners in {names} without a letter", unknown)):
        say(*[f"{subject} ({len(ids):,}): {some_of(ids, MAX_LISTED)}"] if ids else [])


@app.command(epilog='Example: irt scores hold F1 u-17 --by Kim --reason "copied?"')
def hold(
    form: Form,
    users: Annotated[list[str], typer.Argument(metavar="USER…", help="Learners' ids.")],
    by: By,
    reason: Reason,
    invalid: Annotated[bool, typer.Option("--invalid", help="Invalidate the scores: they do not count.")] = False,
    restore: Annotated[bool, typer.Option("--restore", help="Issue held or invalid scores as they were.")] = False,
    scale: ScaleId = "default",
    yes: Yes = False,
) -> None:
    """Hold the scores of learners on a form, invalidate them, or restore them."""
    if invalid and restore:
        raise PermanentFailure("--invalid and --restore contradict each other: give one of them")
    database = current_database()
    status: Status = "invalid" if invalid else "issued" if restore else "held"
    found = database.call(scores_to_change, scale, form, users, status)
    _print_changes((score, replace(score, status=status)) for score in found)
    confirm(f"make {quantity(len(found), 'score')} of form {form} {status}?", yes)
    change_status(database, scale, form, users, status, by=by, reason=reason, seen=found)
    out.print(f"{status}: {quantity(len(found), 'score')}")


@app.command(epilog='Example: irt scores leave-out F1 i4 i9 --by Kim --reason "no published values"')
def leave_out(
    form: Form,
    items: Annotated[list[str], typer.Argument(metavar="ITEM…", help="Item ids.")],
    by: By,
    reason: Reason,
    undo: Annotated[bool, typer.Option("--undo", help="Count the items again.")] = False,
    scale: ScaleId = "default",
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Leave items out of a form's score, or count them again.

    Prints raw scores and passes before and after. Answers and the items' values
    stay.
    """
    kind = COUNT_ITEMS_AGAIN if undo else LEAVE_ITEMS_OUT
    confirm_decision(kind, ScoringRequest(scale, form, items), by=by, reason=reason, yes=yes, dry_run=dry_run)


@app.command(epilog="Example: irt scores equate F2 F1")
def equate(
    new: Annotated[str, typer.Argument(help="The form that is equated.")],
    old: Annotated[str, typer.Argument(help="The form with a released score table.")],
    choose: Annotated[str | None, typer.Option("--choose", metavar="METHOD", help="Method to choose.")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Undo the choice of an equating of NEW.")] = False,
    by: Annotated[str, typer.Option("--by", help="Name of the person who decides.")] = "",
    reason: Annotated[str, typer.Option("--reason", help="Reason, stored with the decision.")] = "",
    scale: ScaleId = "default",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Compare the methods of equating a new form to an old one.

    With --choose, the next score table of the new form is made by that
    method's numbers. `irt equate` equates forms in files.
    """
    if undo and choose:
        raise PermanentFailure("--choose and --undo contradict each other: give one of them")
    database, now = current_database(), datetime.now(UTC)
    if choose or undo:
        by, reason = signature(by), require_reason(reason)
    if not undo:
        found = database.call(compare_methods, scale, new, old, now=now)
        if not as_json:
            print_blocks(*(block for block in equating_blocks(found) if getattr(block, "id", "") not in PAGE_ONLY))
        else:
            print_json(
                {
                    "new": new,
                    "old": old,
                    "table": found.old_table.table_id,
                    "design": found.design,
                    "learners": [found.new.n, found.old.n],
                    "common_items": list(found.anchor),
                    "baseline": found.baseline,
                    "methods": {
                        name: {
                            "equated": each.chosen.equated,
                            "se": [finite(x) for x in each.chosen.equated_se],
                            "difference": each.difference.tolist(),
                            "raw_cut": each.raw_cut,
                            "passing": each.passing,
                        }
                        for name, each in found.methods.items()
                    },
                    "without": found.without,
                    "in_force": found.in_force and asdict(found.in_force),
                }
            )
    if choose or undo:
        seen = (
            choice_of_method(found, choose) if choose else database.call(preview_choice, scale, new, old, None, now=now)
        )
        say(*([] if as_json else map(sentence, seen.sentences)))
        confirm(f"undo the equating of form {new}?" if undo else f"equate form {new} by {choose}?", yes)
        choose_equating(database, scale, new, old, choose, by=by, reason=reason, now=now, seen=seen)
        say(*([] if as_json else ["undone" if undo else "chosen"]))


@app.command(epilog="Example: irt scores standard r.csv --form F1 --panel A --by Kim --reason June")
def standard(
    by: By,
    reason: Reason,
    ratings: Annotated[
        Path | None,
        typer.Argument(
            metavar="RATINGS",
            help="File with the columns judge, item_id and rating (a probability, per cent or points); for bookmarks "
            "judge and item_id (and step), page, or location (θ).",
        ),
    ] = None,
    form: Annotated[str | None, typer.Option(help="Form whose items the panel has rated.")] = None,
    method: Annotated[standards.Method, typer.Option(help="Method of standard setting.")] = "angoff",
    panel: Annotated[str, typer.Option(help="Name of the panel, stored with the decision.")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Restore the pass mark before the last decision on it.")] = False,
    scale: ScaleId = "default",
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Set the pass mark of a scale by a panel's ratings of a form's items.

    Prints the mark with its error, and how many learners would pass, before it
    asks. The ratings' hash, the panel and the former mark stay on record.
    """
    database = current_database()
    decision = None
    if undo:
        decision, seen = database.call(standards.mark_to_undo, scale)
        lines = database.call(standards.undo_sentences, seen)
    elif ratings and form:
        seen = database.call(standards.plan_standard, scale, form, ratings, method, panel)
        lines = seen.sentences
    else:
        raise PermanentFailure("give the file of ratings and --form, or --undo to restore the former pass mark")
    if as_json:
        print_json(seen.value)
    say(*([] if as_json else lines))
    if not dry_run:
        confirm(f"change the pass mark of scale {scale}?", yes)
        standards.set_mark(database, seen, undoes=decision, by=by, reason=reason)


def _month(at: datetime | None) -> str | None:
    return None if at is None else month_of(at.replace(tzinfo=UTC))


def _print_changes(changes: Iterable[tuple[IssuedScore | None, IssuedScore]]) -> None:
    """Print one row per sitting, with its score before and after a decision."""
    rows = [
        (new.user_id, f"{new.sat_at:%Y-%m-%d}", None if old is None else _in_words(old), _in_words(new))
        for old, new in changes
    ]
    print_blocks(*[table(("learner", "sat on", "before", "after"), rows[:MAX_LISTED])] if rows else [])
    say(*[f"the first {MAX_LISTED} of {len(rows):,}; --json lists all"] if len(rows) > MAX_LISTED else [])


def _in_words(score: IssuedScore) -> str:
    passes = "" if score.passes is None else ", passes" if score.passes else ", fails"
    return f"{score.scaled:,.10g}{f' ({score.raw} points)' if score.raw is not None else ''}{passes}, {score.status}"


def _as_dict(found: FormTable) -> dict[str, Any]:
    rows = as_rows([found]).drop(columns=["scale_id", "form_id", "month", "table_id", "method"]).astype(object)
    facts = {name: value for name, value in vars(found).items() if name != "table"}
    return facts | {"scores": rows.where(rows.notna(), None).to_dict("records")}
