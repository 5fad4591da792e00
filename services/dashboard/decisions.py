"""A person's decision, from the filled-in form to its outcome, in words.

The decisions call the functions of `irt release`, with the name that the login verified.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial, wraps
from typing import Any, Literal, ParamSpec

import psycopg
from pydantic import ValidationError

from irt_assets.adaptive.changes import effects_of_withdrawal
from irt_assets.adaptive.forms import plan_release, release_forms, release_sentences
from irt_assets.common.job_names import INVARIANTS_JOB
from irt_assets.common.wording import first_sentences, join_names, sentence, with_capital, with_stop
from irt_assets.decision_kinds import RESTORE, WITHDRAW
from irt_assets.decisions import anchor_versions, deciding, model_change, rekey, release, release_undo
from irt_assets.decisions.accepting import IN_WORDS
from irt_assets.decisions.closing import REOPEN_MONTHS, MonthRange
from irt_assets.decisions.movement_change import decide_movement_change, preview_movement_change
from irt_assets.decisions.movement_proposal import as_settings
from irt_assets.decisions.proposals import Proposal, Reference
from irt_assets.decisions.withdrawal import UseRequest
from irt_assets.intake.mapping import problems_of
from irt_assets.ledger.decision_rows import Kind
from irt_assets.ledger.movement_proposals import newest_proposal
from irt_assets.new_items.decided import BRING_BACK, REJECT, RETIRE, SEED, STOP, ItemDecision, ItemsRequest, SeedLimits
from irt_assets.new_items.publishing import PUBLISH, PublishNewItems, PublishRequest
from irt_assets.runs import queue
from irt_assets.scales.item_keys import Key
from irt_assets.scales.scale_decisions import Acceptable, require_text
from irt_assets.scores.equating import choose_equating, preview_choice
from irt_assets.scores.issuing import issue_scores, preview_issue
from irt_assets.scores.left_out import COUNT_ITEMS_AGAIN, LEAVE_ITEMS_OUT, ScoringRequest
from irt_assets.scores.releases import preview_release, release_table
from jobs.launching.launched_by import LAUNCHED_BY
from resources.dagster_compat import NOT_FINISHED_STATUSES
from resources.failures import PermanentFailure, TransientFailure, explain
from services.dashboard.page import ViewRequest
from services.jwt_verifier.tokens import Identity, Role, TokenRefused

LOG = logging.getLogger("services.dashboard")
DECIDER: Role = "psychometrician"
MAX_NAMED = 10
"""Number of proposals that are named one by one; the others are counted."""
DecisionKind = Literal[
    "accept",
    "reject",
    "undo",
    "drop",
    "put_back",
    "withdraw",
    "restore",
    "reopen",
    "adopt",
    "guessing",
    "misfit",
    "rekey",
    "undo_key",
    "release_table",
    "undo_table",
    "issue",
    "issue_again",
    "equate",
    "undo_equating",
    "release_form",
    "undo_form",
    "leave_out",
    "count_again",
    "publish",
    "seed",
    "stop",
    "reject_item",
    "retire",
    "bring_back",
]
STAGE_KINDS: Mapping[DecisionKind, ItemDecision | PublishNewItems] = {
    "publish": PUBLISH,
    "seed": SEED,
    "stop": STOP,
    "reject_item": REJECT,
    "retire": RETIRE,
    "bring_back": BRING_BACK,
}
"""Decisions on the stages of items."""
SCORING_NOTE = "θ reported before that day stay as they are; from then on everybody is scored with the new values."
FAULT = "This is a fault of the dashboard; see its log. Reload the page to see the decisions."
TYPED = "What you typed is still there"
DATABASE_REFUSALS: Mapping[type[Exception], str] = {
    psycopg.errors.QueryCanceled: f"The database is busy, and nothing was decided: try again. {TYPED}.",
    psycopg.errors.DeadlockDetected: f"The database is busy, and nothing was decided: try again. {TYPED}.",
    psycopg.errors.ReadOnlySqlTransaction: "The database cannot be changed at the moment, and nothing was decided: try "
    f"again in a minute. {TYPED}.",
    **dict.fromkeys(
        (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn),
        "The schema in the database does not fit this dashboard, and nothing was decided: `irt doctor` shows the "
        f"remedy. {TYPED}.",
    ),
    psycopg.OperationalError: f"The database does not answer: try again in a minute. {TYPED}, and nothing is decided "
    "twice.",
}
"""Refusals by error. The first class that fits counts."""
Arguments = ParamSpec("Arguments")


@dataclass(frozen=True)
class DecisionForm:
    """The filled-in form.

    Attributes:
        references: the proposals. For anchors: the first month that is linked with the change, and the item. For
            decisions on an item's use, stage or key: the item, without a window. For a month that is reopened, or from
            which on guessing or misfit is accepted: the month. For scores: the month of the sittings, and the form as
            the item. For an equating: the old form as window, and the new form as item.
        scale_id: scale of the anchors, of the movement that is adopted, or of the scores.
        since: first day on which the values are in force, or the item is in use or withdrawn. Empty: the default day.
        although_it_leaked: whether the person confirmed accepting an item that may have leaked.
        scoring, options: for a key: whether the `options` are right, all answers get credit, or the item is dropped.
            For a form's score: the items that are left out or counted again are the `options`. For the stages of
            items: the items, unless the reference is the item.
        method: for an equating: the chosen method.
        limits: for items to seed: the limits by name; empty texts leave the defaults.
    """

    kind: DecisionKind
    references: tuple[Reference, ...]
    reason: str
    since: str = ""
    although_it_leaked: bool = False
    scale_id: str = ""
    scoring: str = "options"
    options: tuple[str, ...] = ()
    method: str = ""
    limits: Mapping[str, str] = field(default_factory=dict)

    @property
    def items(self) -> list[str]:
        return [reference.item_id for reference in self.references]

    @property
    def month(self) -> str:
        return self.references[0].window if self.references else ""

    @property
    def day(self) -> datetime | None:
        return release.midnight(self.since, "the first day") if self.since else None

    @property
    def key(self) -> Key | None:
        scoring = "undo" if self.kind == "undo_key" else self.scoring
        options = self.options if scoring == "options" else ()
        return rekey.choose_key(options, every_answer=scoring == "all", drop=scoring == "drop", undo=scoring == "undo")


@dataclass(frozen=True)
class DecisionOutcome:
    """The effect of a decision, before or after it is made.

    Attributes:
        sentences: the effect, or the reason if `ok` is false.
        seen: the proposals as they were when the sentences were written.
        planned: the basis of a kind in `irt_assets.decision_kinds` or of a change of a key; otherwise the undo of
            decisions on proposals, the change of anchors or of a scale's movement, the release of a score table or of
            forms, the scores that are issued, or the choice of an equating.
        run_id: the run of a queued evaluation; otherwise empty.
    """

    ok: bool
    sentences: tuple[str, ...]
    seen: tuple[Proposal, ...] = ()
    planned: Any = None
    run_id: str = ""


@dataclass(frozen=True)
class DecisionType:
    """A kind of decision: the texts of its form, and its effect.

    Attributes:
        button: the button that previews it.
        confirm: the button that makes it.
        preview: the effect that it would have, from a read-only connection. Changes nothing.
        make: makes it; gets the outcome of `preview` that the person has seen, and fails if it has changed since.
        day: label of the field for its first day; empty if it has no first day.
    """

    button: str
    confirm: str
    preview: Callable[[psycopg.Connection, ViewRequest, DecisionForm], DecisionOutcome]
    make: Callable[[ViewRequest, DecisionForm, DecisionOutcome], DecisionOutcome]
    day: str = ""


def may_decide(identity: Identity) -> bool:
    return identity.has_role(DECIDER)


def _report_errors(attempt: Callable[Arguments, DecisionOutcome]) -> Callable[Arguments, DecisionOutcome]:
    """Turn the errors of a function into refusals, with the remedy."""

    @wraps(attempt)
    def attempt_or_refuse(*args: Arguments.args, **kwargs: Arguments.kwargs) -> DecisionOutcome:
        try:
            return attempt(*args, **kwargs)
        except TokenRefused as refused:
            LOG.warning("a decision was refused: %s", refused.reason)
            if refused.reason == "role_too_low":
                return DecisionOutcome(False, (f"Deciding needs the role {DECIDER}, which your login does not give.",))
            expired = "Your login has expired: reload the page, and log in. Nothing was decided."
            return DecisionOutcome(False, (expired,))
        except (PermanentFailure, TransientFailure) as failure:
            return DecisionOutcome(False, (with_stop(str(failure)),))
        except Exception as error:
            reason = next((text for kind, text in DATABASE_REFUSALS.items() if isinstance(error, kind)), FAULT)
            LOG.warning("a decision failed: %s", explain(error) or error, exc_info=reason == FAULT)
            return DecisionOutcome(False, (reason,))

    return attempt_or_refuse


@_report_errors
def review(request: ViewRequest, form: DecisionForm) -> DecisionOutcome:
    """The effect that the decision would have. Changes nothing."""
    _require_decider(request.identity)
    require_text("name", request.identity.sub)
    require_text("reason", form.reason)
    return _preview(request, form)


@_report_errors
def decide(request: ViewRequest, form: DecisionForm, seen: DecisionOutcome | None = None) -> DecisionOutcome:
    """Decide on all references or, on any error, on nothing.

    `seen`: the outcome of the review. Nothing is decided if the basis of the decision has changed.
    """
    _require_decider(request.identity)
    return DECISIONS[form.kind].make(request, form, seen or _preview(request, form))


@_report_errors
def queue_months(request: ViewRequest, months: Sequence[str]) -> DecisionOutcome:
    """Queue a run of each of the months that is stale, in the caller's name."""
    _require_decider(request.identity)
    reader, by = request.reader, request.identity.sub
    queued = queue.queue_stale_months(reader.instance, reader.settings, reader.database, months, by)
    requested = f"{join_names(queued, MAX_NAMED)}: requested by {by}."
    return DecisionOutcome(True, (requested if queued else "Every month is already queued or computed.",))


