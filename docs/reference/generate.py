"""Write the reference pages that repeat the code: settings, tables, commands, engines, invariants and others.

python docs/reference/generate.py            # writes the pages
python docs/reference/generate.py --check    # exit code 1: prints the names of outdated pages
"""

from __future__ import annotations

import argparse
import inspect
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from sqlalchemy.dialects import postgresql
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

from irt_assets.cli import Noun, app
from irt_assets.cli.desk import MOUNTED
from irt_assets.common.job_names import INVENTORY
from irt_assets.common.wording import join_names
from irt_assets.definitions import build_defs
from irt_assets.engines import registry
from irt_assets.engines.spec import EngineSpec
from irt_assets.invariants.registry import INVARIANTS
from irt_assets.scales.rules import STAGES, valid_values
from irt_assets.scales.scale_decisions import MOVEMENT
from irt_psychometrics.commands import parser
from resources.settings import Settings
from resources.tables import METADATA, VIEWS, RecomputedBy, meaning
from services.exporter.families import FAMILIES

FOLDER = Path(__file__).parent

SETTINGS_HEAD = """\
# Settings

Every setting is an environment variable, or a line of the env file that `IRT_ENV_FILE` names (default:
`IRT_HOME/irt.env`). The environment takes precedence. If a value is invalid, commands stop and name the setting.
`irt doctor` lists variables that are not settings. If `DATABASE_URL` is unset, the embedded database server starts, and
keeps running after short commands: `irt db stop` stops it, and `irt db url` prints its address.

More about: [the bucket](../how-to/object-store.md), [engines](../how-to/engines.md),
[the R service](../how-to/r-service.md), [schedules that others start](../how-to/deploy-kubernetes.md#jobs),
[runs in a cluster](../how-to/runs-on-kubernetes.md), [Spark](../how-to/spark.md),
[the page](../how-to/web.md), [login](../how-to/login.md),
[the θ API](theta-api.md), [the dashboard](../how-to/dashboard.md), [metrics](../how-to/metrics.md),
[logs and traces](../how-to/logs-and-traces.md#traces), [alerts](alerts.md).
"""

COMMANDS_HEAD = """\
# The command line

`--help` prints the same text for each command. Exit codes: 0: success; 1: the command ran and found a problem (a month
is not green, something is misconfigured); 2: the request or its input is wrong, and the message says what to do.
"""

RULES_HEAD = """\
# Rules of a scale

A rule applies to all months of a scale. `irt scale set NAME=VALUE` changes a rule. It first lists the months that
become stale and the gates that are evaluated again, and asks for confirmation.
`irt calibrate --month MONTH --try NAME=VALUE` shows the effect of a rule on a month and stores nothing
([how](../how-to/scales.md#rules)). The rules are grouped by the step of a month that reads them. A change makes the
results of this step stale, and everything computed from them.
"""

MOVEMENT_HEAD = """\
## Movement

How learners' abilities move. Like the model, these rules are set from a month on
(`irt scale set NAME=VALUE --from YYYY-MM`); the command first shows the effect on learners.
[Abilities that move](../explanation/ability-that-moves.md) explains the three rules. A change makes only the abilities
of these months stale.
"""

CHECKS_HEAD = """\
# Asset checks

A *set gate* holds a whole month of a scale, an *item gate* holds back one item, and an *inventory* lists the months
that are missing, stale, running or red. Every other check *informs*. No check is blocking in Dagster's sense: a run
continues if a check fails, and the publication step evaluates the gates of every scale again by the same functions
([what green means](../explanation/what-green-means.md)). Each enabled engine except `em` adds the check
`ENGINE_fitted`. The checks of `invariant_report` are on the page about [invariants](invariants.md).
"""

METRICS_HEAD = """\
# Metrics of the platform's state

The metrics that the exporter (`irt run exporter`) serves to Prometheus. [Monitoring](../how-to/metrics.md) explains
them, lists the metrics of the other servers, and has the rules for alerts.
"""

TABLES_HEAD = """\
# Tables

Generated from `resources/tables.py`, which describes every column once. Times are UTC. If assets can recompute lost
rows of a table, its description names the assets. `irt db downgrade` is refused if other rows would be lost, and a
backup contains a hash of the other rows.
"""

ENGINES_HEAD = """\
# Engines

Generated from the specs in `irt_assets/engines`. [Engines](../how-to/engines.md) explains how a month uses them.
"""

