"""The commands of `irt scale`: show scales, and set their origin, model, movement, pass mark and rules."""

import json
from collections.abc import Collection, Iterator
from dataclasses import asdict
from datetime import UTC, date, datetime
from functools import partial
from typing import Annotated, Any

import typer

from irt_assets.calibration.checks import gates_of_rules
from irt_assets.cli.console import AsJson, DryRun, ScaleId, Yes, confirm, out, print_blocks, print_json, say
from irt_assets.cli.installation import By, Reason, current_database, current_instance, current_settings, current_store
from irt_assets.common.job_names import JUDGE_JOB
from irt_assets.common.partitions import Month
from irt_assets.decisions import model_change, movement_change
from irt_assets.decisions.days_to_judge import DaysToJudge, days_of_change, days_of_new_scale
from irt_assets.decisions.movement_proposal import proposal_lines, propose_movement
from irt_assets.decisions.origin import initialise
from irt_assets.decisions.origin_sources import OriginWindow
from irt_assets.engines.registry import build
from irt_assets.engines.spec import DEFAULT_MODEL
from irt_assets.gates.gates import SetGate
from irt_assets.gates.judged_months import judge_again
from irt_assets.ledger.fits import months_with_other_fit_rules, months_with_other_linking_rules
from irt_assets.ledger.month_verdicts import judged_months
from irt_assets.ledger.movement_proposals import newest_proposal
from irt_assets.reports import scale_blocks
from irt_assets.reports.scale_facts import as_dict, scale_facts
from irt_assets.responses.snapshot import months_with_changed_rules
from irt_assets.runs.in_process_runs import run_checks
from irt_assets.runs.queue import queue_once
from irt_assets.scales.rules import STAGES, valid_values
from irt_assets.scales.scale import change_rules, named_scale, preview_rules, read_scales
from irt_assets.scales.scale_decisions import MODEL_SUBJECTS, MOVEMENT, proposals_wanted, read_decisions
from irt_assets.scores.standards import mark_to_undo, plan_mark, set_mark, undo_sentences
from irt_psychometrics.items import ScaleModel
from jobs.watching.stuck_runs import QUEUE_STATUSES
from resources.failures import PermanentFailure, TransientFailure
from resources.postgres.database import Database

app = typer.Typer(no_args_is_help=True)
accept = typer.Typer(name="accept", no_args_is_help=True, help="Accept guessing or misfit of a scale, on record.")
app.add_typer(accept)


RULES = "\n\n".join(
    line
    for stage, rules in STAGES.items()
    for line in (
        f"Rules of the stage {stage}: {rules.change}",
        *(
            f"{name}={rule.default}, {valid_values(rule)}: {rule.description}"
            for name, rule in rules.model_fields.items()
        ),
    )
)
"""All rules of a scale, for the help of the commands that set them."""


