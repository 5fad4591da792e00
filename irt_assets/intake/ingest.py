"""Add answers from tables in memory to the log: clean them, compare them with the log, and store each exactly once.

A `Source` yields tables, whether it has ten rows or ten million. This module has the order of the steps, which are one
transaction, and the errors that concern a whole source. What does not belong here: opening files (see `load`), errors
of a single answer (see `clean`), and the statements that compare answers (see `staging`).
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping as Map, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import PurePath

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.common.wording import quantity, some_of
from irt_assets.intake.arrivals import Arrival
from irt_assets.intake.clean import Cleaner, Columns, Limits, Refusals
from irt_assets.intake.library_files import refusals
from irt_assets.intake.mapping import Mapping, bind_attempts, unknown_header, with_prefix
from irt_assets.intake.matrix import Patterns, item_columns
from irt_assets.intake.max_scores import NewMaximum, follow_new_maxima, known_maxima, record_maxima
from irt_assets.intake.report import (
    ERASED,
    ImportReport,
    RefusedRow,
    Reject,
    with_learner_id,
)
from irt_assets.intake.scoring import (
    REMEDIES,
    AsGiven,
    AsRecorded,
    ByKey,
    FromPoints,
    Scoring,
    Tally,
    scores_error,
)
from irt_assets.intake.sources import BadRow, Batch, Source, names_of, plain_rows
from irt_assets.intake.staging import Staging, wait_for_posts
from irt_assets.intake.times import ZoneNeeded, find_zone
from irt_assets.scales.item_keys import Key
from irt_psychometrics.cells import FREQUENCY_NAMES, describe_cells
from resources.failures import PermanentFailure, TransientFailure
from resources.postgres.database import one_value

Progress = Callable[[int, int | None], None]
MAX_ANSWERS = 2**19  # number of answers that are cleaned at once


def ingest_answers(
    connection: psycopg.Connection,
    sources: Sequence["AnswerSource"],
    report: ImportReport,
    reject: Reject,
    limits: Limits,
    *,
    scoring: Scoring = AsGiven(),  # noqa: B008 - it is frozen and holds nothing
    strict: bool = False,
    progress: Progress | None = None,
    staging: Staging | None = None,
) -> None:
    """Add the answers of `sources` to the log, in the transaction of `connection`, and their counts to `report`.

    `limits`: from `limits_of`. `staging`: tables that hold the answers while they are compared (None: new tables, for
    files). The other parameters are as in `import_attempts`. Raises PermanentFailure if a source is at fault, and
    TransientFailure if an item's maximum score changes meanwhile; the caller must then end the transaction.
    """
    rows = sum(given.source.rows for given in sources)
    report_share = progress or (lambda _done, _total: None)
    staging = staging or Staging(connection)
    limits = replace(limits, each_alone=staging.each_alone)
    arrivals = [Arrival(connection, staging.kind, given.name, reject) for given in sources]
    scoring = _with_tops(with_recorded_maxima(connection, scoring), sources, limits, staging)
    keys, by_file = _recorded_keys(scoring, staging), scoring
    scoring = _with_decided_keys(by_file, keys)
    declared: dict[str, int] = {}
    months: set[str] = set()
    read = 0

    def clean_answers(given: AnswerSource, arrival: Arrival) -> Iterator[pa.RecordBatch]:
        nonlocal read
        for batch, answers in given.answers(limits, arrival.report, arrival.refuse, scoring):
            yield answers
            arrival.update_latest(pc.max(answers["completed_at"]).as_py())
            days = pc.unique(pc.floor_temporal(answers["completed_at"], unit="month"))
            months.update(f"{day:%Y-%m}" for day in days.to_pylist())
            read += batch.rows.num_rows
            report_share(read, 2 * rows)

    erasure_of = staging.names_of_erased()
    for given in sources:
        given.recorded_keys, given.erasure_of = keys, erasure_of
    for number, (given, arrival) in enumerate(zip(sources, arrivals, strict=True)):
        staging.add(number, clean_answers(given, arrival))
        report.notes += arrival.report.notes
        declared |= given.declared_maxima(scoring)
    staging.lock()
    locked_keys = _recorded_keys(scoring, staging)
    if changed_keys := [i for i in keys.keys() | locked_keys.keys() if keys.get(i) != locked_keys.get(i)]:
        staging.score_by_keys(changed_keys)
    scoring = _with_decided_keys(by_file, locked_keys)
    records = {item: scoring.record(item) for given in sources for item in given.tally.answers}
    if records:
        _check_records(connection, staging, records, proposed_prefix(sources[0].name))
        _require_same_maxima(connection, scoring, records)
    for number, given in enumerate(sources):
        if limits.start is not None and given.is_matrix:
            report.notes += _former_ids_notes(given, *staging.use_former_ids(number, given.file_id))
    declared, changed = _record_declared(connection, declared) if declared else ({}, [])
    report.notes += follow_new_maxima(connection, sources[0].name, changed)
    verdicts = staging.judge(strict=strict)
    if erased := sum(n for (_, reason), n in verdicts.items() if reason == ERASED):
        report.notes.append(f"{erased:,} rows of erased learners were left out: {', '.join(staging.erasures())}")
    _count_verdicts(staging, sources, arrivals, verdicts)
    if any(arrival.report.accepted for arrival in arrivals):
        if verdicts:
            staging.drop_judged()
        names = [given.name for given in sources]
        if any(given.has_revisions for given in sources):
            _count_corrections(arrivals, staging.replace_corrected(names))
        staging.add_answers(months, lambda share: report_share(rows + int(share * rows), 2 * rows))
        # After the answers, because a post of the same new learner waits from here to the end of the transaction.
        report.new_items, report.new_learners = staging.add_items_and_learners()
        if ruled := {item: record for item, record in records.items() if record}:
            staging.record(ruled)
        if declared:
            record_maxima(connection, declared)  # new items were not in the bank before
        if posted := staging.judge_posted_meanwhile(names):
            corrected, posted_verdicts = posted
            _count_corrections(arrivals, corrected)
            _count_verdicts(staging, sources, arrivals, posted_verdicts)
    if changed:
        wait_for_posts(connection)
        follow_new_maxima(connection, sources[0].name, changed)  # for answers that were posted meanwhile
    arrivals[0].report.clock_ahead = staging.clock_ahead
    for arrival in arrivals:
        arrival.store_counts()
        report.include(arrival.report)
    report_share(2 * rows, 2 * rows)


class AnswerSource:
    """A source of answers with its mapping.

    Raises PermanentFailure if no mapping fits its columns, its time zone is unknown, its answers are scored already
    although a key is given, or its times contradict `at`, the day of a source without times.
    """

    def __init__(
        self,
        source: Source,
        rules: Mapping | None,
        at: date | None,
        scoring: Scoring = AsGiven(),  # noqa: B008
        missing: Map[str, Sequence[str]] | None = None,
        prefix: str = "",
    ) -> None:
        self.source = source
        self.tally = Tally()
        self.items: set[str] = set()
        self.name = source.name
        self.erasure_of: Callable[[str], str] = lambda _user_id: ""
        self.recorded_keys: Map[str, Key] = {}
        self._guessed = rules is None
        binding = bind_attempts(rules, self.name, source.columns).with_null_values(missing or {})
        self._binding = binding.with_prefix(prefix)
        self._mapping = self._binding.mapping
        frequencies = [name for name in source.columns if name.lower() in FREQUENCY_NAMES]
        if self._guessed and self.is_matrix and frequencies:
            raise PermanentFailure(
                f"{self.name}: the column {frequencies[0]} looks like the number of learners who gave a row's answers."
                f" If it is, give --frequency {frequencies[0]}; otherwise rename or delete it"
            )
        if isinstance(scoring, ByKey) and not self.has_choices and self._mapping.preset:
            scored = self._binding.columns.get("correct") or self._binding.columns["score"]
            raise PermanentFailure(
                f"{self.name}: --key scores choices, and this is a list of answers that are scored already"
                f" ({self._mapping.name}: column {'/'.join(scored)}). Leave --key out, or name the column of choices in"
                " a mapping file: columns: {response: …}."
            )
        named = self._mapping.time.zone
        check_zone(named, f"{self._mapping.name}: time zone {named} is unknown")
        times = "/".join(self._binding.columns.get("completed_at", ()))
        if not times and at is None:
            raise PermanentFailure(
                f"{self.name} has no times ({self._mapping.name}: no column is completed_at). Give its day with --at"
                " DATE, such as --at 2026-10-01, and the order of its rows is kept within that day; or name the"
                " column of times in a mapping file."
            )
        if times and at is not None:
            raise PermanentFailure(f"{self.name} has times (column {times}): leave --at out")

    def answers(
        self,
        limits: Limits,
        report: ImportReport,
        reject: Reject,
        scoring: Scoring = AsGiven(),  # noqa: B008
    ) -> Iterator[tuple[Batch, pa.RecordBatch]]:
        """Yield each batch with its valid answers. Refused answers are counted in `report` and passed to `reject`.

        Raises PermanentFailure if times need a zone and, after the last batch, if scores are not 0 and 1 and no rule
        says which are right.
        """
        kind = "preset" if self._mapping.preset else "mapping"
        report.notes.append(f"{self.name}: {self.source.kind}, {self.source.encoding}, {kind} {self._mapping.name}")
        by_key = isinstance(scoring, ByKey)
        scoring = self._source_scoring(scoring)
        items = self._items(scoring, report)
        file_id = self.file_id if limits.start is not None else ""
        cleaner = Cleaner(self._binding, limits, file_id, items, scoring)
        self.tally = cleaner.tally
        patterns = Patterns()
        for batch in self._batches(items):
            try:
                cleaned = cleaner.clean(batch)
            except ZoneNeeded as error:
                raise PermanentFailure(
                    f"{self.name}: times without a zone, such as {error.example}. Give their zone:"
                    " --zone Europe/Berlin, for example, or --zone UTC. Times with a zone are not changed."
                ) from error
            if scoring.maxima.by_pattern:
                self.items.update(pc.unique(cleaned.answers["item_id"]).to_pylist())
            report.read += len(cleaned.answers) + len(cleaned.refused.rows) + len(batch.bad)
            report.rejected.update(bad.reason for bad in batch.bad)
            report.rejected.update(cleaned.refused.reasons)
            reject(RefusedRow(self.name, bad.line, bad.reason, *self._texts(bad)) for bad in batch.bad)
            self.refuse(batch, cleaned.refused, reject)
            if self.is_matrix:
                patterns.add(cleaned.answers, scoring.maxima)
            yield batch, cleaned.answers
        self._check_scores(scoring)
        with refusals():
            report.notes += cleaner.choices.notes(self.name, name_absent=by_key)
        if isinstance(scoring, AsGiven) and (keyed := self.tally.answers.keys() & scoring.keys.keys()):
            report.notes.append(f"{self.name}: scored by the keys in the bank: {quantity(len(keyed), 'item')}")
        notes = cleaner.notes + describe_cells(cleaner.no_answers, cleaner.shortened_ids, *patterns.sums())
        report.notes += [f"{self.name}: {note}" for note in notes]

    def _source_scoring(self, scoring: Scoring) -> Scoring:
        """Return the scoring rule with the recorded keys and the maximum scores that the mapping declares.

        Choices are scored by the recorded keys, as in a post. If the source has no score, every item needs a key.
        """
        if isinstance(scoring, AsGiven) and ("response" in self._binding.columns or self._has_matrix_of_responses):
            if self._has_no_score:
                return ByKey(self.recorded_keys)
            scoring = replace(scoring, keys=self.recorded_keys)
        if not self._mapping.max_scores or not isinstance(scoring, AsGiven | AsRecorded):
            return scoring
        options = scoring.maxima.by_pattern
        declared = {**options, **self._mapping.max_scores, **options}  # options come first and override the mapping
        return replace(scoring, maxima=replace(scoring.maxima, by_pattern=declared))

    def declared_maxima(self, scoring: Scoring) -> dict[str, int]:
        """The maximum scores that this import declares, for the items with answers."""
        maxima = self._source_scoring(scoring).maxima
        found = {item: maxima.fitting(item) for item in self.items} if maxima.by_pattern else {}
        return {item: most for item, most in found.items() if most}

    @property
    def file_id(self) -> str:
        """Prefix of the ids of answers that have neither an id nor a time."""
        return self.source.sha256[:16]

    @property
    def is_matrix(self) -> bool:
        return self._mapping.wide is not None

    @property
    def has_choices(self) -> bool:
        return self.is_matrix or "response" in self._binding.columns

    @property
    def _has_matrix_of_responses(self) -> bool:
        return self._mapping.wide is not None and bool(self._mapping.wide.responses)

    @cached_property
    def _has_no_score(self) -> bool:
        """Whether a list has no column of scores, or only empty ones. Reads rows up to the first score."""
        if self.is_matrix:
            return False
        named = {"correct", "score"} & {*self._binding.columns, *self._mapping.constants}
        cells = (Columns(self._binding).our_column(b.rows, name) for b in self.source.batches() for name in named)
        return not named or all(column.null_count == len(column) for column in cells)

    @property
    def has_revisions(self) -> bool:
        """Whether its rows may correct answers in the log."""
        return "revision" in {*self._binding.columns, *self._mapping.constants}

    def count(self, limits: Limits, scoring: Scoring) -> Tally:
        """Tally the scores of the whole source."""
        scoring = self._source_scoring(scoring)
        items = self._items(scoring, ImportReport())
        cleaner = Cleaner(self._binding, limits, "", items, scoring)
        for batch in self._batches(items):
            cleaner.count(batch)
        return cleaner.tally

    def _batches(self, items: Sequence[str]) -> Iterator[Batch]:
        """The source's batches, split so that each has at most `MAX_ANSWERS` answers: a row of a matrix has one per
        item."""
        for batch in self.source.batches():
            yield from batch.split(max(1, MAX_ANSWERS // max(1, len(items))))

    def _check_scores(self, scoring: Scoring) -> None:
        """Raise PermanentFailure if the scoring rule does not fit the scores of the tally."""
        highest = max(self.tally.tops.values(), default=1.0)
        if isinstance(scoring, FromPoints) and scoring.at is not None and highest < scoring.at:
            raise PermanentFailure(
                f"{self.name}: --dichotomise at={scoring.at:g} leaves no answer right: the highest score is {highest:g}"
            )
        if not isinstance(scoring, AsGiven):
            return
        reasons = self.tally.reasons_for_points()
        if self.is_matrix and self._mapping.preset and self.tally.has_marks_taken_off:
            reasons = [f"{self.tally.below:,} scores lie from -1 to below 0", *reasons]
        if self.is_matrix:  # all cells of an item's column are scores, so one score above 1 is enough
            reasons = reasons or [
                f"item {item} has scores up to {self.tally.tops[item]:g}" for item in self.tally.beyond
            ]
        if reasons:
            raise scores_error(self.name, reasons)

    def _texts(self, bad: BadRow) -> tuple[str, str]:
        """Value and text of a row that could not be read.

        Both are empty if ids in the log may differ from ids in the file, because then an erasure could not find the
        row.
        """
        return ("", "") if self._binding.makes_learners_ids else (bad.value, bad.raw)

    def refuse(self, batch: Batch, refused: Refusals, reject: Reject) -> None:
        rows, row_of = np.unique(refused.rows, return_inverse=True)  # a row of a matrix has many answers
        taken = batch.rows.take(pa.array(rows))
        users = Columns(self._binding).our_column(taken, "user_id").to_pylist()
        raws = [with_learner_id(self.source.raw(row), user) for user, row in zip(users, plain_rows(taken), strict=True)]
        lines = batch.lines[refused.rows].tolist()
        refusals = zip(lines, refused.reasons, refused.values, row_of.tolist(), strict=True)
        reject(
            RefusedRow(self.name, line, reason, "", "")
            if reason == ERASED or (users[row] is not None and self.erasure_of(users[row]))
            else RefusedRow(self.name, line, reason, value, raws[row])
            for line, reason, value, row in refusals
        )

    def _items(self, scoring: Scoring, report: ImportReport) -> list[str]:
        """The columns of a matrix that are items, inferred from the whole file; empty for a list."""
        if self._mapping.wide is None:
            return []
        items, aside, points, constant = item_columns(self._binding, self.source.batches(), scoring)
        if isinstance(scoring, AsGiven) and "*" in self._mapping.wide.items:
            if points and (items or 2 * len(points) > len(aside)):
                named = [f"column {name} has scores up to {most}" for name, most in points.items()]
                raise scores_error(self.name, named)
            if self._guessed and len(items) <= len(aside) and aside:
                why = "no preset fits, and it is not a matrix of 0/1 scores"
                raise unknown_header(self.name, self.source.columns, why, remedies=REMEDIES)
        if aside and not items:
            problem = "names an item of the key" if isinstance(scoring, ByKey) else "is an item"
            raise PermanentFailure(
                f"{self.name}: no column {problem}. Columns: {names_of(self.source.columns)}.\n{REMEDIES}"
            )
        if items:
            report.notes.append(f"{self.name}: {len(items)} items, {items[0]} … {items[-1]}")
        if aside:
            named = [f"{name} ({why})" if why else name for name, why in aside.items()]
            report.notes.append(f"{self.name}: not items, left out: {names_of(named, 20)}")
        if constant:
            report.notes.append(
                f"{self.name}: items with the same value for everyone: {some_of(constant, 10)}. Name the items in a"
                " mapping file if these are not items (wide: {items: …})"
            )
        return items


def _former_ids_notes(given: AnswerSource, cells: int, surplus: int) -> list[str]:
    """The notes on answers of a matrix that keep the ids of version 1.0."""
    if not cells:
        return []
    ids = f"ids that version 1.0 made ({given.file_id}-…)"
    note = f"{given.name}: {cells:,} answers are in the log under {ids}; they keep them"
    if surplus:
        note += (
            f". {surplus:,} more answers to these items are in the log from the same file, which was imported with"
            " different columns as items: docs/reference/import.md, Duplicates, lists their ids for"
            " irt attempts withdraw"
        )
    return [note]


def with_recorded_maxima(connection: psycopg.Connection, scoring: Scoring) -> Scoring:
    """Add the maximum scores of the bank to the rule `AsGiven`; other rules are returned unchanged."""
    if not isinstance(scoring, AsGiven):
        return scoring
    recorded = {item: most for item, most in known_maxima(connection).items() if most}
    return AsGiven(replace(scoring.maxima, by_item=recorded))


def _require_same_maxima(connection: psycopg.Connection, scoring: Scoring, items: Collection[str]) -> None:
    """Raise TransientFailure if the maximum score of an item has changed since its answers were read."""
    if not isinstance(scoring, AsGiven):
        return
    before = scoring.maxima.by_item
    for item, most in known_maxima(connection, items).items():
        if most != before.get(item):
            raise TransientFailure(
                f"the maximum score of item {item} changed while its answers were read: nothing was imported, so "
                "import them again"
            )


def _record_declared(
    connection: psycopg.Connection, declared: Map[str, int]
) -> tuple[dict[str, int], list[NewMaximum]]:
    """Record the declared maximum scores, before answers are compared by them.

    Returns the maximum scores that are declared for the first time, and the ones among them that change an item of the
    bank. Raises PermanentFailure if a declared maximum score differs from the recorded one.
    """
    known = known_maxima(connection, declared)
    for item, most in known.items():
        if most not in (None, declared[item]):
            raise PermanentFailure(
                f"item {item}: its record has max_score {most}, but this import declares {declared[item]}. Leave it "
                "out here, or change the record first: irt import questions, with the columns item_id,max_score."
            )
    new = {item: most for item, most in declared.items() if known.get(item) is None}
    record_maxima(connection, new)
    return new, [NewMaximum(item, 1, new[item]) for item in known.keys() & new if new[item] > 1]


def _with_tops(scoring: Scoring, sources: Sequence[AnswerSource], limits: Limits, staging: Staging) -> Scoring:
    """Set the full marks of `FromPoints(None)`: an item's highest score in all sources and earlier imports."""
    if not isinstance(scoring, FromPoints) or scoring.at is not None:
        return scoring
    recorded = staging.recorded_values("dichotomise").items()
    tops = {item: float(rule.removeprefix("full=")) for item, rule in recorded if rule.startswith("full=")}
    for given in sources:
        tally = given.count(limits, scoring)
        for item in tally.answers:
            tops[item] = max(tally.tops.get(item, 1.0), tops.get(item, 1.0))
    return FromPoints(None, tops)


