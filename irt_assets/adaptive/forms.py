"""Assemble forms from a blueprint, keep them as drafts, and release them.

Each step is a decision on the form. A draft is not a form of the platform: nobody can sit it, and it has no score
table. A release stores the form with its items, and can be undone while the log has no answer to the form.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
import pandas as pd
import psycopg

from irt_assets.adaptive.banks import ItemBank, read_item_bank
from irt_assets.adaptive.blueprint import Blueprint, in_order
from irt_assets.adaptive.yaml_lines import Part
from irt_assets.common.arrays import Floats, finite
from irt_assets.common.wording import quantity, some_of
from irt_assets.item_analysis.forms import store_forms
from irt_assets.scales.scale_decisions import FORM_OF, record_decisions
from irt_assets.scores.releases import released_tables
from irt_psychometrics.assembly import assemble
from resources.failures import PermanentFailure
from resources.postgres.database import Database, first_column, named_rows
from resources.postgres.form_names import lock_form_names, require_free_names

MAX_NAMED = 5
BANKS, DENSITIES = 500, 20
"""Number of true banks, and of densities of slopes among these, that the interval of the information comes from."""
QTI = """<?xml version="1.0" encoding="utf-8"?>
<assessmentTest xmlns="http://www.imsglobal.org/xsd/imsqti_v2p2" identifier="form" title={title}>
  <testPart identifier="part" navigationMode="nonlinear" submissionMode="simultaneous">
    <assessmentSection identifier="section" title={title} visible="true">
      {items}
    </assessmentSection>
  </testPart>
</assessmentTest>
"""
SDS, POINTS = 3.0, 41
"""The information of a form is stored within this many SDs of the population's mean, at this many points."""
_LEAKED = "SELECT item_id FROM drift_alerts WHERE scale_id = %s AND kind = 'leak' AND closed_month IS NULL"
_SEEN = """
SELECT i.item_id FROM item_analysis i
JOIN item_analysis f ON (f.scale_id, f.period, f.form_id, f.item_id) = (i.scale_id, i.period, '', '')
WHERE i.scale_id = %(scale)s AND i.form_id = '' AND i.item_id <> '' AND length(i.period) = 7
  AND i.period >= to_char(%(at)s::timestamptz - interval '1 year', 'YYYY-MM')
GROUP BY 1 HAVING max((i.statistics->>'presented')::float / greatest(f.n, (i.statistics->>'presented')::int, 1))
  > %(share)s
"""


class FormDraft(Part):
    """A form that was assembled.

    Attributes:
        items: its items in their order.
        curve: its information over θ: θ, and the 2.5 % quantile, the mean and the 97.5 % quantile over true banks.
        points: the θ at which information counts, each with the form's information.
        reached: share of true banks in which the form has the target or the objective, or None without certainty.
        objective, gap: the value of the objective, and its relative distance from the best value that can be, or None
            if the time was too short to know.
        rules: each rule on the content in words, and the number in this form.
        left_out: the reasons why items of the bank could not be chosen, with the items.
        set_hash: hash of the published set.
    """

    form_id: str
    blueprint: Blueprint
    items: tuple[str, ...]
    curve: tuple[tuple[float, float, float, float], ...]
    points: tuple[tuple[float, float], ...]
    reached: float | None
    objective: float
    gap: float | None
    rules: tuple[tuple[str, float], ...]
    left_out: Mapping[str, tuple[str, ...]]
    set_hash: str


class StoredForm(FormDraft):
    """A draft, and the last decision on it.

    Attributes:
        state: draft, also after a release was undone; or released.
        decision_id: number of the last decision.
    """

    state: Literal["draft", "released"]
    decision_id: int
    decided_by: str
    reason: str
    decided_at: datetime

    @property
    def sentence(self) -> str:
        return (
            f"form {self.form_id}: {self.state} since {self.decided_at:%Y-%m-%d %H:%M} UTC by {self.decided_by}: "
            f"{self.reason}"
        )


