"""Invariants of the calendar: every month exists and resembles the months before, and the last night is recent."""

from collections import Counter, defaultdict
from datetime import timedelta
from operator import attrgetter
from statistics import fmean, stdev

from irt_assets.gates.gates import SET_GATES, snapshot_matches_its_hash
from irt_assets.gates.judged_months import judge_second_time
from irt_assets.gates.month_classification import State
from irt_assets.invariants.invariant import Findings, InvariantContext, NotTested, Violation, invariant
from irt_assets.invariants.open_violations import open_partitions
from irt_assets.ledger.linked_windows import placed_months
from irt_assets.ledger.overview import last_night
from irt_assets.responses.eligibility.attempts import count_rejected
from irt_assets.responses.snapshot import current_snapshots

MONTHS_AT_ONCE = 6
MAX_PAUSE = timedelta(hours=25)
EARLIER_MONTHS = 6
MIN_EARLIER_MONTHS = 3
"""Fewest earlier months with which a month can be compared."""

MAX_SHIFT = {"share": 0.10, "reject rate": 0.03, "latent mean": 0.25, "latent SD": 0.20, "intercept": 0.30}
"""Largest accepted difference from the mean of earlier months. If these vary much, three of their standard deviations
are accepted."""
SDS = 3.0


@invariant(
    kind="scales",
    protects="No month is missing, stale or failing, from the scale's first answers on.",
    fix="Open the month in the UI and read why. If it is empty, import its answers; if it is missing or stale, "
    "materialise it: `irt calibrate --month MONTH`.",
    alerted_by_checks=True,
)
def every_month_is_green(context: InvariantContext) -> Findings:
    if all(state.state is State.EMPTY for state in context.states):
        yield NotTested("no month with answers is over yet since IRT_FIRST_MONTH, or the bank has no items")
    begun = set[str]()
    for state in sorted(context.states, key=lambda state: state.month):
        if state.state is not State.EMPTY:
            begun.add(state.scale_id)
        elif state.scale_id not in begun:
            continue  # the scale had no answers yet
        if state.state in (State.RED, State.STALE, State.MISSING, State.EMPTY):
            yield Violation(state.scale_id, f"{state.state}: {state.why}", "green", state.month)