def _recorded_keys(scoring: Scoring, staging: Staging) -> dict[str, Key]:
    """Return the recorded keys, if they may score a file's choices. Posts and pulls read them under their lock."""
    return staging.recorded_values("key") if isinstance(scoring, AsGiven | ByKey) else {}


def _with_decided_keys(scoring: Scoring, recorded: Map[str, Key]) -> Scoring:
    """Let a recorded key that is not one option, which a key file cannot contain, take precedence over the file's."""
    if not isinstance(scoring, ByKey):
        return scoring
    decided = {i: key for i, key in recorded.items() if i in scoring.keys and not isinstance(key, str)}
    return ByKey({**scoring.keys, **decided})


def with_prefix_of_items(scoring: Scoring, prefix: str) -> Scoring:
    """Put the prefix before the items that the rule names, as `Binding.with_prefix` does in a mapping."""
    if isinstance(scoring, ByKey):
        return replace(scoring, keys=with_prefix(scoring.keys, prefix))
    if isinstance(scoring, AsGiven):
        return replace(
            scoring, maxima=replace(scoring.maxima, by_pattern=with_prefix(scoring.maxima.by_pattern, prefix))
        )
    return scoring


def keys_of(connection: psycopg.Connection, items: Sequence[str]) -> dict[str, Key]:
    """Read the recorded keys of these items: item → key."""
    query = "SELECT item_id, meta->'key' FROM question WHERE item_id = ANY(%s) AND jsonb_exists(meta, 'key')"
    return dict(connection.execute(query, [list(items)]).fetchall())