@app.command(epilog=f"Example: irt scale init --origin 2026-07 --model 3pl\n\n{RULES}")
def init(
    scale: ScaleId = "default",
    origin: Annotated[
        str | None,
        typer.Option(
            help="Month, YYYY-MM, or days, FROM:TO, whose fit becomes the origin. Default: the bank's anchors."
        ),
    ] = None,
    mu: Annotated[float, typer.Option(help="Mean θ of the reference population.")] = 0.0,
    sigma: Annotated[float, typer.Option(min=0.01, help="Standard deviation of θ in the reference population.")] = 1.0,
    model: Annotated[
        ScaleModel, typer.Option(help="Item response model of the months and of the origin window.")
    ] = DEFAULT_MODEL,
    engine: Annotated[str, typer.Option(help="Engine whose fits are published.")] = "em",
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="Rule of the scale, e.g. min_responses=300. May be repeated.")
    ] = None,
) -> None:
    """Freeze a scale's anchors and publish their parameters. This is done once per scale."""
    database = current_database()
    done = initialise(
        database,
        scale,
        first_month=database.settings.irt_first_month,
        mu=mu,
        sigma=sigma,
        model=model,
        thresholds=parse_settings(setting),
        engine=engine,
        window=OriginWindow(*_window_of(origin), build(engine, database.settings), current_store(database))
        if origin
        else None,
    )
    say(f"scale {scale}: {done.anchors} anchors frozen and published from {database.settings.irt_first_month} on")
    if done.errors_assumed:
        out.print(
            f"  {done.errors_assumed} of them came without errors: those of a calibration with n = 500 are assumed"
        )
    if done.with_guessing:
        out.print(
            f"  {done.with_guessing} of them have c > 0, but a {model} has no guessing: `irt scale set model=3pl` "
            "gives the scale the model of these items"
        )
    if done.shape:
        say(f"  {done.shape}")
    if done.guessing:
        out.print(
            f"  the origin is a {model.upper()} all the same, and months in which learners guess will be held until "
            f"somebody decides: `irt scale set model=3pl --scale {scale}` freezes the anchors again, or "
            f"`irt scale accept guessing --scale {scale}`"
        )
    say(*(f"  {line}" for line in done.misfit))
    if done.misfit_holds:
        out.print(
            "  this is more than one ability gives, and months will be held until somebody decides: "
            f"`irt scale accept misfit --scale {scale}` keeps the items together; a second ability needs a scale of "
            "its own (`irt scale init --scale NEW`)"
        )
    say(*(f"  left out: {item}: {why}" for item, why in list(done.left_out.items())[:10]))
    if len(done.left_out) > 10:
        out.print(f"  … and {len(done.left_out) - 10} more")
    days = database.call(days_of_new_scale, scale, datetime.now(UTC))
    if days.sentence:
        say(f"  {days.sentence}")
    _judge(database, days)


@app.command("list", epilog="Example: irt scale list")
def list_scales(as_json: AsJson = False) -> None:
    """List the scales with their models, origins, items and learners."""
    with current_database().connect() as connection:
        facts = [scale_facts(connection, scale, datetime.now(UTC)) for scale in read_scales(connection).values()]
    if as_json:
        print_json([as_dict(scale) for scale in facts])
    else:
        print_blocks(scale_blocks.scales_table(facts))


@app.command(epilog="Example: irt scale show default")
def show(
    scale: Annotated[str, typer.Argument(help="Scale to show.")] = "default",
    as_json: AsJson = False,
) -> None:
    """Show a scale: bank, learners, linking, movement, model, rules and decisions."""
    with current_database().connect() as connection:
        facts = scale_facts(connection, named_scale(read_scales(connection), scale), datetime.now(UTC))
    if as_json:
        print_json(as_dict(facts))
        return
    say(scale_blocks.scale_in_short(facts))
    print_blocks(*scale_blocks.sections(facts, zone=current_settings().irt_time_zone))