@_report_errors
def queue_evaluation(request: ViewRequest) -> DecisionOutcome:
    """Queue an evaluation of the invariants in the caller's name, unless an evaluation is queued or under way."""
    _require_decider(request.identity)
    reader, tags = request.reader, {LAUNCHED_BY: request.identity.sub}
    run_id = queue.queue_once(
        *(reader.instance, reader.settings, reader.database, INVARIANTS_JOB, NOT_FINISHED_STATUSES), tags
    )
    return DecisionOutcome(True, ("An evaluation of the invariants is queued or under way.",), run_id=run_id)


def _preview(request: ViewRequest, form: DecisionForm) -> DecisionOutcome:
    with request.reader.connect() as connection:
        return DECISIONS[form.kind].preview(connection, request, form)


def _require_decider(identity: Identity) -> None:
    identity.require_current()
    identity.require_role(DECIDER)


def _effect(*clauses: str, **details: Any) -> DecisionOutcome:
    return DecisionOutcome(True, tuple(map(with_stop, clauses)), **details)


def _signature(request: ViewRequest, form: DecisionForm) -> dict[str, Any]:
    return {"by": request.identity.sub, "reason": form.reason}


def _reference_list(proposals: Sequence[Proposal]) -> str:
    return join_names((str(p.reference) for p in proposals), MAX_NAMED)