def assemble_forms(connection: psycopg.Connection, blueprint: Blueprint, at: datetime) -> list[FormDraft]:
    """Assemble the forms of a blueprint by the published values at `at`. Nothing is stored.

    Raises PermanentFailure if the blueprint names an item that cannot be used or a form that exists, and
    InfeasibleError, which names the rules that conflict, if no forms meet the rules.
    """
    bank = read_item_bank(connection, blueprint.scale, at)
    known = first_column(connection, "SELECT item_id FROM question WHERE scale_id = %s", (blueprint.scale,))
    if unknown := sorted(blueprint.items.difference(known)):
        raise PermanentFailure(f"scale {blueprint.scale} has no items {some_of(unknown, MAX_NAMED)}")
    _require_new(connection, blueprint.names)
    left_out = items_left_out(connection, blueprint, bank, at)
    form = blueprint.anchors.form if blueprint.anchors else None
    anchors = first_column(connection, "SELECT item_id FROM form_item WHERE form_id = %s", (form,))
    theta = bank.scale.mu if bank.scale.pass_theta is None else bank.scale.pass_theta
    questions = {item: bank.questions[item] for item in bank.items.item_ids}
    design = blueprint.design(questions, theta, anchors, left_out)
    found = assemble(bank.items, design, posterior=bank.posterior, time_limit=blueprint.seconds)
    chosen: Floats = np.array([np.isin(bank.items.item_ids, form) for form in found.forms], dtype=float).T
    places = np.flatnonzero(chosen.any(axis=1))
    grid = bank.scale.mu + bank.scale.sigma * np.linspace(-SDS, SDS, POINTS)
    banks = bank.posterior.draw(BANKS, np.random.default_rng(0), densities=DENSITIES)
    information = np.array([each.curves.select(places).information(grid) @ chosen[places] for each in banks])
    low, high = np.quantile(information, (0.025, 0.975), axis=0)
    curves = np.stack([np.broadcast_to(grid[:, None], low.shape), low, information.mean(axis=0), high], axis=-1)
    return [
        FormDraft(
            form_id=name,
            blueprint=blueprint,
            items=in_order(items, questions),
            curve=curves[:, k].round(4).tolist(),
            points=np.column_stack([found.theta, found.information[k]]).round(4).tolist(),
            reached=None if found.reached is None else float(found.reached[k]),
            objective=found.objective,
            gap=finite(found.gap),
            rules=tuple((rule, numbers[k]) for rule, numbers in found.rules),
            left_out=left_out,
            set_hash=bank.published.set_hash,
        )
        for k, (name, items) in enumerate(zip(blueprint.names, found.forms, strict=True))
    ]


def items_left_out(
    connection: psycopg.Connection, blueprint: Blueprint, bank: ItemBank, at: datetime
) -> dict[str, tuple[str, ...]]:
    """Items of the bank that no form may have, by the reason. Reasons without an item are left out."""
    share = blueprint.max_exposure or 1.0
    reasons = {
        "items that may have leaked": first_column(connection, _LEAKED, (blueprint.scale,)),
        "items that the blueprint excludes": blueprint.excluded,
        f"items that more than {share:.0%} of a month's learners saw": first_column(
            connection, _SEEN, {"scale": blueprint.scale, "at": at, "share": share}
        ),
    }
    known = {*bank.items.item_ids}
    found = {reason: tuple(sorted(known.intersection(items))) for reason, items in reasons.items()}
    return {reason: group for reason, group in found.items() if group}


def read_drafts(connection: psycopg.Connection, scale_id: str | None = None) -> dict[str, StoredForm]:
    """The newest draft of each form that was assembled on a scale (None: any scale), with the last decision on it."""
    rows = named_rows(
        connection,
        """SELECT substr(subject, %s) AS form_id, value::jsonb->'draft' AS draft, value::jsonb->>'state' AS state,
                  decision_id, decided_by, reason, decided_at
           FROM scale_decision WHERE starts_with(subject, %s) AND scale_id = coalesce(%s, scale_id)
           ORDER BY decision_id""",
        (len(FORM_OF) + 1, FORM_OF, scale_id),
    )
    forms: dict[str, dict[str, Any]] = {}
    for row in rows:
        former = forms.get(row["form_id"], {})
        forms[row["form_id"]] = former | (row.pop("draft") or {}) | row
    return {name: StoredForm.model_validate(form) for name, form in forms.items()}


class ListedForm(NamedTuple):
    """A form of any source. `state`: draft, released, imported, or from answers (all its sessions in the log agree)."""

    form_id: str
    scale_id: str
    items: int
    state: str
    decided_by: str
    at: datetime
    reason: str


def list_forms(connection: psycopg.Connection) -> list[ListedForm]:
    """List the forms that were assembled, then the forms that were imported or that the log has."""
    drafts = read_drafts(connection)
    others = connection.execute(
        """SELECT form_id, coalesce(string_agg(DISTINCT scale_id, ', '), ''), count(*),
                  CASE source WHEN 'file' THEN 'imported' ELSE 'from answers' END, '', recorded_at, ''
           FROM form JOIN form_item USING (form_id) LEFT JOIN question USING (item_id)
           WHERE NOT form_id = ANY(%s) GROUP BY form_id, source, recorded_at ORDER BY form_id""",
        ([*drafts],),
    )
    return [
        *(
            ListedForm(
                *(own.form_id, own.blueprint.scale, len(own.items), own.state),
                *(own.decided_by, own.decided_at, own.reason),
            )
            for own in drafts.values()
        ),
        *(ListedForm(*row) for row in others),
    ]


def find_draft(connection: psycopg.Connection, form_id: str) -> StoredForm:
    """The newest draft of a form. Raises PermanentFailure if the form was not assembled."""
    if form := read_drafts(connection).get(form_id):
        return form
    raise PermanentFailure(f"form {form_id} was not assembled: `irt forms list` lists the assembled forms")


def store_drafts(database: Database, drafts: Sequence[FormDraft], *, by: str, reason: str) -> None:
    """Record that `by` has assembled the forms of a blueprint. A draft replaces the former draft of its name.

    Raises PermanentFailure if a form or an adaptive test of this name exists, which may have been added since.
    """
    with database.connect() as connection, connection.transaction():
        lock_form_names(connection)
        _require_new(connection, [draft.form_id for draft in drafts])
        values = {
            FORM_OF + draft.form_id: json.dumps({"state": "draft", "draft": draft.model_dump(mode="json")})
            for draft in drafts
        }
        record_decisions(connection, drafts[0].blueprint.scale, values, by=by, reason=reason)