@app.command(epilog='Example: irt scale pass-mark 0.4 --by Kim --reason "board of June"')
def pass_mark(
    by: By,
    reason: Reason,
    mark: Annotated[
        float | None,
        typer.Argument(
            help="Smallest θ with which a learner passes; by score_by=raw, percent or percentile the smallest raw "
            "score, per cent or percentile rank."
        ),
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Restore the pass mark before the last decision on it.")] = False,
    scale: ScaleId = "default",
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Set the pass mark of a scale, or undo the last decision on it.

    Prints how many learners pass before and after, before it asks.
    """
    database = current_database()
    decision = None
    if undo and mark is None:
        decision, seen = database.call(mark_to_undo, scale)
        lines = database.call(undo_sentences, seen)
    elif mark is not None and not undo:
        seen = database.call(plan_mark, scale, mark)
        lines = seen.sentences
    else:
        raise PermanentFailure("give either the pass mark, or --undo to restore the former mark")
    say(*lines)
    if not dry_run:
        confirm(f"change the pass mark of scale {scale}?", yes)
        set_mark(database, seen, undoes=decision, by=by, reason=reason)


@app.command(
    "set",
    epilog=f'Example: irt scale set model=3pl --from 2026-10 --by Kim --reason "guessing"\n\n{RULES}',
)
def set_values(
    pairs: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME=VALUE…",
            help="model=3pl; prior_a=lognormal(0,0.5), prior_b=normal(0,2), prior_c=beta(5,17), or none for a prior; "
            "occasions=week; ability_variance=0.0025 and ability_growth=0.01 (per week), occasion_variance=0.09 (per "
            "day), or auto for each; or a rule of the scale, e.g. min_responses=300.",
        ),
    ],
    by: By,
    reason: Reason,
    scale: ScaleId = "default",
    first_month: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="First month of the new model, prior or movement, YYYY-MM. Default: the month after the last "
            "published one. Rules hold for all months.",
        ),
    ] = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Change a scale's model, priors, occasions or movement of abilities from a month on, or its rules for all months.

    Before it asks, the command shows what becomes stale, which days are judged
    again, what happens to the anchors, and the effect of a new movement on
    learners. It records who decided, when and why.
    """
    texts = _parse_values(pairs)
    rules = [name for name in texts if name not in MODEL_SUBJECTS and name not in MOVEMENT]
    if texts.keys() <= MOVEMENT.keys():
        decided = _set_movement(scale, texts, first_month, by, reason, yes)
    elif texts.keys() <= set(MODEL_SUBJECTS):
        decided = _set_model(scale, texts, first_month, by, reason, yes)
    elif len(rules) < len(texts):
        raise PermanentFailure(
            f"set {' and '.join(texts)} in commands of their own: a model and its priors, how abilities move, and "
            "rules, which hold for all months, have different effects"
        )
    elif first_month is not None:
        raise PermanentFailure(
            f"--from is for {', '.join([*MODEL_SUBJECTS, *MOVEMENT])}; a rule such as {rules[0]} holds for all months: "
            "leave it out"
        )
    else:
        stale = confirm_and_change_rules(current_database(), scale, "", parse_settings(pairs), yes, by, reason)
        decided = {"values": texts, "first_month": None, "stale": stale}
    if as_json:
        print_json({"scale_id": scale} | decided)


def _parse_values(pairs: list[str]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for name, value in _split_pairs(pairs, "irt scale set"):
        if name in texts:
            raise PermanentFailure(f"{name} is set twice: {texts[name]} and {value}")
        texts[name] = value
    return texts


def _set_model(
    scale: str, texts: dict[str, str], first_month: str | None, by: str, reason: str, yes: bool
) -> dict[str, Any]:
    """Ask, and change the model and priors. Return the decision for `--json`."""
    settings, database = current_settings(), current_database()
    change = model_change.preview_model_change(
        database,
        current_store(database),
        scale,
        {subject: texts[subject] for subject in MODEL_SUBJECTS if subject in texts},
        first_month,
        calibrations_begin=settings.irt_first_month,
        build=partial(build, settings=settings),
    )
    say(*change.lines)
    if not change.values:
        return _decided(change)
    confirm(f"change scale {scale} from {change.first_month} on?", yes)
    done = model_change.decide_model_change(database, change, by=by, reason=reason)
    again = [f"  to be calibrated again: irt calibrate --month {month}" for month in done.stale]
    say(f"decided: scale {scale} from {done.first_month} on", *again)
    return _decided(done)


def _set_movement(
    scale: str, texts: dict[str, str], first_month: str | None, by: str, reason: str, yes: bool
) -> dict[str, Any]:
    """Ask, and change how abilities move. Return the decision for `--json`."""
    database = current_database()
    change = movement_change.preview_movement_change(
        database,
        scale,
        {subject: texts[subject] for subject in MOVEMENT if subject in texts},
        first_month,
        calibrations_begin=current_settings().irt_first_month,
    )
    say(*change.lines)
    if not change.values:
        return _decided(change)
    confirm(f"change how abilities of scale {scale} move from {change.first_month} on?", yes)
    done = movement_change.decide_movement_change(database, change, by=by, reason=reason)
    again = ["  they are measured again by the sensor ledger, while `irt serve` runs"] if done.stale else []
    say(f"decided: scale {scale} from {done.first_month} on", *again)
    return _decided(done)


def _decided(change: model_change.ModelChange | movement_change.MovementChange) -> dict[str, Any]:
    return {"values": change.values, "first_month": change.first_month, "stale": change.stale}


@app.command(epilog="Example: irt scale movement --propose")
def movement(
    scale: ScaleId = "default",
    propose: Annotated[
        bool,
        typer.Option(
            "--propose", help="Estimate the movement now, from the last 52 weeks. This takes up to two minutes."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show how abilities of a scale move under the newest decisions, and the last proposal."""
    with current_database().connect() as connection:
        known = named_scale(read_scales(connection), scale)
        if propose:
            propose_movement(connection, scale)
        decided = read_decisions(connection, scale)
        found = newest_proposal(connection, scale)
    if as_json:
        print_json({"movement": asdict(known.movement), "proposal": asdict(found) if found else None})
        return
    numbers = ", ".join(f"{subject} {getattr(known.movement, part):g}" for subject, (part, *_) in MOVEMENT.items())
    say(f"scale {scale}: {numbers}" + ("; proposals are made (auto)" if proposals_wanted(decided) else ""))
    none_yet = ["nothing has been proposed yet: --propose makes a proposal now"]
    say(*(proposal_lines(found) if found else none_yet))


@app.command(epilog="Example: irt scale decisions")
def decisions(scale: ScaleId = "default", as_json: AsJson = False) -> None:
    """List the decisions on a scale's model, priors, movement and rules, and on guessing and misfit, newest last."""
    found = current_database().call(read_decisions, scale)
    if as_json:
        print_json([asdict(decision) for decision in found])
        return
    lines = [
        f"{d.decided_at:%Y-%m-%d} {d.subject} {d.in_short} from {d.effective_from:%Y-%m} on: {d.decided_by}: {d.reason}"
        for d in found
    ]
    say(*(lines or [f"scale {scale}: nothing has been decided since `irt scale init`"]))


@accept.command("guessing", epilog='Example: irt scale accept guessing --by Kim --reason "few guess"')
def accept_guessing(
    by: By,
    reason: Reason,
    scale: ScaleId = "default",
    first_month: Annotated[
        str | None,
        typer.Option("--from", help="First month, YYYY-MM. Default: IRT_FIRST_MONTH."),
    ] = None,
    yes: Yes = False,
) -> None:
    """Accept, on record, that learners guess on a scale whose model has no guessing parameter."""
    month = first_month or current_settings().irt_first_month
    confirm(f"accept that learners guess on scale {scale}, for months from {month} on?", yes)
    model_change.accept_guessing(current_database(), scale, month, by=by, reason=reason)
    say(f"scale {scale}: accepted that learners guess, for months from {month} on")


@accept.command("misfit", epilog='Example: irt scale accept misfit --from 2026-09 --by Kim --reason "new form"')
def accept_misfit(
    by: By,
    reason: Reason,
    scale: ScaleId = "default",
    first_month: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Month, YYYY-MM, whose misfit is accepted. Later months are compared with it. Default: the origin.",
        ),
    ] = None,
    yes: Yes = False,
) -> None:
    """Accept, on record, that the items of a scale, in its origin or in a month, do not measure one ability."""
    confirm(f"accept {first_month or 'the origin'} of scale {scale} with its misfit?", yes)
    model_change.accept_misfit(
        current_database(), scale, first_month, current_settings().irt_first_month, by=by, reason=reason
    )
    if first_month is None:
        say(
            f"scale {scale}: accepted that its items do not measure one ability",
            "  to be calibrated again: the months that are held for it",
        )
    else:
        say(
            f"scale {scale}: {first_month} is accepted as it is, and later months are compared with it",
            f"  to be calibrated again: {first_month} and any later month that is held for misfit",
        )


ITEM_LIMITS = {"max_abs_b", "max_b_se", "max_rmsd"}


def parse_settings(pairs: list[str] | None, option: str = "--set") -> dict[str, Any]:
    settings = {}
    for name, value in _split_pairs(pairs or [], option):
        try:
            settings[name] = json.loads(value)
        except json.JSONDecodeError:
            settings[name] = value
    return settings


def _split_pairs(pairs: list[str], option: str) -> Iterator[tuple[str, str]]:
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign:
            raise PermanentFailure(f"{option} takes NAME=VALUE, not {pair!r}")
        yield name, value


def confirm_and_change_rules(
    database: Database, scale_id: str, month: str, settings: dict[str, Any], yes: bool, by: str, reason: str
) -> list[str]:
    """Print the effects of the change on months and days, and ask. Then change the scale, judge gates again,
    and start the run that judges answers again. Return the months to calibrate again."""
    with database.connect() as connection:
        change = preview_rules(connection, scale_id, settings)
        made = {
            subject: find(connection, change.after)
            for stage, subject, find in (
                ("eligibility", "snapshots", months_with_changed_rules),
                ("fit", "fits", months_with_other_fit_rules),
                ("linking", "linkings", months_with_other_linking_rules),
            )
            if stage in change.stages
        }
        judged = judged_months(connection, scale_id)
        days = days_of_change(connection, change, datetime.now(UTC))
    stale = sorted({stale_month for months in made.values() for stale_month in months} - {month})
    gates = gates_of_rules(change.rules) if judged else ()
    say(change.sentence)
    if change.before == change.after:
        return []
    say(
        f"it holds for every month from now on; stale until calibrated again: {', '.join(stale)}"
        if stale
        else "it holds for every month from now on; no other month becomes stale"
    )
    for subject, months in made.items():
        if months:
            say(f"  {subject} that other rules made: {', '.join(months)}")
    if days.sentence:
        say(f"  {days.sentence}")
    if gates:
        names = ", ".join(gate.name for gate in gates)
        say(f"  judged again from the stored results of {judged[0]} to {judged[-1]}: {names}")
    if ITEM_LIMITS & change.rules.keys():
        say("  items are held back by it when a month's publication step next runs; published values stay")
    confirm(f"change the rules of scale {scale_id}?", yes)
    change_rules(database, scale_id, settings, by=by, reason=reason)
    _judge(database, days)
    if gates:
        _judge_again(database, gates, scale_id, judged)
    return stale


def _judge_again(database: Database, gates: Collection[SetGate], scale_id: str, judged: Collection[str]) -> None:
    """Judge months of a scale again by some gates, and show and print the results that have changed."""
    with database.connect() as connection:
        changed = [*judge_again(connection, gates, scale_id, judged)]
    with current_instance(database) as instance:
        run_checks(instance, current_settings(), gates, sorted({each.month for each in changed}))
    for each in changed:
        say(f"  {each.month}: {each.gate} {'passes' if each.passed else 'fails'} now")


def _judge(database: Database, days: DaysToJudge) -> None:
    """Start the run that judges the days, if there are any."""
    if not days.days:
        return
    try:
        with current_instance(database) as instance:
            # a run under way does not count, because it has already chosen its days
            run_id = queue_once(instance, current_settings(), database, JUDGE_JOB, QUEUE_STATUSES, {})
        say(f"  {JUDGE_JOB} judges them: run {run_id}")
    except (PermanentFailure, TransientFailure) as failure:
        say(f"  not judged yet, as {failure}: `irt job {JUDGE_JOB}` judges them now, a daemon does at 00:30 UTC")


def _window_of(origin: str) -> tuple[datetime, datetime]:
    try:
        if ":" not in origin:
            return Month(origin).bounds
        first, last = (date.fromisoformat(day) for day in origin.split(":"))
    except ValueError:
        raise PermanentFailure(f"--origin takes a month (2026-07) or FROM:TO days, not {origin!r}") from None
    start, end = (datetime(day.year, day.month, day.day, tzinfo=UTC) for day in (first, last))
    return start, end