# -- proposals ---------------------------------------------------------------------------------------


def _preview_accept(connection: psycopg.Connection, request: ViewRequest, form: DecisionForm) -> DecisionOutcome:
    now = request.reader.now()
    since = release.parse_start(form.since, now)
    accepted = release.find_acceptable(connection, form.references, since, now)
    if not form.although_it_leaked:
        release.refuse_leaks(accepted, "confirm that it is accepted although it leaked")
    changes = release.changes_of_answers(connection, accepted)
    sentences = [
        f"{p.item_id} is published with {p.new} from {since:%Y-%m-%d} on, in place of {p.old or 'nothing'}."
        for p in accepted
    ]
    lines = (*first_sentences(sentences, MAX_NAMED), SCORING_NOTE, *changes)
    return _effect(*lines, seen=tuple(accepted))


def _accept(request: ViewRequest, form: DecisionForm, seen: DecisionOutcome) -> DecisionOutcome:
    now = request.reader.now()
    since = release.parse_start(form.since, now)
    signed = _signature(request, form)
    accepted = release.accept(
        request.reader.database, form.references, **signed, effective_from=since, now=now, seen=seen.seen
    )
    return _effect(f"Accepted: {_reference_list(accepted)}, in force from {since:%Y-%m-%d} 00:00 UTC on")


