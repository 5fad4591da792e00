"""A person's decision, from the filled-in form to its outcome, in words.

The decisions call the functions of `irt release`, with the name that the login verified.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import psycopg

from irt_assets.common.wording import join_names, quantity, sentence, with_capital, with_stop
from irt_assets.decisions import anchor_versions, closing, rekey, release, release_undo, withdrawal
from irt_assets.decisions.movement_change import MovementChange, decide_movement_change, preview_movement_change
from irt_assets.decisions.movement_proposal import as_settings
from irt_assets.decisions.proposals import Proposal, Reference
from irt_assets.ledger.movement_proposals import newest_proposal
from irt_assets.responses.item_keys import Key
from irt_assets.runs import queue
from resources.failures import PermanentFailure, TransientFailure, explain
from services.dashboard.page import ViewRequest
from services.jwt_verifier.tokens import Identity, Role, TokenRefused

LOG = logging.getLogger("services.dashboard")
DECIDER: Role = "psychometrician"
MAX_NAMED = 10
"""Number of proposals that are named one by one; the others are counted."""
DecisionKind = Literal[
    "accept", "reject", "undo", "drop", "put_back", "withdraw", "restore", "reopen", "adopt", "rekey", "undo_key"
]
ANCHORS: dict[str, anchor_versions.Kind] = {"drop": "drop_anchor", "put_back": "restore_anchor"}
KEYS = ("rekey", "undo_key")
USES: dict[str, withdrawal.Use] = {"withdraw": "withdrawn", "restore": "restored"}


@dataclass(frozen=True)
class DecisionForm:
    """The filled-in form.

    Attributes:
        references: the proposals. For anchors: the first month that is linked with the change, and the item. For
            items that are withdrawn or restored: the item, without a window. For a month that is reopened: the month,
            without an item.
        scale_id: scale of the anchors, or of the movement that is adopted.
        since: first day on which the values are in force, or the item is in use or withdrawn. Empty: the default day.
        although_it_leaked: whether the person confirmed accepting an item that may have leaked.
        scoring, options: for a key: whether the `options` are right, all answers get credit, or the item is dropped.
    """

    kind: DecisionKind
    references: tuple[Reference, ...]
    reason: str
    since: str = ""
    although_it_leaked: bool = False
    scale_id: str = ""
    scoring: str = "options"
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class DecisionOutcome:
    """The effect of a decision, before or after it is made.

    Attributes:
        sentences: the effect, or the reason if `ok` is false.
        seen: the proposals as they were when the sentences were written.
        stale: months to be materialised again.
        movement: the change of a scale's movement.
    """

    ok: bool
    sentences: tuple[str, ...]
    seen: tuple[Proposal, ...] = ()
    stale: tuple[str, ...] = ()
    movement: MovementChange | None = None


def may_decide(identity: Identity) -> bool:
    return identity.has_role(DECIDER)


def review(request: ViewRequest, form: DecisionForm) -> DecisionOutcome:
    """The effect that the decision would have. Changes nothing."""
    return _report_errors(lambda: _review(request, form))


def decide(
    request: ViewRequest,
    form: DecisionForm,
    seen: Sequence[Proposal] = (),
    movement: MovementChange | None = None,
) -> DecisionOutcome:
    """Decide on all references or, on any error, on nothing.

    `seen`, `movement`: the proposals and the change of movement as reviewed. Nothing is decided if they have changed.
    """
    if form.kind == "adopt":
        return _report_errors(lambda: _adopt(request, form, movement))
    return _report_errors(lambda: _decide(request, form, seen))


def queue_months(request: ViewRequest, months: Sequence[str]) -> DecisionOutcome:
    """Queue a run of each of the months that is stale, in the caller's name."""
    return _report_errors(lambda: _queue_months(request, months))


def _queue_months(request: ViewRequest, months: Sequence[str]) -> DecisionOutcome:
    _require_decider(request.identity)
    reader, by = request.reader, request.identity.sub
    queued = queue.queue_stale_months(reader.instance, reader.settings, reader.database, months, by)
    reader.drop_overview()
    sentence = (
        f"{join_names(queued, MAX_NAMED)}: requested by {by}."
        if queued
        else "Every month is already queued or computed."
    )
    return DecisionOutcome(True, (sentence,), stale=tuple(queued))