def proposed_prefix(file: str) -> str:
    """Propose a prefix for the ids of a file's items, from the file's name."""
    return re.sub(r"\W+", "-", PurePath(file).name.partition(".")[0]).strip("-").lower() + "-"


def _check_records(
    connection: psycopg.Connection, staging: Staging, records: dict[str, dict[str, Key]], prefix: str
) -> None:
    """Raise PermanentFailure if earlier answers to an item were scored by a different rule."""
    if ruled := [item for item, record in records.items() if record]:
        for item, most in known_maxima(connection, ruled).items():
            if (most or 1) > 1:
                raise PermanentFailure(
                    f"item {item}: its record has max_score {most}, but this import makes its scores right and wrong. "
                    "Leave the option out to keep its scores, or use a different item id."
                )
    for name in ("dichotomise", "key"):
        for item, earlier in staging.recorded_values(name).items():
            now = records.get(item, {}).get(name)
            if item in records and now != earlier and (now is not None or name == "dichotomise"):
                raise PermanentFailure(
                    f"item {item}: its record has {name} {earlier}, but this import "
                    + (f"has {name} {now}" if now else "uses its scores unchanged")
                    + ". All answers to an item need the same rule: give the same option, or use a different item id"
                    f" (--prefix {prefix}, if this is another test with the same names of items)."
                )