def _preview_reject(connection: psycopg.Connection, _request: ViewRequest, form: DecisionForm) -> DecisionOutcome:
    rejected = release.open_proposals(connection, form.references)
    changes = release.changes_of_answers(connection, rejected)
    return _effect(release.effect_of_reject(rejected), *changes, seen=tuple(rejected))


def _reject(request: ViewRequest, form: DecisionForm, seen: DecisionOutcome) -> DecisionOutcome:
    rejected = release.reject(request.reader.database, form.references, **_signature(request, form), seen=seen.seen)
    return _effect(f"Rejected: {_reference_list(rejected)}", release.effect_of_reject(rejected))


def _preview_undo(connection: psycopg.Connection, request: ViewRequest, form: DecisionForm) -> DecisionOutcome:
    undone = release_undo.preview(connection, form.references, **_undo_from(request, form))
    return _effect(*first_sentences([one.sentence for one in undone], MAX_NAMED), planned=undone)


def _undo(request: ViewRequest, form: DecisionForm, seen: DecisionOutcome) -> DecisionOutcome:
    database, signature = request.reader.database, _signature(request, form)
    undone = release_undo.undo(database, form.references, **signature, **_undo_from(request, form), seen=seen.planned)
    return _effect("Undone", *first_sentences([one.sentence for one in undone], MAX_NAMED))


def _undo_from(request: ViewRequest, form: DecisionForm) -> dict[str, Any]:
    now = request.reader.now()
    return {"effective_from": release.parse_start(form.since, now) if form.since else None, "now": now}


# -- anchors, items, months, movement and scores -------------------------------------------------------------


def _preview_anchors(
    kind: anchor_versions.Kind, connection: psycopg.Connection, _request: ViewRequest, form: DecisionForm
) -> DecisionOutcome:
    change = anchor_versions.preview_change(connection, kind, form.scale_id, form.items, form.month)
    return _effect(change.sentence, _reversal_hint(change), planned=change)


def _change_anchors(
    kind: anchor_versions.Kind, request: ViewRequest, form: DecisionForm, seen: DecisionOutcome
) -> DecisionOutcome:
    change = anchor_versions.change_anchors(
        request.reader.database,
        *(kind, form.scale_id, form.items, form.month),
        **_signature(request, form),
        seen=seen.planned,
    )
    word = "Dropped" if kind == "drop_anchor" else "Restored"
    done = f"{word}: {', '.join(change.items)}; {change.n_left} anchors are in the set from {change.first_month} on"
    again = [f"To be recomputed: {join_names(change.stale, MAX_NAMED)}"] if change.stale else []
    return _effect(done, *again, _reversal_hint(change))


def _reversal_hint(change: anchor_versions.AnchorChange) -> str:
    here = "“Restore …” under Decisions, or " if change.what == "drop_anchor" else ""
    return f"{here}{change.undo_sentence}"