def _review(request: ViewRequest, form: DecisionForm) -> DecisionOutcome:
    _require_decider(request.identity)
    release.require_text("name", request.identity.sub)
    release.require_text("reason", form.reason)
    if form.kind == "adopt":
        movement = _preview_movement(request, form.scale_id)
        return DecisionOutcome(bool(movement.values), tuple(map(sentence, movement.lines)), movement=movement)
    now = request.reader.now()
    if form.kind in KEYS:
        done, shift = rekey.preview(request.reader.database, _items(form)[0], _key(form), now=now)
        return DecisionOutcome(True, _whole_sentences(rekey.effect_in_words(done, shift)))
    with request.reader.connect() as connection:
        if anchor_decision := ANCHORS.get(form.kind):
            change = anchor_versions.preview_change(
                connection, anchor_decision, form.scale_id, _items(form), _month(form)
            )
            return DecisionOutcome(True, (with_stop(change.sentence), _reversal_hint(change)), stale=change.stale)
        if use := USES.get(form.kind):
            begins = withdrawal.preview(connection, _items(form), use, since=_day(form), now=now)
            return DecisionOutcome(
                True, _shorten_list(_effect_of_use(item, use, since) for item, since in begins.items())
            )
        if form.kind == "reopen":
            opening = closing.preview_reopening(connection, _month(form))
            return DecisionOutcome(True, _whole_sentences(opening.sentences), stale=opening.stale)
        if form.kind == "undo":
            again_from = release.parse_start(form.since, now) if form.since else None
            undone = release_undo.preview(connection, form.references, effective_from=again_from, now=now)
            return DecisionOutcome(
                True, _shorten_list(with_stop(one.sentence) for one in undone), tuple(u.proposal for u in undone)
            )
        if form.kind == "reject":
            rejected = release.open_proposals(connection, form.references)
            sentences = [release.effect_of_reject(rejected), *release.changes_of_answers(connection, rejected)]
            return DecisionOutcome(True, tuple(map(with_stop, sentences)), tuple(rejected))
        since = release.parse_start(form.since, now)
        accepted = release.find_acceptable(connection, form.references, since, now)
        _require_leaks_confirmed(form, accepted)
        lines = _shorten_list(
            f"{p.item_id} is published with {p.new} from {since:%Y-%m-%d} on, in place of {p.old or 'nothing'}."
            for p in accepted
        )
        scoring_note = (
            "θ reported before that day stay as they are; from then on everybody is scored with the new values."
        )
        changes = map(with_stop, release.changes_of_answers(connection, accepted))
        return DecisionOutcome(True, (*lines, scoring_note, *changes), tuple(accepted))


def _decide(request: ViewRequest, form: DecisionForm, seen: Sequence[Proposal]) -> DecisionOutcome:
    _require_decider(request.identity)
    by, reason, now, database = request.identity.sub, form.reason, request.reader.now(), request.reader.database
    stale: tuple[str, ...] = ()
    if anchor_decision := ANCHORS.get(form.kind):
        items, month = _items(form), _month(form)
        change = anchor_versions.change_anchors(
            database, anchor_decision, form.scale_id, items, month, by=by, reason=reason
        )
        word = "Dropped" if form.kind == "drop" else "Restored"
        sentences = [
            f"{word}: {', '.join(change.items)}; {change.n_left} anchors are in the set from {change.first_month} on.",
            _reversal_hint(change),
        ]
        stale = change.stale
    elif form.kind in USES:
        decide_use = withdrawal.withdraw if form.kind == "withdraw" else withdrawal.restore
        statuses = decide_use(database, _items(form), since=_day(form), by=by, reason=reason, now=now)
        sentences = [with_stop(f"{status.item_id} is {status.sentence}") for status in statuses]
    elif form.kind in KEYS:
        done = rekey.rekey(database, _items(form)[0], _key(form), by=by, reason=reason)
        sentences = [*_whole_sentences(done.sentences)]
    elif form.kind == "reopen":
        opening = closing.reopen_months(database, _month(form), by=by, reason=reason)
        sentences, stale = ["Reopened.", *_whole_sentences(opening.sentences)], opening.stale
    elif form.kind == "undo":
        again_from = release.parse_start(form.since, now) if form.since else None
        undone = release_undo.undo(database, form.references, by=by, reason=reason, effective_from=again_from, now=now)
        sentences = ["Undone.", *(with_stop(one.sentence) for one in undone)]
    elif form.kind == "reject":
        rejected = release.reject(database, form.references, by=by, reason=reason, seen=seen)
        sentences = [f"Rejected: {_reference_list(rejected)}.", with_stop(release.effect_of_reject(rejected))]
    else:
        since = release.parse_start(form.since, now)
        seen = seen or _review(request, form).seen
        _require_leaks_confirmed(form, seen)
        accepted = release.accept(
            database, form.references, by=by, reason=reason, effective_from=since, now=now, seen=seen
        )
        sentences = [f"Accepted: {_reference_list(accepted)}, in force from {since:%Y-%m-%d} 00:00 UTC on."]
    request.reader.drop_overview()
    return DecisionOutcome(True, _shorten_list(sentences), stale=stale)


