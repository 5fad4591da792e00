"""Import of answers from files: the options and the opened files, handed to `ingest_answers`."""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

from irt_assets.intake.ingest import (
    AnswerSource,
    Progress,
    check_zone,
    ingest_answers,
    limits_of,
    with_prefix_of_items,
)
from irt_assets.intake.mapping import AUTO, PATTERNS, encoding_of, load_mapping
from irt_assets.intake.readers import open_source
from irt_assets.intake.report import ImportReport, Reject, ignore_rows
from irt_assets.intake.scoring import max_scores_of, scoring_of
from resources.postgres.database import Database


def import_attempts(
    database: Database,
    files: Sequence[Path],
    *,
    mapping: str | Path = AUTO,
    zone: str | None = None,
    at: date | None = None,
    strict: bool = False,
    dry_run: bool = False,
    dichotomise: str | None = None,
    key: Path | None = None,
    max_scores: Sequence[str] = (),
    missing: Mapping[str, Sequence[str]] | None = None,
    encoding: str | None = None,
    frequency: str | None = None,
    prefix: str = "",
    first_month: str,
    reject: Reject = ignore_rows,
    progress: Progress | None = None,
) -> ImportReport:
    """Import the answers of `files`. On any error, nothing is imported.

    Args:
        mapping: name of a preset, a mapping file, or "auto".
        zone: IANA name of the zone of times without a zone.
        at: day of a log that has no times.
        strict: refuse unknown items and learners instead of adding them.
        dry_run: do everything but commit.
        dichotomise: "full" or "at=K", for points; recorded with the items.
        key: table item,key, for a matrix of choices; recorded with the items.
        max_scores: "ITEM=M", or "M" for all items, for scores; recorded with the items.
        missing: column or pattern of columns → further texts that mean no answer, besides the mapping's `null_values`.
        encoding: encoding of files that are not UTF-8; by default the mapping's.
        frequency: column of a matrix with the number of persons whose answers a row has; by default the mapping's.
        prefix: text before the ids of all items; by default the mapping's. Keys and maximum scores have the items'
            names in the file.
        first_month: YYYY-MM; earlier answers are refused.
        reject: called with the refused rows.
        progress: called with the rows done and the total. Each row counts when it is read and when it is stored.

    Raises PermanentFailure with the remedy if the files or the arguments are wrong.
    """
    check_zone(zone, f"--zone {zone}: unknown")
    rules = load_mapping(mapping)
    if frequency is not None:
        rules = (rules or PATTERNS).model_copy(update={"frequency": frequency})
    encoding = encoding_of(encoding, rules)
    scoring = scoring_of(dichotomise, key, max_scores_of(max_scores), encoding, rules.keys if rules else None)
    prefix = prefix or (rules.prefix if rules else "")
    scoring = with_prefix_of_items(scoring, prefix)
    opened = [open_source(Path(file), encoding, rules) for file in files]
    sources = [AnswerSource(source, rules, at, scoring, missing, prefix) for source in opened]
    report = ImportReport(scoring=f"dichotomise {dichotomise}" if dichotomise else f"key {key}" if key else "")
    if report.scoring:
        report.notes.append(f"scored by --{report.scoring}; each item's record contains the rule")
    with database.connect() as connection:
        ingest_answers(
            connection,
            sources,
            report,
            reject,
            limits_of(connection, first_month, zone, at),
            scoring=scoring,
            strict=strict,
            progress=progress,
        )
        if dry_run:
            connection.rollback()
    return report