def limits_of(
    connection: psycopg.Connection,
    first_month: str,
    zone: str | None = None,
    at: date | None = None,
    ahead: timedelta = timedelta(0),
) -> Limits:
    """The range of valid times of answers, by the database's clock.

    `ahead`: tolerance for senders whose clocks are ahead of it. The other parameters are as in `import_attempts`.
    Raises PermanentFailure if `at` is before the first month or in the future.
    """
    now: datetime = one_value(connection, "SELECT now()")
    first = datetime.fromisoformat(f"{first_month}-01").replace(tzinfo=UTC)
    if at is None:
        return Limits(_micros(first), _micros(now + ahead), zone)
    start = datetime(at.year, at.month, at.day, tzinfo=UTC)
    if not first <= start <= now:
        raise PermanentFailure(f"--at {at}: give a day from {first.date()} (the first month) to {now.date()}")
    return Limits(_micros(first), _micros(now), zone, _micros(start))


def _count_corrections(arrivals: Sequence[Arrival], corrected: Counter[int]) -> None:
    for number, n in corrected.items():
        arrivals[number].report.corrected += n
        arrivals[number].report.close()


def _count_verdicts(
    staging: Staging, sources: Sequence[AnswerSource], arrivals: Sequence[Arrival], verdicts: Counter[tuple[int, str]]
) -> None:
    """Count the verdicts. If the database refused rows, read the sources again and pass these rows to `reject`."""
    for (number, reason), n in verdicts.items():
        arrivals[number].report.count_verdicts(reason, n)
    for arrival in arrivals:
        arrival.report.close()
    refusals = staging.refusals()
    pending = next(refusals, None)
    for number, given in enumerate(sources):
        if pending is None or pending["source"] != number:
            continue
        for batch in given.source.batches():
            lines, reasons, values = [], [], []
            last = batch.lines.max(initial=0)
            while pending is not None and pending["source"] == number and pending["line"] <= last:
                lines.append(pending["line"])
                reasons.append(pending["reason"])
                values.append(pending["value"])
                pending = next(refusals, None)
            rows = np.searchsorted(batch.lines, np.array(lines, dtype=np.int64))
            given.refuse(batch, Refusals(rows, reasons, values), arrivals[number].refuse)


def _micros(time: datetime) -> int:
    return round(time.timestamp() * 1_000_000)


def check_zone(name: str | None, problem: str) -> None:
    """Raise PermanentFailure with the text `problem` if there is no such time zone."""
    if name is not None and find_zone(name) is None:
        raise PermanentFailure(f"{problem}. Give an IANA name, such as Europe/Berlin or UTC.")