def _preview_movement(request: ViewRequest, scale_id: str) -> MovementChange:
    """The change that adopts the newest proposal of a scale's movement from the first open month on."""
    with request.reader.connect() as connection:
        proposal = newest_proposal(connection, scale_id)
    if proposal is None or proposal.movement is None:
        raise PermanentFailure(f"no movement of scale {scale_id} is proposed")
    begin = request.reader.settings.irt_first_month
    values = as_settings(proposal.movement)
    return preview_movement_change(request.reader.database, scale_id, values, None, calibrations_begin=begin)


def _adopt(request: ViewRequest, form: DecisionForm, change: MovementChange | None) -> DecisionOutcome:
    _require_decider(request.identity)
    change = change or _preview_movement(request, form.scale_id)
    done = decide_movement_change(request.reader.database, change, by=request.identity.sub, reason=form.reason)
    request.reader.drop_overview()
    again = f"{join_names(done.stale, MAX_NAMED)}: abilities are measured again while `irt serve` runs."
    sentences = (f"Accepted: the movement holds from {done.first_month} on.", *((again,) if done.stale else ()))
    return DecisionOutcome(True, sentences, stale=done.stale)


def _whole_sentences(clauses: Iterable[str]) -> tuple[str, ...]:
    return tuple(with_capital(with_stop(clause)) for clause in clauses)


def _require_decider(identity: Identity) -> None:
    identity.require_current()
    identity.require_role(DECIDER)


def _require_leaks_confirmed(form: DecisionForm, accepted: Sequence[Proposal]) -> None:
    if not form.although_it_leaked:
        release.refuse_leaks(accepted, "confirm that it is accepted although it leaked")


def _report_errors(attempt: Callable[[], DecisionOutcome]) -> DecisionOutcome:
    try:
        return attempt()
    except TokenRefused as refused:
        LOG.warning("a decision was refused: %s", refused.reason)
        if refused.reason == "role_too_low":
            return _refusal(f"Deciding needs the role {DECIDER}, which your login does not give.")
        return _refusal("Your login has expired: reload the page, and log in. Nothing was decided.")
    except (PermanentFailure, TransientFailure) as failure:
        return _refusal(with_stop(str(failure)))
    except (psycopg.errors.QueryCanceled, psycopg.errors.DeadlockDetected):
        return _refusal("The database is busy, and nothing was decided: try again. What you typed is still there.")
    except psycopg.errors.ReadOnlySqlTransaction:
        return _refusal(
            "The database cannot be changed at the moment, and nothing was decided: try again in a minute. "
            "What you typed is still there."
        )
    except psycopg.OperationalError as error:
        LOG.warning("the database does not answer: %s", explain(error) or error)
        return _refusal(
            "The database does not answer: try again in a minute. What you typed is still there, and nothing is "
            "decided twice."
        )
    except Exception:
        LOG.exception("a decision failed")
        return _refusal("This is a fault of the dashboard; see its log. Reload the page to see the decisions.")


def _refusal(reason: str) -> DecisionOutcome:
    return DecisionOutcome(False, (reason,))


def _items(form: DecisionForm) -> list[str]:
    return [reference.item_id for reference in form.references]


def _key(form: DecisionForm) -> Key | None:
    scoring = "undo" if form.kind == "undo_key" else form.scoring
    options = form.options if scoring == "options" else ()
    return rekey.choose_key(options, every_answer=scoring == "all", drop=scoring == "drop", undo=scoring == "undo")


def _day(form: DecisionForm) -> datetime | None:
    return release.midnight(form.since, "the first day") if form.since else None


def _reversal_hint(change: anchor_versions.AnchorChange) -> str:
    here = "“Restore …” under Decisions, or " if change.what == "drop_anchor" else ""
    return with_stop(f"{here}{change.undo_sentence}")


def _effect_of_use(item: str, use: withdrawal.Use, since: datetime) -> str:
    day = f"{since:%Y-%m-%d} 00:00 UTC"
    if use == "withdrawn":
        return (
            f"{item} is out of use from {day} on: answers from then on count towards no ability, and nothing "
            "about it asks for a decision. What was reported until then stays as it is."
        )
    return f"{item} is in use again from {day} on; answers given while it was withdrawn never count."


def _month(form: DecisionForm) -> str:
    return form.references[0].window if form.references else ""


def _reference_list(proposals: Sequence[Proposal]) -> str:
    return join_names((str(p.reference) for p in proposals), MAX_NAMED)


def _shorten_list(sentences: Iterable[str]) -> tuple[str, ...]:
    every = tuple(sentences)
    more = (f"And {quantity(len(every) - MAX_NAMED, 'other')} likewise.",) if len(every) > MAX_NAMED else ()
    return every[:MAX_NAMED] + more
