"""Blocks about the scores of a learner: the score that counts, every sitting, and the scores that were replaced.

The dashboard's page of the learner shows all rows. The letter to the learner hides scores that are not handed out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import psycopg

from irt_assets.blocks import Block, Cell, Document, List, Moment, Paragraph, Section, Text, table
from irt_assets.scales.scale import Scale, read_scales
from irt_assets.scores.issued import IssuedScore, counting_scores, issued_scores, newest_of_sittings
from resources.version import code_version

LEGEND = (
    "SE: standard error of the score. Percentile: rank in the norm group. Probability: that the true score passes. "
    "Table: number of the score table."
)
STATES = {"issued": "handed out", "held": "held", "invalid": "does not count"}
VERDICTS = {True: " (passed)", False: " (not passed)", None: ""}
NUMBERS = {"raw": ",", "score": ".10g", "SE": ".1f", "percentile": ".0f", "probability": ".0%"}


@dataclass(frozen=True)
class Transcript:
    """All issued scores of a learner.

    Attributes:
        rows: the rows of `issued_score`, in the order in which they were added.
        scales: the scales, by id.
    """

    rows: list[IssuedScore]
    scales: Mapping[str, Scale]


def read_transcript(connection: psycopg.Connection, user_id: str) -> Transcript:
    return Transcript(issued_scores(connection, user_id=user_id), read_scales(connection))


def document(found: Transcript, at: datetime, zone: str) -> Document:
    """Return the letter to the learner. The learner has at least one row."""
    title = f"Scores of {found.rows[0].user_id}"
    return Document(
        title=title,
        subtitle=f"written on {Moment(at, zone).text} · irt-assets {code_version()}",
        running=title,
        language="en",
        kind="bank",
        blocks=tuple(transcript_blocks(found, zone, letter=True)),
    )


def transcript_blocks(found: Transcript, zone: str, *, letter: bool = False) -> Iterator[Block]:
    """Yield the blocks. `letter`: leave out the scores that are held or do not count, and who decided."""
    current, counting = newest_of_sittings(found.rows), [*counting_scores(found.rows, found.scales).values()]
    for score in counting:
        text = (
            f"The score of {score.user_id} on scale {score.scale_id} is {score.scaled:.10g}{VERDICTS[score.passes]}, "
            f"with a standard error of {score.scaled_se:.1f}. It is from form {score.form_id}, sat on "
        )
        end = f". Of several scores, the {found.scales[score.scale_id].rules.scores.retest} one counts."
        yield Paragraph((text, Moment(score.sat_at, zone), end), "lead")
    if not counting:
        yield Paragraph("No score counts, because every score is held or invalid.", "lead")
    rows = [_cells(row, zone, letter, row in counting) for row in current]
    yield table(tuple(rows[0]), [(*row.values(),) for row in rows], numbers=NUMBERS, small=True)
    yield Paragraph(LEGEND, "quiet")
    hidden = {row.sitting for row in current if letter and row.status != "issued"}
    if lines := tuple(_replacements([row for row in found.rows if row.sitting not in hidden], zone, letter)):
        yield Section("Replaced scores", (List(lines),), together=True)


def _cells(row: IssuedScore, zone: str, letter: bool, counts: bool) -> dict[str, Cell]:
    """Return the row of a sitting, by column."""
    scores: dict[str, Cell] = {
        "raw": row.raw,
        "score": row.scaled,
        "SE": row.scaled_se,
        "percentile": row.percentile,
        "probability": row.pass_probability,
        "passes": {True: "yes", False: "no", None: None}[row.passes],
        "table": row.table_id or "by θ",
    }
    return {
        "sat": Moment(row.sat_at, zone),
        "form": row.form_id,
        "scale": row.scale_id,
        **(dict.fromkeys(scores) if letter and row.status != "issued" else scores),
        "state": STATES[row.status] + (", counts" if counts else ""),
        "since": Moment(row.issued_at, zone) if row.issued_at else None,
        **({} if letter else {"by": row.decided_by, "reason": row.reason}),
    }


def _replacements(rows: list[IssuedScore], zone: str, letter: bool) -> Iterator[Text]:
    """Yield a line for each row that replaces an older one; in the letter only if the score differs."""
    numbered = {row.issued_id: row for row in rows}
    for row in rows:
        pair = [each for each in (row, numbered.get(row.replaces)) if each]
        states = [f"{r.scaled:.10g}{VERDICTS[r.passes]}{'' if letter else f', {STATES[r.status]},'}" for r in pair]
        if len(set(states)) > 1 and row.issued_at:
            yield (
                f"Form {row.form_id}, sat on ",
                Moment(row.sat_at, zone),
                f": {' replaces '.join(states)} since ",
                Moment(row.issued_at, zone),
                f". Reason: {row.reason}" if letter else f", by {row.decided_by}: {row.reason}",
            )
