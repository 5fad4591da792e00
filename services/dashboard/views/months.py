"""Every month of every scale as a traffic light, with the reason and the next step."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import psycopg
from htmltools import tags
from shiny import Inputs, Outputs, Session

from irt_assets.blocks import (
    Badge,
    Block,
    Box,
    Cell,
    Details,
    List,
    Moment,
    Paragraph,
    Section,
    Span,
    Text,
    Tone,
    notice,
    prose,
    table,
)
from irt_assets.blocks.html import BOOTSTRAP
from irt_assets.common.dashboard_pages import address, page_link
from irt_assets.common.environment import CODE_LOCATION
from irt_assets.common.job_names import MONTHLY_JOB
from irt_assets.common.partitions import months_between
from irt_assets.common.wording import in_words, is_or_are, join_names, quantity, shorten, span, with_capital
from irt_assets.decisions.origin import OriginSummary, read_origin
from irt_assets.decisions.proposals import waiting_proposals
from irt_assets.gates.month_classification import MonthState, State
from irt_assets.invariants.open_violations import (
    OpenViolation,
    changes_since_evaluation,
    last_evaluated,
    open_violations,
)
from irt_assets.item_analysis.key_evidence import suspect_keys
from irt_assets.ledger.steps import step_of
from irt_assets.responses.closing_records import read_closed
from irt_assets.scales.scale import read_scales
from jobs.plans import PLANS
from jobs.watching.daemons import daemon_state
from jobs.watching.lateness import read_lateness
from jobs.watching.overview import count_by_month, open_alerts
from services.dashboard import rematerialising
from services.dashboard.address_fields import find_scale, months_of, scales_of, state_of
from services.dashboard.data_access import Reader
from services.dashboard.elements import markup
from services.dashboard.figures import render_blocks
from services.dashboard.page import Page, ViewRequest
from services.dashboard.release_status import (
    NOTHING_TO_DO,
    next_step,
    shorten_reason,
    verdict,
)
from services.dashboard.views import glance

NOTHING_YET = (
    "There is no month to release yet: import the bank (`irt import questions FILE`) and the answers "
    "(`irt import attempts FILE`), then `irt scale init` and `irt calibrate --month MONTH`."
)

MAX_NAMED = 5
NO_PROBLEMS = "The daemon runs, no schedule is late, and no invariant is violated."
Waiting = Counter[tuple[str, str]]
"""Number of proposals that need a decision, by month and scale."""


def page(request: ViewRequest) -> Page:
    reader, states = request.reader, request.reader.month_states()
    if not states:
        return Page("Months", render_blocks(notice(prose(NOTHING_YET), "warning")))
    scales, shown = scales_of(states), find_scale(request, states)
    to_make = any(state.state is State.STALE for state in states)
    with reader.connect() as connection:
        proposals, scale_by_id = waiting_proposals(connection), read_scales(connection)
        waiting = count_by_month(proposals)
        body = render_blocks(
            _last_month_box(connection, states, waiting),
            rematerialising.button_place(request) if to_make else None,
            *_missing_months(request, states),
            _status_line(connection, reader, months_of(states)[0]),
            glance.strip(states, scales),
            glance.plots(connection, scale_by_id[shown], months_of(states)[0], reader.now(), proposals),
            glance.cards(connection, proposals, scale_by_id),
            _grid(states, waiting, scales) if len(scales) > 1 else _list(connection, states, waiting, scales[0]),
            *_origins(connection, scales),
        )
    return Page("Months", body)


def server(request: ViewRequest, inputs: Inputs, _output: Outputs, _session: Session) -> None:
    rematerialising.handle_events(request, inputs)


def _last_month_box(connection: psycopg.Connection, states: Sequence[MonthState], waiting: Waiting) -> Box:
    """Write a sentence for each scale about the last month with answers, or the last month if no month has answers."""
    months, scales = months_of(states), scales_of(states)
    with_answers = {state.month for state in states if state.state is not State.EMPTY}
    last = next((month for month in months if month in with_answers), months[0])
    sentences: list[Text] = (
        [f"{span(months[months.index(last) - 1], months[0])}: no answers."] if last != months[0] else []
    )
    for scale_id in scales:
        state = state_of(states, last, scale_id)
        step = step_of(connection, scale_id, last) if state.state is State.RED else None
        summary: Text = verdict(state, waiting[last, scale_id], step)
        if state.state is State.ORIGIN and (origin := read_origin(connection, scale_id)):
            summary = _origin_in_short(connection, state, origin)
        sentences.append(summary if len(scales) == 1 else (f"{scale_id}: ", summary))
    safe = all(state_of(states, months[0], scale_id).state is State.GREEN for scale_id in scales)
    return Box(tuple(Paragraph(summary, "lead") for summary in sentences), "good" if safe else "warning")


def _origin_in_short(connection: psycopg.Connection, state: MonthState, origin: OriginSummary) -> Text:
    """Write how many items the origin window published and left out, which keys are suspect, and the next step."""
    scale, published, left_out = state.scale_id, len(origin.published_items), [*origin.left_out]
    suspect = [*suspect_keys(connection, scale)]
    n = page_link(f"{published} of {quantity(published + len(left_out), 'item')}", "bank", scale=scale)
    parts = [f", {in_words(len(left_out))} left out ({join_names(left_out, MAX_NAMED)})"] * bool(left_out)
    if not suspect:
        return n, " published", *parts, "; next: ", next_step(state, 0), "."
    check = page_link(f"check the key of {shorten(suspect[0])}", "rekey", scale=scale, item=suspect[0])
    return n, " published", *parts, f", {quantity(len(suspect), 'key')} suspect; next: ", check, "."


def _missing_months(request: ViewRequest, states: Sequence[MonthState]) -> Iterator[Paragraph]:
    """Offer a link to Dagster and a command, each of which computes all missing months."""
    missing = sorted({state.month for state in states if state.state is State.MISSING})
    if missing:
        url = f"{request.reader.settings.ui_url}{backfill_path(missing)}"
        launch = Span(f"launch {span(missing[0], missing[-1])} in Dagster", link=url)
        by_hand = Span(f"irt backfill --from {missing[0]} --to {missing[-1]}", "code")
        n = with_capital(quantity(len(missing), "month"))
        yield Paragraph((f"{n} missing: ", launch, " (Materialize all, Launch backfill), or ", by_hand, "."))


def backfill_path(months: Sequence[str]) -> str:
    """Path in the Dagster UI to the monthly job, whose dialog is filled in with these months."""
    in_a_row = len(months) > 1 and [*months_between(months[0], months[-1])] == [*months]
    partitions = f"[{months[0]}...{months[-1]}]" if in_a_row else ",".join(months)
    return f"/locations/{CODE_LOCATION}/jobs/{MONTHLY_JOB}?default_range={partitions}"


def _status_line(connection: psycopg.Connection, reader: Reader, last: str) -> Paragraph:
    """State the time and everything outside the months that is wrong. `last`: the last month."""
    wrong = tuple((summary, " ") for summary in _problems(connection, reader, last))
    return Paragraph(("As of ", Moment(reader.now(), reader.settings.irt_time_zone), ". ", wrong or NO_PROBLEMS))


def _problems(connection: psycopg.Connection, reader: Reader, last: str) -> Iterator[Text]:
    settings, (is_alive, seen) = reader.settings, daemon_state(reader.instance)
    zone = settings.irt_time_zone
    if not is_alive:
        how_long: Text = (" has not been seen since ", Moment(seen, zone)) if seen else " does not run"
        yield (
            Badge("stopped", "warning"),
            " The ",
            page_link("daemon", "health"),
            how_long,
            ": nothing starts by itself.",
        )
    late_plans = read_lateness(connection, PLANS, settings.irt_first_month, reader.now())
    if late_jobs := [plan.job for plan, late in late_plans.items() if late.of_schedule]:
        n = page_link(quantity(len(late_jobs), "schedule"), "health")
        yield Badge("late", "warning"), " ", n, f": {join_names(late_jobs, 3)}."
    violations, evaluated_at = list(open_violations(connection)), last_evaluated(connection)
    at: Text = Moment(evaluated_at, zone) if evaluated_at else "an unknown day"
    if since := changes_since_evaluation(connection, evaluated_at):
        violated = f" ({in_words(len(violations))} violated then)" if violations else ""
        yield (
            *(Badge("to be evaluated", "warning"), " The invariants were evaluated at ", at),
            *(f", before {since}{violated}: ", page_link("evaluate them now", "health"), "."),
        )
    elif violations:
        yield _violated_invariants(violations, last, at)
    if alerts := open_alerts(connection):
        n = page_link(quantity(len(alerts), "alert"), "health")
        tone: Tone = "bad" if any(alert.severity == "error" for alert in alerts) else "warning"
        yield Badge("alert", tone), " ", n, f" {is_or_are(len(alerts))} open."


def _violated_invariants(violations: Sequence[OpenViolation], last: str, at: Text) -> Text:
    """State the number of violated invariants, the months that they concern, and the time `at` of the evaluation.

    `last`: the last month.
    """
    partitions = {p for violation in violations for p in violation.partitions}  # "": without a month or day
    n = page_link(quantity(len(violations), "invariant"), "health")
    tone: Tone = "warning"
    if not any(p == "" or p.startswith(last) for p in partitions):
        matters = f", for {join_names(sorted(partitions), 3)} and not for {last}"
    elif errors := sum(violation.severity == "error" for violation in violations):
        matters = f" ({quantity(errors, 'error')}: settle {'it' if errors == 1 else 'them'} before a release)"
        tone = "bad"
    else:
        matters = " (only warnings, which do not prevent a release)"
    return Badge("violated", tone), " ", n, f" {is_or_are(len(violations))} violated{matters}, as of ", at, "."


def _list(connection: psycopg.Connection, states: Sequence[MonthState], waiting: Waiting, scale_id: str) -> Block:
    closed = read_closed(connection, months_of(states))
    changed = {closing.month for closing in closed if closing.scale_id == scale_id and closing.changes}

    def row(month: str) -> Sequence[Cell]:
        state = state_of(states, month, scale_id)
        next_one = next_step(state, waiting[month, scale_id])
        if month in changed and next_one == NOTHING_TO_DO:
            next_one = page_link("see the answers after it closed", "month", **_month_fields(state))
        return page_link(month, "month", **_month_fields(state)), state.state.badge, shorten_reason(state.why), next_one

    return table(("month", "state", "why", "next step"), _rows(states, row), caption="Months, the newest first")


def _grid(states: Sequence[MonthState], waiting: Waiting, scales: Sequence[str]) -> Block:
    """Build a table with a row per month and a column per scale."""
    by_place = {(state.month, state.scale_id): state for state in states}

    def row(month: str) -> Sequence[Cell]:
        return month, *(_light(by_place[month, scale_id], waiting) for scale_id in scales)

    caption = "Months, the newest first, by scale"
    return table(("month", *scales), _rows(states, row), caption=caption)


def _rows(states: Sequence[MonthState], row: Callable[[str], Sequence[Cell]]) -> Iterator[Sequence[Cell]]:
    """Yield a row per month. Consecutive months that are empty or in the origin window on every scale share a row if
    they have the same states."""
    by_month: dict[str, set[State]] = defaultdict(set)
    for state in states:
        by_month[state.month].add(state.state)
    for alike, together in groupby(months_of(states), by_month.__getitem__):
        months = list(together)
        if alike <= {State.EMPTY, State.ORIGIN}:
            yield span(months[-1], months[0]), *row(months[0])[1:]
        else:
            yield from map(row, months)


def _origins(connection: psycopg.Connection, scales: Sequence[str]) -> Iterator[Section]:
    """Show the fit of each scale's origin window and the items that it left out."""
    rows: list[tuple[Cell, ...]] = []
    for scale_id in scales:
        if (origin := read_origin(connection, scale_id)) is None:
            continue
        window, left_out = origin.window, origin.left_out
        reasons = List(tuple(f"{shorten(item)}: {why}" for item, why in left_out.items()))
        published = quantity(len(origin.published_items), "item")
        rows.append(
            (
                f"{window.window_start:%Y-%m-%d} to {window.window_end:%Y-%m-%d}",
                scale_id,
                f"{window.n_responses:,} of {quantity(window.n_persons, 'learner')}",
                page_link(published, "bank", scale=scale_id),
                Details(quantity(len(left_out), "item"), (reasons,)) if left_out else None,
                List(tuple(origin.in_words)),
            )
        )
    if rows:
        headers = ("window", "scale", "answers", "published", "left out", "how well the model fits")
        note = "Drift is what has changed since the window, so it begins with the first month after it."
        windows = table(headers, rows, caption="Origin windows of the scales")
        yield Section("Origin", (Paragraph(note), windows))


def _light(state: MonthState, waiting: Waiting) -> Text:
    decisions = waiting[state.month, state.scale_id]
    label = f"{state.month} of {state.scale_id}: {state.state}"
    word = tags.span(state.state, class_=f"badge text-bg-{BOOTSTRAP[state.state.badge.tone]}")
    light = markup(tags.a(word, href=address("month", **_month_fields(state)), aria_label=label))
    more = (" ", next_step(state, decisions)) if decisions or state.state is not State.GREEN else ()
    return light, " ", Span(shorten_reason(state.why), "quiet"), *more


def _month_fields(state: MonthState) -> dict[str, str]:
    return {"month": state.month, "scale": state.scale_id}
