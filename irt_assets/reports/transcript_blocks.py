"""Blocks about the scores of a learner: the score that counts, every sitting, and the scores that were replaced.

Does not belong here: the letter to the learner (see `letter_blocks`).
"""

from collections.abc import Iterator, Mapping

from irt_assets.blocks import Block, Cell, List, Moment, Paragraph, Section, Text, table
from irt_assets.scales.scale import Scale
from irt_assets.scores.issued import IssuedScore, counting_scores, newest_of_sittings

LEGEND = (
    "SE: standard error of the score. Percentile: rank in the norm group. Probability: that the true score passes. "
    "Table: number of the score table."
)
STATES = {"issued": "handed out", "held": "held", "invalid": "does not count"}
VERDICTS = {True: " (passed)", False: " (not passed)", None: ""}
NUMBERS = {"raw": ",", "score": ".10g", "SE": ".1f", "percentile": ".0f", "probability": ".0%"}


def transcript_blocks(rows: list[IssuedScore], scales: Mapping[str, Scale], zone: str) -> Iterator[Block]:
    """Yield the blocks about all scores of a learner, also those that are held or do not count.

    `rows`: the rows of `issued_score`, in the order in which they were added.
    """
    current, counting = newest_of_sittings(rows), [*counting_scores(rows, scales).values()]
    for score in counting:
        text = (
            f"The score of {score.user_id} on scale {score.scale_id} is {score.scaled:.10g}{VERDICTS[score.passes]}, "
            f"with a standard error of {score.scaled_se:.1f}. It is from form {score.form_id}, sat on "
        )
        end = f". Of several scores, the {scales[score.scale_id].rules.scores.retest} one counts."
        yield Paragraph((text, Moment(score.sat_at, zone), end), "lead")
    if not counting:
        yield Paragraph("No score counts, because every score is held or invalid.", "lead")
    cells = [_cells(row, zone, row in counting) for row in current]
    yield table(tuple(cells[0]), [(*row.values(),) for row in cells], numbers=NUMBERS, small=True)
    yield Paragraph(LEGEND, "quiet")
    if lines := tuple(_replacements(rows, zone)):
        yield Section("Replaced scores", (List(lines),), together=True)


def _cells(row: IssuedScore, zone: str, counts: bool) -> dict[str, Cell]:
    """Return the row of a sitting, by column."""
    return {
        "sat": Moment(row.sat_at, zone),
        "form": row.form_id,
        "scale": row.scale_id,
        "raw": row.raw,
        "score": row.scaled,
        "SE": row.scaled_se,
        "percentile": row.percentile,
        "probability": row.pass_probability,
        "passes": {True: "yes", False: "no", None: None}[row.passes],
        "table": row.table_id or "by θ",
        "state": STATES[row.status] + (", counts" if counts else ""),
        "since": Moment(row.issued_at, zone) if row.issued_at else None,
        "by": row.decided_by,
        "reason": row.reason,
    }


def _replacements(rows: list[IssuedScore], zone: str) -> Iterator[Text]:
    """Yield a line for each row that replaces an older one and differs from it."""
    numbered = {row.issued_id: row for row in rows}
    for row in rows:
        pair = [each for each in (row, numbered.get(row.replaces)) if each]
        states = [f"{r.scaled:.10g}{VERDICTS[r.passes]}, {STATES[r.status]}," for r in pair]
        if len(set(states)) > 1 and row.issued_at:
            yield (
                f"Form {row.form_id}, sat on ",
                Moment(row.sat_at, zone),
                f": {' replaces '.join(states)} since ",
                Moment(row.issued_at, zone),
                f", by {row.decided_by}: {row.reason}",
            )
