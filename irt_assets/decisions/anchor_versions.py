"""Remove anchors from the set or restore them, by a person's decision: a new version for windows from a month on.

Anchors that remain or return keep their frozen values, so the scale does not change; only the items by which new
windows are linked change. Earlier months keep the version that they were linked to, and published values do not change.
Months from the first month on that are linked already are stale until they are materialised again. `origin` freezes the
first version.
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import psycopg

from irt_assets.common.partitions import Month
from irt_assets.common.wording import some_of
from irt_assets.decisions.deciding import require_same_basis
from irt_assets.ledger import fits, linked_windows
from irt_assets.ledger.anchors import (
    anchor_items,
    anchors_change_after,
    dropped_anchors,
    freeze_set,
    preview_set,
    read_anchors,
)
from irt_assets.ledger.decisions import DecisionSubject, record_release_decisions
from irt_assets.ledger.fit_spec import LinkingConstants
from irt_assets.ledger.steps import step_of
from irt_assets.scales.item_status import item_status
from irt_assets.scales.scale import Scale, read_scales
from irt_psychometrics import BreakdownError, Calibration, PsychometricsError
from irt_psychometrics.linking import AnchorSet, Linking, Suspect, link_to_anchors
from resources.failures import PermanentFailure
from resources.postgres.database import Database, advisory_lock

Kind = Literal["drop_anchor", "restore_anchor"]
FIND_OUT_FIRST = (
    "Find out first what they have in common: a form, a topic, a position, a new text, a leak. Without a cause, change "
    "nothing."
)
"""Advice on anchors that moved, which precedes any command."""


def command(kind: Kind, items: Iterable[str], scale_id: str, first_month: str) -> str:
    """The command that removes the items from the anchors or restores them."""
    named = shlex.join(items) or "ITEM…"
    scale = "" if scale_id == "default" else f" --scale {shlex.quote(scale_id)}"
    return f"`irt release {kind.replace('_', '-')}s {named}{scale} --from {first_month} --by NAME --reason WHY`"


@dataclass(frozen=True, kw_only=True)
class AnchorChange:
    """Effect of removing or restoring anchors.

    Attributes:
        kept: the anchors after the change.
        shown_on: the last linked month (fit `fit_id`), on which the effect is shown; "" without one.
        before, after: linking of that month by the anchors before and after the change, or None if it cannot be linked.
        why_not: why the month cannot be linked after the change, or why its anchors disagree then; empty if neither.
        mean_shift, largest_shift: shift of the b of that month's items, in units of θ.
        stale: months that are linked to the previous version and would have to be materialised again.
        basis: the anchor set that is replaced and the last linked fit, in words, as `ledger.decision_rows.Plan.basis`.
    """

    what: Kind
    scale_id: str
    items: tuple[str, ...]
    first_month: str
    kept: tuple[str, ...]
    shown_on: str
    fit_id: str
    before: Linking | None
    after: Linking | None
    why_not: str
    mean_shift: float
    largest_shift: float
    stale: tuple[str, ...]
    basis: Mapping[str, str]

    @property
    def n_left(self) -> int:
        return len(self.kept)

    @property
    def sentence(self) -> str:
        """Text that a person reads before deciding."""
        move, now, then, are = "out of", "with", "without", "remain"
        if self.what == "restore_anchor":
            move, now, then, are = "back among", "without", "with", "again, as they were frozen"
        changed = f"{', '.join(self.items)} {move} the anchors from {self.first_month} on, {self.n_left} {are}"
        if not self.shown_on:
            effect = "no month is linked yet"
        elif self.after is None:
            effect = f"{self.shown_on} could not be linked {then} them: {self.why_not}"
        elif self.before is None:
            effect = f"{self.shown_on}, which cannot be linked {now} them, could be: {_constants(self.after)}"
        else:
            effect = (
                f"{self.shown_on} would be linked with {_constants(self.after)} instead of {_constants(self.before)}; "
                f"b moves by {self.mean_shift:+.3f} on average and {self.largest_shift:+.3f} at most"
            ) + (f"; the month would be held: {self.why_not}" if self.why_not else "")
        again = (
            f"; to be calibrated again: {', '.join(self.stale)}"
            if self.stale
            else "; no month has to be calibrated again"
        )
        return f"{changed}: {effect}; published values stay{again}"

    @property
    def undo_sentence(self) -> str:
        """A sentence with the command that undoes the change."""
        inverse: Kind = "restore_anchor" if self.what == "drop_anchor" else "drop_anchor"
        return f"{command(inverse, self.items, self.scale_id, self.first_month)} undoes it"


def moved_anchors(connection: psycopg.Connection, month: str, scale: Scale) -> dict[str, Suspect]:
    """Anchors that moved in a held month, largest change first, without anchors that a person has dropped since.

    `scale` has the settings for windows from the month's start on.
    """
    step = step_of(connection, scale.scale_id, month)
    if step is None or step.state != "held":
        return {}
    constants = linked_windows.latest_constants(connection, month, scale.scale_id, scale.engine)
    moved = constants.moved_anchors if constants else {}
    still = anchor_items(connection, scale) if moved else ()
    return {item: anchor for item, anchor in moved.items() if item in still}


def preview_change(
    connection: psycopg.Connection, kind: Kind, scale_id: str, items: Sequence[str], first_month: str
) -> AnchorChange:
    """Compute the effect of removing `items` from the anchors from `first_month` on, or of restoring them.

    Raises PermanentFailure if an item is not an anchor then (or was not dropped), if too few anchors would remain, or
    if the set changes in a later month already.
    """
    try:
        start = Month(first_month).start
    except ValueError as error:
        raise PermanentFailure(f"anchors change from a month on: {error}") from None
    scale = read_scales(connection, start).get(scale_id)
    anchors = read_anchors(connection, scale_id, scale.anchor_version) if scale else None
    if scale is None or anchors is None:
        raise PermanentFailure(f"scale {scale_id} has no anchors: `irt scale init --scale {scale_id}`")
    if later := anchors_change_after(connection, scale_id, start):
        raise PermanentFailure(
            f"the anchors of {scale_id} change from {later:%Y-%m} on: name that month or a later one"
        )
    candidates = anchors.item_ids if kind == "drop_anchor" else sorted(dropped_anchors(connection, scale))
    if (unknown := sorted(set(items) - set(candidates))) or not items:
        raise PermanentFailure(
            f"no {'' if kind == 'drop_anchor' else 'dropped '}anchors of scale {scale_id} in {first_month}: "
            f"{', '.join(unknown) or 'no item was named'}; it has {some_of(candidates, 10) or 'none'}"
        )
    known = item_status(connection)
    if withdrawn := sorted(item for item in items if item in known and known[item].is_withdrawn):
        raise PermanentFailure(
            f"out of use: {', '.join(withdrawn)}; `irt items restore` restores them, and must come first"
        )
    kept = tuple({*anchors.item_ids} ^ {*items})
    if len(kept) < scale.rules.publication.min_anchors:
        raise PermanentFailure(
            f"{len(kept)} anchors would remain, and linking needs "
            f"{scale.rules.publication.min_anchors} (min_anchors): "
            "tag and freeze others first, in a scale with an origin of its own"
        )
    then, digest = preview_set(connection, scale, kept)
    assert then is not None
    month = linked_windows.last_fitted_month(connection, scale)
    staged = fits.latest_staged(connection, month, scale.scale_id, scale.engine) if month else None
    raw = staged.decode() if staged else None
    before, after, why_not, shift = None, None, "", np.zeros(1)
    if raw is not None:
        before, _ = _link(raw, anchors, scale)
        after, why_not = _link(raw, then, scale)
        if before is not None and after is not None:
            shift = after.transform(raw).b - before.transform(raw).b
            shift = shift[np.isfinite(shift)]
    return AnchorChange(
        what=kind,
        scale_id=scale_id,
        items=tuple(sorted(set(items))),
        first_month=first_month,
        kept=kept,
        shown_on=staged.month if staged else "",
        fit_id=staged.fit_id if staged else "",
        before=before,
        after=after,
        why_not=why_not,
        mean_shift=float(shift.mean()),
        largest_shift=float(shift[np.argmax(np.abs(shift))]),
        stale=linked_windows.months_with_other_anchors(connection, scale, start, digest),
        basis={
            f"the anchor set of scale {scale_id}": f"version {scale.anchor_version}: {some_of(anchors.item_ids, 10)}",
            "the last linked month": f"{staged.month}, fit {staged.fit_id}" if staged else "none",
        },
    )


def change_anchors(
    database: Database,
    kind: Kind,
    scale_id: str,
    items: Sequence[str],
    first_month: str,
    *,
    by: str,
    reason: str,
    seen: AnchorChange | None = None,
) -> AnchorChange:
    """Record that `by` removes `items` from the anchors or restores them, and freeze the new version.

    `seen`: the preview that the person has seen.

    Raises the errors of `preview_change`, and PermanentFailure if the anchor set or the last linked fit differs from
    `seen`.
    """
    with database.connect() as connection:
        advisory_lock(connection, "ledger", scale_id)
        done = preview_change(connection, kind, scale_id, items, first_month)
        require_same_basis((seen or done).basis, done.basis)
        freeze(connection, done)
        subjects = [DecisionSubject(first_month, scale_id, item, done.fit_id) for item in done.items]
        record_release_decisions(connection, subjects, kind, by, reason, Month(first_month).start)
    return done


def freeze(connection: psycopg.Connection, change: AnchorChange) -> None:
    """Write the new version of the anchors, in the caller's transaction."""
    start = Month(change.first_month).start
    freeze_set(connection, read_scales(connection, start)[change.scale_id], change.kept, start)


def _link(raw: Calibration, anchors: AnchorSet, scale: Scale) -> tuple[Linking | None, str]:
    try:
        with BreakdownError.explain("the anchors do not determine the linking"):
            linking = link_to_anchors(raw, anchors, limits=scale.rules.anchor_limits)
        return linking, LinkingConstants.from_linking(linking).disagreement(scale.rules.publication)
    except PsychometricsError as error:
        return None, str(error)


def _constants(linking: Linking) -> str:
    return (
        f"slope {linking.slope:.3f} ± {linking.slope_se:.3f}, intercept {linking.intercept:+.3f} ± "
        f"{linking.intercept_se:.3f} from {len(linking.anchors_used)} anchors"
    )