INVARIANTS_HEAD = """\
# Invariants

Generated from `irt_assets/invariants/registry.py`. Each invariant is a function that reads the stored data, changes
nothing, and returns every subject that violates the invariant. All invariants are evaluated every night as checks of
the asset `invariant_report`, and at any time with `irt invariants run [--strict] [--json]`. Exit codes: 0: all hold; 1:
one is violated, with `--strict` also if there is a warning or an untested part; 2: one could not be evaluated.

If part of the data cannot be tested (too few answers, no groups, no history yet), the report lists it first and is
*incomplete*. Untested parts close no violation and make no month red. A violation that persists is one row of
`invariant_result`, from the run that opened it to `resolved_at`, and one alert.
"""


def main(arguments: list[str]) -> int:
    stale = [name for name, page in PAGES.items() if (FOLDER / name).read_text("utf-8") != page()]
    if "--check" in arguments:
        for name in stale:
            print(f"docs/reference/{name} is not up to date: run python docs/reference/generate.py")
        return int(bool(stale))
    for name in stale:
        (FOLDER / name).write_text(PAGES[name](), "utf-8")
    return 0


def settings() -> str:
    rows = [(f"`{name.upper()}`", _default(field), field.description) for name, field in Settings.model_fields.items()]
    return SETTINGS_HEAD + "\n" + _table(("variable", "default", "meaning"), rows)


def _default(field: FieldInfo) -> str:
    value = field.default
    plain = value.get_secret_value() if isinstance(value, SecretStr) else value
    if plain in (None, ""):
        return ""
    return f"`{str(plain).lower() if isinstance(plain, bool) else plain}`"


def command_line() -> str:
    parts = [COMMANDS_HEAD]
    for name, command in _commands(get_command(app), "irt"):
        parts.append(f"## `{name}`\n\n{_paragraph(command.help)}\n")
        options = _options_of_library(command) or [
            (_declaration(parameter), _meaning(parameter)) for parameter in command.params if not parameter.hidden
        ]
        if options:
            parts.append(_table(("argument", "meaning"), options))
        parts.append(f"```\n{_example(command)}\n```\n")
    return "\n".join(parts)


def _commands(command: TyperCommand | TyperGroup, name: str) -> Iterator[tuple[str, TyperCommand]]:
    """Every command with its full name, and those groups that are commands as well."""
    if not isinstance(command, TyperGroup) or (command.invoke_without_command and name != "irt"):
        yield name, command
    if isinstance(command, TyperGroup):
        for sub in command.commands.values():
            sub = sub.command() if isinstance(sub, Noun) else sub
            if not sub.hidden:
                yield from _commands(sub, f"{name} {sub.name}")


def _options_of_library(command: TyperCommand) -> list[tuple[str, str]]:
    """Argument and meaning of a command that the library parses; empty for other commands."""
    if command.context_settings != MOUNTED:
        return []
    [commands] = [action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)]
    rows = []
    for action in commands.choices[str(command.name)]._actions[1:]:  # the first is --help, which every command has
        names = ", ".join(f"`{name}`" for name in action.option_strings) or f"`{action.dest.upper()}`"
        rows.append((names, _paragraph(action.help).replace("%(default)s", f"`{action.default}`")))
    return rows


def _example(command: TyperCommand) -> str:
    """The first paragraph of the epilog; rules of a scale, which may follow, have a page of their own."""
    return (command.epilog or "").partition("\n\n")[0].removeprefix("Example: ")


def _declaration(parameter: TyperArgument | TyperOption) -> str:
    if isinstance(parameter, TyperArgument):
        name = (parameter.metavar or parameter.name).upper().rstrip("…")
        return f"`{name}{'…' if parameter.nargs == -1 else ''}`"
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    return f"{names}{' (required)' if parameter.required else ''}"


def _meaning(parameter: TyperArgument | TyperOption) -> str:
    default = parameter.default
    plain = isinstance(default, str | int | float) and not isinstance(default, bool)
    return f"{_paragraph(parameter.help)}{f' Default: `{default}`.' if plain and parameter.show_default else ''}"


def rules_of_a_scale() -> str:
    parts = [RULES_HEAD]
    for stage, rules in STAGES.items():
        rows = [
            (f"`{name}`", _default(rule), valid_values(rule), rule.description)
            for name, rule in rules.model_fields.items()
        ]
        table = _table(("rule", "default", "values", "meaning"), rows)
        parts.append(f"## {stage.capitalize()}\n\n{_paragraph(rules.__doc__)} {rules.change}\n\n{table}")
    decided = [(f"`{name}`", "`0`", f"from {low:g} to {high:g}, or auto") for name, (_, low, high) in MOVEMENT.items()]
    return "\n".join([*parts, MOVEMENT_HEAD, _table(("rule", "default", "values"), decided)])