def plan_release(
    connection: psycopg.Connection, names: Sequence[str], at: datetime, *, undo: bool = False
) -> list[StoredForm]:
    """The drafts that `release_forms` would release, or whose release it would undo. Raises the same errors."""
    found = [find_draft(connection, name) for name in names]
    for form in found:
        name, scale_id = form.form_id, form.blueprint.scale
        if (form.state == "released") != undo:
            raise PermanentFailure(f"form {name} is {'not released' if undo else 'released already'}")
        if not undo:
            bank = read_item_bank(connection, scale_id, at)
            usable = {*bank.items.item_ids}.difference(*items_left_out(connection, form.blueprint, bank, at).values())
            if gone := sorted({*form.items} - usable):
                raise PermanentFailure(
                    f"form {name} has items that were withdrawn, may have leaked or were seen by too many learners "
                    f"since: {some_of(gone, MAX_NAMED)}. Assemble it again"
                )
        elif connection.execute("SELECT 1 FROM response_log WHERE form_id = %s LIMIT 1", (name,)).fetchone():
            raise PermanentFailure(f"form {name} has answers, so its release stays; withdraw its items if need be")
        elif name in released_tables(connection, scale_id):
            raise PermanentFailure(f"form {name} has a released score table: `irt scores release {name} --undo` first")
    if not undo:
        _require_new(connection, names)
    return found


def release_forms(
    database: Database,
    names: Sequence[str],
    *,
    undo: bool = False,
    by: str,
    reason: str,
    at: datetime,
    seen: Sequence[StoredForm] | None = None,
) -> list[StoredForm]:
    """Release drafts as forms, or undo their release. Returns them as they were before.

    Raises PermanentFailure if a form was not assembled or is released already, if an item can no longer be in it, if
    an imported form or an adaptive test has its name, or if a draft differs from `seen`. The release of a form with
    answers or a released score table cannot be undone.
    """
    with database.connect() as connection, connection.transaction():
        lock_form_names(connection)
        planned = plan_release(connection, names, at, undo=undo)
        if seen is not None and [form.decision_id for form in seen] != [form.decision_id for form in planned]:
            raise PermanentFailure("nothing was decided: a form has been assembled or released since. Look again")
        for form in planned:
            value = {"state": "draft", "undoes": form.decision_id} if undo else {"state": "released"}
            subject = {FORM_OF + form.form_id: json.dumps(value)}
            record_decisions(connection, form.blueprint.scale, subject, by=by, reason=reason)
            if not undo:
                store_forms(connection, form_rows(connection, form), "assembled")
        if undo:
            for table in ("form_item", "form"):
                connection.execute(f"DELETE FROM {table} WHERE form_id = ANY(%s)", ([*names],))
    return planned


def release_sentences(forms: Sequence[StoredForm], *, undo: bool) -> list[str]:
    """The effect of `release_forms` in words."""
    return [
        f"form {form.form_id} is a draft again, so no more score tables of it are made"
        if undo
        else f"form {form.form_id} with {quantity(len(form.items), 'item')}: the next item_analysis and "
        "form_score_tables contain it"
        for form in forms
    ]


def form_rows(connection: psycopg.Connection, draft: FormDraft) -> pd.DataFrame:
    """Return a row per item and seed place, with the columns of a file for `irt import forms`."""
    places = draft.blueprint.places(draft.items)
    rows = named_rows(
        connection,
        """SELECT %s AS form_id, item_id, position, coalesce(max_score, 1) AS max_score, true AS scored
           FROM unnest(%s::text[], %s::int[]) AS own (item_id, position) LEFT JOIN question USING (item_id)
           ORDER BY position""",
        (draft.form_id, [*places.values()], [*places]),
    )
    return pd.DataFrame(rows)


def as_qti(rows: pd.DataFrame) -> str:
    """Return a form, as `form_rows` has it, as an assessmentTest of QTI 2.2, with a file `items/ID.xml` for each item.

    A seed place is a comment, because each learner has another item there.
    """
    form_id = rows["form_id"].iloc[0]
    references = [  # identifiers have the place, because an id may be no identifier of QTI
        f'<assessmentItemRef identifier="item-{place}" href="items/{quote(item, safe="")}.xml"/>'
        if item
        else f"<!-- item-{place}: a new item that is drawn for the learner -->"
        for place, item in zip(rows["position"], rows["item_id"], strict=True)
    ]
    return QTI.format(title=quoteattr(form_id), items="\n      ".join(references))


def _require_new(connection: psycopg.Connection, names: Sequence[str]) -> None:
    require_free_names(connection, names, "form")
    if known := first_column(connection, "SELECT form_id FROM form WHERE form_id = ANY(%s)", ([*names],)):
        raise PermanentFailure(f"form {known[0]} exists already; give the blueprint another name")