@invariant(
    kind="months",
    protects="The ledger has the results of a month's set gates: pages, alerts and the exporter read them.",
    fix="Materialise the month again, which judges it. If earlier months were published or corrected since, the "
    "comparison with them has changed; otherwise find out who changed the table: only the platform writes it.",
    note=f"An evaluation judges {MONTHS_AT_ONCE} months of scales again, in turn, and every month with an open "
    "violation. Months that are stale or running are left out.",
)
def stored_verdicts_on_months_are_those_of_their_gates(context: InvariantContext) -> Findings:
    settled = [state for state in context.states if state.state in (State.GREEN, State.RED, State.PENDING)]
    if not settled:
        yield NotTested("no month has been judged yet")
        return
    turn = context.now.toordinal() % -(-len(settled) // MONTHS_AT_ONCE)
    violated = open_partitions(context.connection, stored_verdicts_on_months_are_those_of_their_gates.name)
    chosen = {*settled[turn * MONTHS_AT_ONCE : (turn + 1) * MONTHS_AT_ONCE]}
    chosen |= {state for state in settled if state.month in violated}
    gates = [gate for gate in SET_GATES if gate.judge is not snapshot_matches_its_hash]  # has an invariant of its own
    for state in sorted(chosen, key=attrgetter("month", "scale_id")):
        for changed in judge_second_time(context.connection, gates, state.month, state.scale_id).changes:
            outcome = "passes" if changed.passed else "fails"
            subject = f"{state.scale_id}: {changed.gate}"
            yield Violation(subject, f"{outcome} if judged again: {changed.why}", "the stored result", state.month)


@invariant(
    kind="scales",
    protects="The learners' distribution and the share of rejected answers are similar to the last six months.",
    fix="Find out whether different learners answer, or answers are recorded differently, before interpreting changes "
    "of θ as learning.",
)
def samples_stay_as_they_were(context: InvariantContext) -> Findings:
    latent: dict[str, dict[str, tuple[float, float]]] = {}
    for placed in placed_months(context.connection):
        if placed.mean is not None and placed.sd is not None:
            latent.setdefault(placed.scale_id, {})[placed.month] = (placed.mean, placed.sd)
    snapshots = current_snapshots(context.connection)
    for scale_id in context.scales:
        of_scale = latent.get(scale_id, {})
        series = {
            "latent mean": {month: mean for month, (mean, _) in of_scale.items()},
            "latent SD": {month: sd for month, (_, sd) in of_scale.items()},
            "reject rate": {
                month: n_rejected / answers
                for month, snapshot in snapshots.items()
                for n_rejected, answers in [count_rejected(snapshot.counts.get(scale_id, {}))]
                if answers
            },
        }
        for quantity, values in series.items():
            yield from _compare_last_month(quantity, values, f"{scale_id}: {quantity}")


@invariant(
    kind="shares",
    protects="Forms, countries and tiers keep their shares, so that months are comparable.",
    fix="Ask whether a form, a country or a tier was added or lost, or whether the export of answers has changed.",
)
def shares_of_the_sample_stay_as_they_were(context: InvariantContext) -> Findings:
    months = sorted({state.month for state in context.states})[-(EARLIER_MONTHS + 1) :]
    if len(months) <= MIN_EARLIER_MONTHS:
        yield NotTested(f"{len(months)} months, and {MIN_EARLIER_MONTHS + 1} are needed to compare one with others")
        return
    window = {"start": context.window(months[0])["start"], "end": context.window(months[-1])["end"]}
    rows = context.connection.execute(
        """SELECT to_char(a.completed_at AT TIME ZONE 'UTC', 'YYYY-MM'), coalesce(a.form_id, '(practice)'),
                  l.attributes->>'country', l.attributes->>'tier', count(*)
           FROM attempt a LEFT JOIN learner l USING (user_id)
           WHERE a.completed_at >= %(start)s AND a.completed_at < %(end)s AND a.mode = 'live'
             AND NOT coalesce(l.is_test, false)
           GROUP BY 1, 2, 3, 4""",
        window,
    ).fetchall()
    for column, attribute in enumerate(("form", "country", "tier"), start=1):
        totals = Counter[str]()
        counts_of: dict[str, Counter[str]] = defaultdict(Counter)
        for row in rows:
            if row[column] is not None:
                totals[row[0]] += row[4]
                counts_of[row[column]][row[0]] += row[4]
        if len(totals) <= MIN_EARLIER_MONTHS:
            yield NotTested(f"{len(totals)} months have the {attribute}", subject=f"{attribute} ")
            continue
        for value, by_month in sorted(counts_of.items()):
            if len(by_month.keys() - {months[-1]}) >= MIN_EARLIER_MONTHS:  # a form of one month has no history
                shares = {month: by_month[month] / total for month, total in totals.items()}
                yield from _compare_last_month("share", shares, f"{attribute} {value}")


@invariant(
    kind="scales",
    protects="A jump of the linking intercept shows a changed population, or anchors that drift together.",
    fix="Compare the month's learners with earlier months; look at the anchors' plot on linked_item_parameters.",
)
def the_linking_intercept_stays_near_its_history(context: InvariantContext) -> Findings:
    intercepts: dict[str, dict[str, float]] = {scale_id: {} for scale_id in context.scales}
    for placed in placed_months(context.connection):
        if placed.scale_id in intercepts and placed.method != "fixed" and placed.intercept is not None:
            intercepts[placed.scale_id][placed.month] = placed.intercept
    for scale_id, values in intercepts.items():
        yield from _compare_last_month("intercept", values, scale_id)


def _compare_last_month(quantity: str, by_month: dict[str, float], subject: str) -> Findings:
    """Compare the last month's value with the values of up to six months before."""
    months = sorted(by_month)
    earlier = [by_month[month] for month in months[-(EARLIER_MONTHS + 1) : -1]]
    if len(earlier) < MIN_EARLIER_MONTHS:
        yield NotTested(
            f"{subject}: {len(earlier)} of the {MIN_EARLIER_MONTHS} earlier months that are needed", subject=subject
        )
        return
    last, usual = by_month[months[-1]], fmean(earlier)
    allowed = max(MAX_SHIFT[quantity], SDS * stdev(earlier))
    if abs(last - usual) > allowed:
        yield Violation(subject, f"{quantity} {last:.3f} in {months[-1]}", f"{usual:.3f} ± {allowed:.3f}")


@invariant(
    kind="runs",
    protects="Abilities and new items are at most a night old.",
    fix="Check in the UI whether the daemon runs and why the last nightly run failed, then start the run again.",
)
def the_nightly_calibration_is_fresh(context: InvariantContext) -> Findings:
    last = last_night(context.connection)
    if last is None:
        yield NotTested("no nightly calibration has run yet")
    elif context.now - last > MAX_PAUSE:
        yield Violation("nightly calibration", f"last at {last:%Y-%m-%d %H:%M} UTC", "within 25 hours")