def asset_checks() -> str:
    with tempfile.TemporaryDirectory() as home:
        graph = build_defs(Settings(irt_home=Path(home), _env_file=None)).resolve_asset_graph()
    of_asset: dict[str, list[tuple[str, ...]]] = {}
    for key in sorted(graph.asset_check_keys, key=lambda key: (key.asset_key, key.name)):
        check = graph.get(key)
        assert not check.blocking, "the head of the page says that no check blocks"
        kind, meaning = _kind_of_check(key.name, _paragraph(check.description))
        of_asset.setdefault(key.asset_key.to_user_string(), []).append((f"`{key.name}`", kind, meaning))
    del of_asset["invariant_report"]
    tables = [f"## `{asset}`\n\n{_table(('check', 'kind', 'meaning'), rows)}" for asset, rows in of_asset.items()]
    return "\n".join([CHECKS_HEAD, *tables])


def _kind_of_check(name: str, description: str) -> tuple[str, str]:
    if name == INVENTORY:
        return "inventory", description
    if description.startswith("Set gate: "):
        return "set gate", description.partition(". ")[2]
    if description.startswith("Item gate: "):
        return "item gate", description.removeprefix("Item gate: ")
    return "informs", description


def exported_metrics() -> str:
    rows = [
        (f"`{family.name}`", ", ".join(f"`{label}`" for label in family.labels), family.meaning) for family in FAMILIES
    ]
    return METRICS_HEAD + "\n" + _table(("metric", "labels", "meaning"), rows)


def tables() -> str:
    """Every table with its columns, types, descriptions, units and ranges; then the views."""
    parts = [TABLES_HEAD]
    for table in METADATA.sorted_tables:
        rows = [
            (f"`{column.name}`", column.type.compile(postgresql.dialect()))
            + ("key" if column.primary_key else "" if column.nullable else "required", meaning(column))
            for column in table.columns
        ]
        comment = f"{table.comment}{_recomputed_by(table.info['recomputed_by'])}"
        parts.append(f"## `{table.name}`\n\n{comment}\n\n{_table(('column', 'type', '', 'meaning'), rows)}")
    views = ", ".join(f"`{name}`" for name in VIEWS)
    return "\n".join([*parts, f"## Views\n\n{views}: their SQL is in `resources/tables.py`.\n"])


def _recomputed_by(recomputed_by: RecomputedBy) -> str:
    """Name the assets that recompute lost rows, in a sentence; empty if there are no such assets."""
    if not recomputed_by.assets:
        return ""
    assets = join_names(f"`{asset}`" for asset in recomputed_by.assets)
    rows = f"rows with `{recomputed_by.rows}`" if recomputed_by.rows else "lost rows"
    return f" Recomputed by {assets}: {rows}."


def engines() -> str:
    """Every engine, in the order in which a month runs them."""
    head = ("engine", "estimates", "models", "runs in", "needs", "fits a month", "asset", "kind", "pool")
    return ENGINES_HEAD + "\n" + _table(head, map(_engine, registry.ENGINES))


def _engine(spec: EngineSpec) -> tuple[str, ...]:
    needs = [f"`{package.name}` ({package.install})" for package in spec.python_packages]
    needs += [f"R package `{package.name}` ({package.install})" for package in spec.r_packages]
    if spec.r_packages:
        needs.append("or the R IRT service")
    if spec.name == registry.DEFAULT:
        months = "always"
    else:
        months = f"if `IRT_ENGINES` contains `{spec.name}`" if spec.for_comparison else "of scales that it publishes"
    has_asset = spec.for_comparison or spec.name == registry.DEFAULT
    return (
        f"`{spec.name}`",
        spec.method + ("; draws are kept" if spec.has_draws else ""),
        ", ".join(spec.models),
        spec.runs_in,
        ", ".join(needs) or ("the service" if spec.runs_in == "R IRT service" else "nothing"),
        months,
        *((f"`{registry.asset_of(spec.name)}`", spec.kind, f"`{spec.pool}`") if has_asset else ("", "", "")),
    )


def invariants() -> str:
    """Every invariant: what it protects, its severity, how to fix it."""
    parts = [INVARIANTS_HEAD]
    for invariant in INVARIANTS:
        advice = f"Severity {invariant.severity}; it names {invariant.kind}. To fix it: {invariant.fix}"
        parts.append(
            "\n\n".join(filter(None, [f"## `{invariant.name}`", invariant.protects, invariant.note, f"{advice}\n"]))
        )
    return "\n".join(parts)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str | None, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join((cell or "").replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _paragraph(text: str | None) -> str:
    return " ".join(inspect.cleandoc(text or "").split())


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings,
    "command-line.md": command_line,
    "rules.md": rules_of_a_scale,
    "asset-checks.md": asset_checks,
    "metrics.md": exported_metrics,
    "tables.md": tables,
    "engine-table.md": engines,
    "invariants.md": invariants,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