def _preview_acceptance(
    subject: Acceptable, _connection: psycopg.Connection, _request: ViewRequest, form: DecisionForm
) -> DecisionOutcome:
    accepted = f"Scale {form.scale_id}, months from {form.month} on: it is accepted that {IN_WORDS[subject]}"
    return _effect(accepted, f"This alone no longer holds {form.month}, which is to be recomputed")


def _accept_subject(
    subject: Acceptable, request: ViewRequest, form: DecisionForm, _seen: DecisionOutcome
) -> DecisionOutcome:
    database, signed = request.reader.database, _signature(request, form)
    if subject == "guessing":
        model_change.accept_guessing(database, form.scale_id, form.month, **signed)
    else:
        model_change.accept_misfit(database, form.scale_id, None, form.month, **signed)
    return _effect(f"Accepted: {IN_WORDS[subject]}, for months from {form.month} on")


def _preview_key(connection: psycopg.Connection, request: ViewRequest, form: DecisionForm) -> DecisionOutcome:
    seen = rekey.preview(request.reader.database, form.items[0], form.key, now=request.reader.now())
    lines = rekey.effect_in_words(seen)
    if form.key == []:  # the item is dropped
        lines += effects_of_withdrawal(connection, form.items[:1], request.reader.now())
    return _effect(*map(with_capital, lines), planned=seen.basis)


def _change_key(request: ViewRequest, form: DecisionForm, seen: DecisionOutcome) -> DecisionOutcome:
    signed = _signature(request, form)
    done = rekey.rekey(request.reader.database, form.items[0], form.key, **signed, seen=seen.planned)
    return _effect(*map(with_capital, done.sentences))


def _preview_movement(connection: psycopg.Connection, request: ViewRequest, form: DecisionForm) -> DecisionOutcome:
    """The change that adopts the newest proposal of a scale's movement from the first open month on."""
    proposal = newest_proposal(connection, form.scale_id)
    if proposal is None or proposal.movement is None:
        raise PermanentFailure(f"no movement of scale {form.scale_id} is proposed")
    begin, values = request.reader.settings.irt_first_month, as_settings(proposal.movement)
    change = preview_movement_change(request.reader.database, form.scale_id, values, None, calibrations_begin=begin)
    return DecisionOutcome(bool(change.values), tuple(map(sentence, change.lines)), planned=change)


def _adopt(request: ViewRequest, form: DecisionForm, seen: DecisionOutcome) -> DecisionOutcome:
    done = decide_movement_change(request.reader.database, seen.planned, **_signature(request, form))
    again = [f"{join_names(done.stale, MAX_NAMED)}: abilities are measured again while `irt serve` runs"]
    accepted = f"Accepted: the movement holds from {done.first_month} on"
    return _effect(accepted, *(again if done.stale else ()))


def _preview_equating(
    undo: bool, connection: psycopg.Connection, request: ViewRequest, form: DecisionForm
) -> DecisionOutcome:
    method, now = None if undo else form.method, request.reader.now()
    choice = preview_choice(connection, form.scale_id, form.items[0], form.month, method, now=now)
    return _effect(*map(with_capital, choice.sentences), planned=choice)


def _choose_equating(undo: bool, request: ViewRequest, form: DecisionForm, seen: DecisionOutcome) -> DecisionOutcome:
    method = None if undo else form.method
    known = _signature(request, form) | {"now": request.reader.now(), "seen": seen.planned}
    done = choose_equating(request.reader.database, form.scale_id, form.items[0], form.month, method, **known)
    return _effect("Undone" if undo else "Chosen", *map(with_capital, done.sentences))


def _preview_table(
    undo: bool, connection: psycopg.Connection, _request: ViewRequest, form: DecisionForm
) -> DecisionOutcome:
    found = preview_release(connection, form.scale_id, form.items[0], undo=undo)
    return _effect(*map(with_capital, found.sentences), planned=found)


def _release_table(undo: bool, request: ViewRequest, form: DecisionForm, seen: DecisionOutcome) -> DecisionOutcome:
    done = release_table(
        request.reader.database,
        *(form.scale_id, form.items[0]),
        **_signature(request, form),
        undo=undo,
        seen=seen.planned,
    )
    return _effect("Undone" if undo else "Released", *map(with_capital, done.sentences))


