"""A year of a company that hands out scores: six forms, two a month, with a wrong key and an anchor that drifts.

2PL. Ten anchors with values in the bank are in every form, and each form has 14 items of its own. Every month 300 new
learners, θ ~ N(0, 1), sit each of two forms. Option A is right.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from irt_assets.common.partitions import Month
from irt_assets.decisions import release
from irt_assets.decisions.anchor_versions import change_anchors
from irt_assets.decisions.closing import close_months
from irt_assets.decisions.origin import initialise
from irt_assets.decisions.proposals import Reference
from irt_assets.decisions.rekey import rekey
from irt_assets.intake.corrections import Rekeying
from irt_assets.item_analysis.forms import import_forms
from irt_assets.item_analysis.periods import analyse_month
from irt_assets.item_analysis.stored import read_items
from irt_assets.ledger.steps import Step
from irt_assets.scales.scale import change_rules, read_scales
from irt_assets.scores import assets
from irt_assets.scores.form_tables import FormTable, make_month
from irt_assets.scores.issued import IssuedScore, current_scores
from irt_assets.scores.issuing import Issue, issue_scores, preview_issue
from irt_assets.scores.releases import release_table, released_tables
from irt_assets.scores.standards import Standard, plan_standard, set_mark
from resources.postgres.database import Database
from tests.helpers import rooms, score_world

MONTHS = [f"2025-{month:02d}" for month in range(1, 13)]
FORMS = "ABCDEF"
LEARNERS = 300
ANCHORS = [f"k{j}" for j in range(1, 11)]
WRONG = "E7"
"""Item whose key is B, the option of learners who know something, until somebody corrects it."""
DRIFTING, DRIFT, DRIFTS_FROM = "k5", -1.2, "2025-05"
"""An anchor, the change of its b, and the first month of the change."""
PASS_THETA = -0.06
"""θ of the minimally competent learner whom the panel has in mind."""
SIGNED: dict[str, Any] = {"by": "Ann", "reason": "committee"}
RULES = score_world.RULES | {
    "min_responses": 200,
    "min_provisional_responses": 200,
    "max_score_shift": 4.0,
    "max_rmsd": 0.08,
}


def items_of(form: str) -> list[str]:
    return [*ANCHORS, *(f"{form}{j}" for j in range(1, 15))]


def forms_of(month: str) -> str:
    """The two forms of a month."""
    pair = MONTHS.index(month) % 3 * 2
    return FORMS[pair : pair + 2]


@dataclass(repr=False)
class Year:
    """The year so far.

    Attributes:
        true: a and b of each item before any drift; of the wrong-keyed item by the right option.
        theta: true θ of each learner.
        options: the options that learners chose of the wrong-keyed item.
        standard: the standard that the panel set in January.
        flags: flags of the item with the wrong key in the item analysis of March, before the correction.
        rekeyed, again: the correction of the key, and the scores that were issued again after it.
        steps: the publication step of each month.
        failed: the forms that `released_tables_hold` named when it was last evaluated, by month.
        letters: the scores in force of the learners of form E in March, by time of reading.
        previews: the scores that would be issued, by time of reading.
        tables: the released tables, by time of reading.
    """

    database: Database
    folder: Path
    true: dict[str, tuple[float, float]] = field(default_factory=dict)
    theta: dict[str, float] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    standard: Standard = field(init=False)
    flags: tuple[str, ...] = ()
    rekeyed: Rekeying = field(init=False)
    again: Issue = field(init=False)
    steps: dict[str, Step] = field(default_factory=dict)
    failed: dict[str, list[str]] = field(default_factory=dict)
    letters: dict[str, dict[str, IssuedScore]] = field(default_factory=dict)
    previews: dict[str, Issue] = field(default_factory=dict)
    tables: dict[str, dict[str, FormTable]] = field(default_factory=dict)

    # -- the bank and the standard -------------------------------------------------------------------

    def begin(self) -> None:
        """Make the bank, the forms and the scale."""
        rng = np.random.default_rng(2027)
        b = np.concatenate([np.linspace(-1.8, 1.8, 10), *(rng.permutation(np.linspace(-1.8, 1.8, 14)) for _ in FORMS)])
        own = [item for form in FORMS for item in items_of(form)[10:]]
        a = rng.uniform(0.9, 1.7, b.size)
        self.true = {item: (float(x), float(y)) for item, x, y in zip([*ANCHORS, *own], a, b, strict=True)}
        self.true[WRONG] = (1.3, 1.6)
        errors = {"a_se": 0.04, "b_se": 0.04, "cov_ab": 0.0, "model": "2pl"}
        values = {item: {"a": self.true[item][0], "b": self.true[item][1]} | errors for item in ANCHORS}
        rooms.add_items(self.database, values | dict.fromkeys(own))
        rooms.run_sql(
            self.database,
            """UPDATE question SET meta = meta || jsonb_build_object('key', CASE item_id WHEN %s THEN 'B' ELSE 'A'
               END)""",
            (WRONG,),
        )
        lines = [f"{form},{item},{at}" for form in FORMS for at, item in enumerate(items_of(form), 1)]
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "forms.csv").write_text("\n".join(["form_id,item_id,position", *lines]) + "\n")
        import_forms(self.database, self.folder / "forms.csv")
        initialise(self.database, rooms.SCALE, first_month=MONTHS[0])
        change_rules(self.database, rooms.SCALE, RULES)

    def set_standard(self) -> Standard:
        """Set the standard by 12 judges who rate form A for a learner of θ near `PASS_THETA`."""
        rng = np.random.default_rng(12)
        lines = []
        for judge, mind in enumerate(rng.normal(PASS_THETA, 0.15, 12), 1):
            for item in items_of("A"):
                a, b = self.true[item]
                rating = 1 / (1 + np.exp(-a * (mind - b))) + rng.normal(0, 0.05)
                lines.append(f"judge {judge},{item},{np.clip(rating, 0, 1):.2f}")
        file = self.folder / "ratings.csv"
        file.write_text("\n".join(["judge,item_id,rating", *lines]) + "\n")
        panel = "panel of February"
        planned = rooms.call(self.database, plan_standard, rooms.SCALE, "A", file, "angoff", panel)
        set_mark(self.database, planned, **SIGNED)
        return planned

    # -- the year -------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run the year with its two faults and the decisions on them."""
        self.begin()
        for month in MONTHS:
            self.sit(month)
            if month == "2025-04":
                close_months(self.database, Month(month).start + timedelta(days=18))
            self.calibrate(month)
            if month == MONTHS[0]:
                self.standard = self.set_standard()
                self.make_tables(month)
            if month in MONTHS[:3]:
                self.release(forms_of(month))
            if month == "2025-06":
                self.decide_on_drift(month)
            self.issue(month)
            if month == "2025-04":
                self.correct_key(month)

    def correct_key(self, month: str) -> None:
        """Correct the key in April, calibrate March again, accept the item's new values, and issue the scores again."""
        self.read("as issued")
        with self.database.connect() as connection:
            self.flags = read_items(connection, rooms.SCALE, "2025-03", form_id="E", item_id=WRONG)[0].flags
        self.rekeyed = rekey(self.database, WRONG, "A", **SIGNED, reopen=True)
        self.read("after the key")
        self.calibrate("2025-03")
        now = Month(month).end - timedelta(days=5)
        accepted = [Reference("2025-03", WRONG)]
        release.accept(self.database, accepted, **SIGNED, effective_from=Month(month).end, now=now)
        self.make_tables(month)
        self.read("before the release")
        self.release("E")
        self.read("after the release")
        self.again = self.issue("2025-03", "E", again=True)["E"]
        self.read("issued again")

    def decide_on_drift(self, month: str) -> None:
        """Accept May's value of the anchor in June, drop it from the anchors, and release June's tables."""
        self.make_tables(month)
        self.read("before the drift's decision")
        now = Month(month).start + timedelta(days=9)
        accepted = [Reference(DRIFTS_FROM, DRIFTING)]
        release.accept(self.database, accepted, **SIGNED, effective_from=Month(month).end, now=now)
        change_anchors(self.database, "drop_anchor", rooms.SCALE, [DRIFTING], "2025-07", **SIGNED)
        self.make_tables(month)
        self.release(FORMS)
        self.read("after the drift's decision")

    def read(self, time: str) -> None:
        """Keep the letters, the scores that would be issued, and the released tables of this time."""
        with self.database.connect() as connection:
            found = current_scores(connection, scale_id=rooms.SCALE, form_id="E")
            self.tables[time] = released_tables(connection, rooms.SCALE)
        self.letters[time] = {score.user_id: score for score in found if score.user_id.startswith("E-2025-03")}
        now = Month("2025-04").end + timedelta(days=5)
        self.previews[time] = preview_issue(self.database, rooms.SCALE, "E", "2025-03", now=now)

    def raw_by_right_key(self, form: str, months: Iterable[str]) -> dict[str, int]:
        """Raw scores of the learners by the right key, from the log."""
        return dict(
            rooms.rows(
                self.database,
                """SELECT user_id, count(*) FILTER (WHERE response = 'A') FROM response_log
                   WHERE form_id = %s AND to_char(completed_at AT TIME ZONE 'UTC', 'YYYY-MM') = ANY(%s) GROUP BY 1""",
                (form, [*months]),
            )
        )

    # -- a month -------------------------------------------------------------------------------------

    def sit(self, month: str) -> None:
        """Add the sittings of the month."""
        for form in forms_of(month):
            items = items_of(form)
            rng = np.random.default_rng([MONTHS.index(month), FORMS.index(form)])
            theta = rng.normal(0, 1, LEARNERS)
            users = [f"{form}-{month}-{k:03d}" for k in range(LEARNERS)]
            self.theta |= dict(zip(users, theta.tolist(), strict=True))
            a, b = (np.array([self.true[item][k] for item in items]) for k in (0, 1))
            b += np.where(np.array(items) == DRIFTING, DRIFT * (month >= DRIFTS_FROM), 0)
            chosen = np.where(
                rooms.model_scores(theta, a, b, rng) == 1, "A", rng.choice([*"BCD"], (theta.size, a.size))
            )
            if WRONG in items:
                j = items.index(WRONG)
                knows = rng.random(theta.size) < 1 / (1 + np.exp(-1.3 * (theta + 0.3)))
                chosen[:, j] = np.where(chosen[:, j] == "A", "A", np.where(knows, "B", "C"))
            keys = dict(rooms.rows(self.database, "SELECT item_id, meta->>'key' FROM question"))
            start = Month(month).start + timedelta(days=9)
            rooms.add_attempts(
                self.database,
                [
                    rooms.attempt(
                        user,
                        item,
                        start + timedelta(minutes=at),
                        correct=bool(chosen[row, at] == keys[item]),
                        response=str(chosen[row, at]),
                        form_id=form,
                        session_id=f"{user}-1",
                        position=at + 1,
                    )
                    for row, user in enumerate(users)
                    for at, item in enumerate(items)
                ],
            )
            if WRONG in items:
                self.options |= dict(zip(users, chosen[:, items.index(WRONG)].tolist(), strict=True))

    def calibrate(self, month: str) -> None:
        """Judge, calibrate and analyse the month, make its tables, and evaluate `released_tables_hold`."""
        self.steps[month] = rooms.calibrate(self.database.settings, month)
        analyse_month(self.database, rooms.folder_store(self.database.settings), month)
        self.make_tables(month)

    def make_tables(self, month: str) -> dict[str, FormTable]:
        bounds = Month(month).bounds
        with self.database.connect() as connection:
            scale = read_scales(connection, bounds[0])[rooms.SCALE]
            made, _ = make_month(connection, scale, month)
            look = assets.CheckInput(connection, rooms.folder_store(self.database.settings), month, bounds)
            found = assets._judge(look)
        rows = found.metadata[assets.ITEMS].value.records
        self.failed[month] = sorted(str(row.data["form"]) for row in rows)
        return {table.form_id: table for table in made}

    def release(self, forms: Iterable[str]) -> None:
        for form in forms:
            release_table(self.database, rooms.SCALE, form, **SIGNED)

    def issue(self, month: str, forms: Iterable[str] = "", *, again: bool = False) -> dict[str, Issue]:
        now = Month(month).end + timedelta(days=5)
        return {
            form: issue_scores(self.database, rooms.SCALE, form, month, again=again, **SIGNED, now=now)
            for form in forms or forms_of(month)
        }
