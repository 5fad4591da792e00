"""Propose variance and growth of a scale's abilities from the last year's answers, for `auto` scales or on request.

Selects the answers and words the proposal. `irt_psychometrics.estimation` computes the estimate; `movement_change`
decides.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import numpy as np
import psycopg

from irt_assets.common.partitions import Month, month_of
from irt_assets.decisions.movement_change import movement_effect
from irt_assets.ledger.fit_spec import SetStatistics
from irt_assets.ledger.item_errors import set_with_errors
from irt_assets.ledger.linked_windows import linkings_of
from irt_assets.ledger.movement_proposals import MovementProposal, newest_proposal, store_proposal
from irt_assets.ledger.publications import PublishedSet
from irt_assets.ledger.steps import last_done_month
from irt_assets.responses.answers import attempts_between
from irt_assets.responses.scored_answers import scoring_responses
from irt_assets.responses.verdicts import days_without_verdicts, judge_day
from irt_assets.scales.item_status import DAY
from irt_assets.scales.scale import Scale, read_scales
from irt_assets.scales.scale_decisions import MOVEMENT, Subject, proposals_wanted, read_decisions
from irt_psychometrics import PsychometricsError, Responses
from irt_psychometrics.estimation import MovementEstimate
from irt_psychometrics.itemfit import WindowGrowth
from irt_psychometrics.scoring import Curves, Movement
from resources.cluster.relational import on_postgres
from resources.failures import PermanentFailure
from resources.postgres.database import Database, one_value

YEAR = timedelta(weeks=52)
MAX_INTERCEPTS = 6


def propose_automatic_movements(database: Database, month: str) -> list[MovementProposal]:
    """Make a proposal for each scale with `auto` as of the end of a month, unless a later month is done already."""
    found = []
    with database.connect() as connection:
        for scale_id in read_scales(connection):
            if proposals_wanted(read_decisions(connection, scale_id)):
                last = last_done_month(connection, scale_id)
                if last is not None and last <= month:
                    found.append(propose_movement(connection, scale_id, month))
    return found


def propose_movement(connection: psycopg.Connection, scale_id: str, month: str | None = None) -> MovementProposal:
    """Estimate the movement of a scale's abilities in the 52 weeks before a month's end and store it as a proposal.

    If there is no estimate, the proposal has the reason. Runs in the caller's transaction. `month`: None for the last
    done month, or the last month with answers if no month is done.

    Raises PermanentFailure if the scale has no answers.
    """
    month = month or last_done_month(connection, scale_id) or _last_answered_month(connection, scale_id)
    proposal = _proposal(connection, scale_id, month)
    store_proposal(connection, proposal)
    return proposal


def _last_answered_month(connection: psycopg.Connection, scale_id: str) -> str:
    last = one_value(
        connection,
        "SELECT max(completed_at) FROM attempt JOIN question USING (item_id) WHERE scale_id = %s AND mode = 'live'",
        (scale_id,),
    )
    if last is None:
        raise PermanentFailure(f"scale {scale_id} has no answers: nothing can be estimated")
    return month_of(last)


def _proposal(connection: psycopg.Connection, scale_id: str, month: str) -> MovementProposal:
    end = Month(month).end
    scale, published = read_scales(connection, end)[scale_id], set_with_errors(connection, scale_id, end)
    if not published.items:
        return MovementProposal(scale_id, month, "no items of the scale are published")
    responses = _answers(connection, published, end)
    fits = linkings_of(connection, scale, month)
    order, growth = _order(responses, {fit.month: fit.spec.fit_statistics for fit in fits})
    assert responses.at is not None
    assert published.errors is not None
    items = published.errors.among(responses.item_ids).items
    try:
        found = MovementEstimate.from_answers(
            responses,
            responses.at // DAY,
            Curves.from_items(items.curves, mean=scale.mu, sd=scale.sigma),
            items,
            order=order,
            growth_in_windows=growth,
        )
    except PsychometricsError as error:
        return MovementProposal(scale_id, month, str(error))
    effect = movement_effect(connection, scale_id, scale.movement, found.proposed)
    intercepts = {fit.month: fit.spec.linking_constants.intercept for fit in fits[-MAX_INTERCEPTS:]}
    return MovementProposal(
        scale_id,
        month,
        **asdict(found.proposed),
        details=asdict(found) | {"effect": effect.sentence, "intercepts": intercepts},
    )


def _answers(connection: psycopg.Connection, published: PublishedSet, end: datetime) -> Responses:
    """Eligible answers of the year before `end` by learners who answered on enough days.

    If there are more than MAX_LEARNERS, the ones with the smallest hashes of their ids are used.
    """
    start, items = end - YEAR, list(published.items)
    for day in days_without_verdicts(connection, start, end):
        judge_day(connection, day)
    live = attempts_between(start, end)
    live = live.filter(live.mode == "live", live.item_id.isin(items))
    days = live.group_by("user_id").agg(days=live.completed_at.date().nunique())
    found = on_postgres(connection)(days.filter(days.days >= MovementEstimate.MIN_OCCASIONS).select("user_id"))
    by_hash = sorted(found["user_id"].to_pylist(), key=lambda user: sha256(user.encode()).hexdigest())
    learners = sorted(by_hash[: MovementEstimate.MAX_LEARNERS])
    return scoring_responses(connection, start, end, items, learners, published.withdrawn)[0]


def _order(responses: Responses, judged: Mapping[str, SetStatistics | None]) -> tuple[float, bool | None]:
    """Find the month with the strictest order of items. Its item difficulties may hide growth.

    Returns the R² of elapsed time on item (0 if no month is ordered), and whether growth was found in an ordered month
    (None if that cannot be judged). The statistics come from the months' fits or, if a fit has none, from the answers.
    """
    assert responses.at is not None
    month = responses.at.astype("M8[us]").astype("M8[M]")
    found = []
    for name in np.unique(month).astype(str).tolist():
        statistics = judged.get(name)
        growth = statistics.growth if statistics else None
        if growth is None:
            growth = WindowGrowth.from_answers(responses.of_rows(month == np.datetime64(name)))
        if growth.r2 is not None and growth.ordered and growth.outcome != "constant":
            found.append((growth.r2, growth.outcome))
    if not found:
        return 0.0, False
    return max(r2 for r2, _ in found), None if all(order == "not separable" for _, order in found) else True


def waiting_movement(connection: psycopg.Connection, scale: Scale) -> MovementProposal | None:
    """The newest proposal of a scale, if it differs from the movement in force and nobody has decided since."""
    proposal = newest_proposal(connection, scale.scale_id)
    if proposal is None or proposal.movement is None or as_settings(proposal.movement) == as_settings(scale.movement):
        return None
    decided = [d.decided_at for d in read_decisions(connection, scale.scale_id) if d.subject in MOVEMENT]
    return None if proposal.proposed_at and any(at > proposal.proposed_at for at in decided) else proposal


def as_settings(movement: Movement) -> dict[Subject, str]:
    """The values of a movement, as `irt scale set` takes them."""
    return {subject: f"{getattr(movement, part):.6g}" for subject, (part, *_) in MOVEMENT.items()}


def proposal_lines(proposal: MovementProposal) -> Iterator[str]:
    """Lines that present a proposal to a person, with the command that adopts it."""
    if proposal.movement is None:
        yield f"as of {proposal.month}, nothing is proposed: {proposal.why_not}"
        return
    known = proposal.details
    yield (
        f"as of {proposal.month}, from {known['learners']:,} learners with answers on {known['occasions']:,} days "
        f"within {known['weeks']:.0f} weeks:"
    )
    for subject, (part, *_) in MOVEMENT.items():
        yield (
            f"  {subject} {getattr(proposal, part):.3g} is proposed; estimated {known['estimate'][part]:.3g} ± "
            f"{known['errors'][part]:.2g}, p = {known['p'][part]:.2g} that it is 0"
        )
    yield from (f"  {remark}" for remark in remarks(known))
    values = " ".join(f"{subject}={value}" for subject, value in as_settings(proposal.movement).items())
    yield f"to adopt it: irt scale set {values} --scale {proposal.scale_id}"


def remarks(known: Mapping[str, Any]) -> Iterator[str]:
    """Sentences on the fit and the effect of a proposal. `known`: its details."""
    if known.get("growth_by_half"):  # proposals of older releases lack it
        halves = MovementEstimate.growth_from_json(known["growth_by_half"])
        if halves.differs:
            yield (
                f"growth is not linear: {halves.first:.3g} a week in the first half of learners' days, "
                f"{halves.second:.3g} in the second (p = {halves.p:.2g} that they are equal); "
                f"{'the second is' if halves.proposed else 'neither is'} proposed, "
                "and the walk follows the difference"
            )
    gain = known["log_likelihood"] - known["without_walk"]
    yield f"log likelihood {known['log_likelihood']:,.1f}, {gain:,.1f} more than without a walk"
    if known["intercepts"]:
        intercepts = ", ".join(f"{month} {value:+.3f}" for month, value in known["intercepts"].items())
        yield f"linking's intercepts: {intercepts}; items that all drift look like growth in both"
    yield str(known["effect"])