def _preview_issue(
    again: bool, _connection: psycopg.Connection, request: ViewRequest, form: DecisionForm
) -> DecisionOutcome:
    found = preview_issue(request.reader.database, form.scale_id, form.items[0], form.month, now=request.reader.now())
    lines = [f"Scores of the sittings of {form.month}", *map(with_capital, found.sentences)]
    if again:
        changed = [
            f"{new.user_id}: {old.scaled:,.10g} → {new.scaled:,.10g}"
            + ("" if old.passes == new.passes else ", passes now" if new.passes else ", does not pass any more")
            for old, new in sorted(found.changed, key=lambda pair: pair[0].passes == pair[1].passes)
        ]
        lines += first_sentences(changed, MAX_NAMED)
    elif found.changed:
        lines.append("The scores that differ stay as they were handed out, unless they are issued again")
    return replace(_effect(*lines, planned=found), ok=bool(found.new or (again and found.changed)))


def _issue(again: bool, request: ViewRequest, form: DecisionForm, seen: DecisionOutcome) -> DecisionOutcome:
    done = issue_scores(
        request.reader.database,
        *(form.scale_id, form.items[0], form.month),
        **_signature(request, form),
        again=again,
        now=request.reader.now(),
        seen=seen.planned,
    )
    return _effect("Issued", *map(with_capital, done.sentences))


def _preview_form(
    undo: bool, connection: psycopg.Connection, request: ViewRequest, form: DecisionForm
) -> DecisionOutcome:
    planned = plan_release(connection, form.items, request.reader.now(), undo=undo)
    return _effect(*map(with_capital, release_sentences(planned, undo=undo)), planned=planned)


def _release_form(undo: bool, request: ViewRequest, form: DecisionForm, seen: DecisionOutcome) -> DecisionOutcome:
    known = _signature(request, form) | {"at": request.reader.now(), "seen": seen.planned}
    done = release_forms(request.reader.database, form.items, undo=undo, **known)
    return _effect("Undone" if undo else "Released", *map(with_capital, release_sentences(done, undo=undo)))


def _use_request(request: ViewRequest, form: DecisionForm) -> UseRequest:
    return UseRequest(form.items, form.day, request.reader.now())


def _scoring_request(_request: ViewRequest, form: DecisionForm) -> ScoringRequest:
    return ScoringRequest(form.scale_id, form.items[0], form.options)


def _items_request(_request: ViewRequest, form: DecisionForm) -> ItemsRequest:
    try:
        limits = SeedLimits.model_validate({name: text for name, text in form.limits.items() if text})
    except ValidationError as error:
        raise PermanentFailure(f"nothing was decided: {problems_of(error, SeedLimits)}") from error
    return ItemsRequest(form.options or form.items, limits)


def _publish_request(request: ViewRequest, form: DecisionForm) -> PublishRequest:
    return PublishRequest(form.options or form.items, request.reader.now())


def _wired(
    button: str, confirm: str, kind: Kind, ask: Callable[[ViewRequest, DecisionForm], Any], day: str = ""
) -> DecisionType:
    """Wire a kind of `irt_assets.decision_kinds`. `ask` reads the kind's request from the form."""

    def preview_plan(connection: psycopg.Connection, request: ViewRequest, form: DecisionForm) -> DecisionOutcome:
        plan = deciding.preview(connection, kind, ask(request, form))
        return _effect(*map(with_capital, plan.sentences), planned=plan.basis)

    def make(request: ViewRequest, form: DecisionForm, seen: DecisionOutcome) -> DecisionOutcome:
        signed = _signature(request, form)
        done = deciding.decide(request.reader.database, kind, ask(request, form), seen.planned, **signed)
        return _effect(with_capital(done))

    return DecisionType(button, confirm, preview_plan, make, day)


DECISIONS: Mapping[DecisionKind, DecisionType] = {
    "accept": DecisionType(
        "Accept …",
        "Yes, publish",
        _preview_accept,
        _accept,
        "Accepted values are in force from this day on (UTC)",
    ),
    "reject": DecisionType("Reject …", "Yes, reject", _preview_reject, _reject),
    "undo": DecisionType(
        "Undo …",
        "Yes, undo",
        _preview_undo,
        _undo,
        "First day of the values before, UTC (empty: as soon as it changes nothing reported)",
    ),
    "drop": DecisionType(
        "Drop from the anchors …",
        "Yes, drop",
        partial(_preview_anchors, "drop_anchor"),
        partial(_change_anchors, "drop_anchor"),
    ),
    "put_back": DecisionType(
        "Restore to the anchors …",
        "Yes, restore",
        partial(_preview_anchors, "restore_anchor"),
        partial(_change_anchors, "restore_anchor"),
    ),
    "withdraw": _wired(
        "Take it out of use …",
        "Yes, withdraw",
        WITHDRAW,
        _use_request,
        "First day out of use, UTC (empty: tomorrow)",
    ),
    "restore": _wired(
        "Put it back into use …",
        "Yes, restore",
        RESTORE,
        _use_request,
        "First day back in use, UTC (empty: the first that is still to come)",
    ),
    "reopen": _wired("Reopen the month …", "Yes, reopen", REOPEN_MONTHS, lambda _request, form: MonthRange(form.month)),
    "adopt": DecisionType("Accept the movement …", "Yes, accept", _preview_movement, _adopt),
    **{
        subject: DecisionType(
            f"Accept that {words} …",
            "Yes, accept",
            partial(_preview_acceptance, subject),
            partial(_accept_subject, subject),
        )
        for subject, words in IN_WORDS.items()
    },
    "rekey": DecisionType("Change the key …", "Yes, change the key", _preview_key, _change_key),
    "undo_key": DecisionType("Undo the last change …", "Yes, undo", _preview_key, _change_key),
    "release_table": DecisionType(
        "Release the newest table …", "Yes, release", partial(_preview_table, False), partial(_release_table, False)
    ),
    "undo_table": DecisionType(
        "Undo the last release …", "Yes, undo", partial(_preview_table, True), partial(_release_table, True)
    ),
    "issue": DecisionType(
        "Issue the month's scores …", "Yes, issue", partial(_preview_issue, False), partial(_issue, False)
    ),
    "issue_again": DecisionType(
        "Issue changed scores again …", "Yes, issue again", partial(_preview_issue, True), partial(_issue, True)
    ),
    "equate": DecisionType(
        "Choose the method …",
        "Yes, choose it",
        partial(_preview_equating, False),
        partial(_choose_equating, False),
    ),
    "undo_equating": DecisionType(
        "Undo the choice …", "Yes, undo", partial(_preview_equating, True), partial(_choose_equating, True)
    ),
    "release_form": DecisionType(
        "Release the form …", "Yes, release", partial(_preview_form, False), partial(_release_form, False)
    ),
    "undo_form": DecisionType(
        "Undo the release …", "Yes, undo", partial(_preview_form, True), partial(_release_form, True)
    ),
    "leave_out": _wired("Leave the items out …", "Yes, leave them out", LEAVE_ITEMS_OUT, _scoring_request),
    "count_again": _wired("Count the items again …", "Yes, count them", COUNT_ITEMS_AGAIN, _scoring_request),
    "publish": _wired("Publish …", "Yes, publish", PUBLISH, _publish_request),
    "seed": _wired("Seed …", "Yes, seed", SEED, _items_request),
    "stop": _wired("Stop seeding …", "Yes, stop", STOP, _items_request),
    "reject_item": _wired("Reject …", "Yes, reject", REJECT, _items_request),
    "retire": _wired("Retire …", "Yes, retire", RETIRE, _items_request),
    "bring_back": _wired("Bring back …", "Yes, bring back", BRING_BACK, _items_request),
}
