"""Commands in pages, and checks that the things they name exist.

The module splits fenced blocks into commands and checks whether our CLI accepts a command line, and whether its units,
make targets and cluster objects exist.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import yaml
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import Exit, TyperException
from typer.main import get_command

from irt_psychometrics.commands import parser

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "deploy" / "systemd" / "units"
CLUSTER = ROOT / "deploy" / "k8s"

FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
ASSIGNMENT = re.compile(r"[A-Z_][A-Z0-9_]*=")
UNIT_COMMANDS = ("systemctl", "journalctl")
UNIT_OPTIONS_WITH_VALUE = ("-n", "-p", "-u", "-o", "--since", "--until", "--property", "--lines", "--priority")
ANY_UNIT = ("list-timers", "daemon-reload", "list-units")
KINDS = {"cronjob": "CronJob", "deployment": "Deployment", "svc": "Service"}
OBJECT = re.compile(r"\b(cronjob|deployment|svc)[/ ]([a-z][a-z0-9-]+)")
NAMED_BY_OTHERS = re.compile(r"\b(?:secret(?: generic)?|configmap) ([a-z][a-z0-9-]+)")
FOR_ONE_COMMAND = frozenset({"restored-db-credentials"})
"""Secrets that a page creates for its next commands and that no object of ours names."""
LABEL = re.compile(r"-l (app|cronjob)=([a-z][a-z0-9-]+)")
APPLIED = re.compile(r"\bapply -[fk] ([\w./-]+)")


def fenced_blocks(page: str) -> list[tuple[str, str]]:
    """Language and text of each fenced block. Four backticks around a whole page do not count."""
    return [(found[1], found[2]) for found in FENCED.finditer(page)]


def logical_lines(block: str) -> list[str]:
    """Lines without comments. Lines continued by a backslash or an open quote are joined."""
    lines: list[str] = []
    pending = ""
    for line in block.replace("\\\n", " ").splitlines():
        pending = f"{pending} {line}" if pending else line
        if pending.count("'") % 2 and not re.match(r"^\s*#|.*\s#\s", pending):
            continue
        if text := without_comment(pending):
            lines.append(text)
        pending = ""
    return [*lines, *([" ".join(pending.split())] if pending else [])]


def without_comment(line: str) -> str:
    return " ".join(re.sub(r"(^|\s)#(\s.*|$)", "", line).split())


def simple_commands(line: str) -> list[list[str]]:
    """The commands of a line in words, without `sudo`, assignments before them and redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    commands: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("|&;()"):
            commands.append([])
        else:
            commands[-1].append(word)
    return [words for words in [without_prefix(words) for words in commands] if words]


def without_options_in_brackets(line: str) -> str:
    """Remove options in brackets, as in `irt prune [--dry-run]`."""
    return re.sub(r"\s\[[^\]]*\]", "", line).replace("…", "")


def without_prefix(words: list[str]) -> list[str]:
    while words and (words[0] in ("$", "sudo", "export") or ASSIGNMENT.match(words[0])):
        words = words[1:]
    ends = [at for at, word in enumerate(words) if set(word) <= set("<>")]
    return words[: ends[0]] if ends else words


@cache
def irt() -> TyperGroup:
    from irt_assets.cli import app

    command = get_command(app)
    assert isinstance(command, TyperGroup)
    return command


@cache
def jobs() -> set[str]:
    from irt_assets.common.job_names import same_job
    from irt_assets.runs.in_process_runs import SENSORS
    from jobs.plans import PLANS

    return {name for plan in PLANS for name in same_job(plan.job)} | set(SENSORS)


def irt_commands(command: Any = None, name: str = "irt") -> Iterator[tuple[str, TyperCommand]]:
    """Full name and parser of every command of our CLI, such as `irt release list`."""
    from irt_assets.cli import Noun

    command = command.command() if isinstance(command, Noun) else command or irt()
    if isinstance(command, TyperGroup):
        for below in command.commands.values():
            yield from irt_commands(below, f"{name} {below.name}")
    else:
        yield name, command


def is_mounted(command: TyperCommand | TyperGroup) -> bool:
    """Whether a command hands its arguments to the library's command of the same name."""
    from irt_assets.cli.desk import MOUNTED

    return command.context_settings == MOUNTED


def fault_of_library(words: list[str]) -> str:
    """Reason why the library's parser does not accept `words`, or ""."""
    with redirect_stderr(StringIO()) as message:
        try:
            _, unknown = parser("irt").parse_known_args(words)
        except SystemExit as ended:
            return message.getvalue().rpartition("error: ")[2] if ended.code else ""
    return f"irt {shlex.join(words)}: unknown {' '.join(unknown)}" if unknown else ""


def fault_of_irt(words: list[str]) -> str:
    """Reason why our CLI does not accept `words` (after `irt`), or "". Runs no command.

    A missing file is no fault, as pages use made-up names. The library's parser checks the commands of the library.
    """
    command = irt()
    context = None
    rest = list(words)
    try:
        with redirect_stdout(StringIO()):  # output of --version and --help
            while True:
                context = command.make_context(command.name or "irt", rest, parent=context)
                if is_mounted(command):
                    return fault_of_library([str(command.name), *context.args])
                if not isinstance(command, TyperGroup):
                    job = context.params.get("name", "") if command.name == "job" else ""
                    return f"irt job {job}: no such job" if job and job not in jobs() else ""
                name, *rest = [*context._protected_args, *context.args] or [""]
                if not name and command.invoke_without_command:
                    return ""
                _, command, rest = command.resolve_command(context, [name, *rest])
    except Exit:
        return ""
    except TyperException as error:
        message = error.format_message()
        return "" if message.endswith("does not exist.") else f"irt {shlex.join(words)}: {message or 'no command'}"


def unit_exists(name: str) -> bool:
    if "*" in name:
        return any(UNITS.glob(name))
    full = name if re.search(r"\.(service|timer|target)$", name) else f"{name}.service"
    template = re.sub(r"@[^.]*\.", "@.", full)
    return (UNITS / full).is_file() or (UNITS / template).is_file()


def units_named(words: list[str]) -> list[str]:
    """Units in a command of systemctl or journalctl, including units of PostgreSQL and nginx."""
    if words[0] == "journalctl":
        named = [after for word, after in itertools.pairwise(words) if word == "-u"]
        return named + [word[len("--unit=") :] for word in words if word.startswith("--unit=")]
    rest = iter(words[1:])
    plain = [
        word for word in rest if not (word.startswith("-") and (word not in UNIT_OPTIONS_WITH_VALUE or next(rest, "")))
    ]
    plain = [word for word in plain if not word.startswith("-")]
    return plain[1:] if plain else []


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@cache
def cluster() -> tuple[frozenset[tuple[str, str]], str]:
    """Kind and name of every object of deploy/k8s, also under the documents' names, and the text of all its files."""
    texts = [path.read_text() for path in sorted(CLUSTER.rglob("*.yaml"))]
    found = [part for text in texts for part in yaml.safe_load_all(text) if isinstance(part, dict) and "kind" in part]
    named = {(part["kind"], part.get("metadata", {}).get("name", "")) for part in found}
    folder = CLUSTER / "components" / "seedtest-api"
    for patch in yaml.safe_load((folder / "kustomization.yaml").read_text())["patches"]:
        for operation in yaml.safe_load((folder / patch["path"]).read_text()):
            key, value = operation["path"].rpartition("/")[2], operation["value"]
            texts.append(f"{key}: {value}")
            named |= {(patch["target"]["kind"], value)} if operation["path"] == "/metadata/name" else set()
    return frozenset(named), "\n".join(texts)


def fault_of_kubectl(command: str) -> str:
    """Object, file or label of the cluster in a command that deploy/k8s does not contain, or "" if all exist."""
    objects, text = cluster()
    missing = [f"{kind} {name}" for kind, name in OBJECT.findall(command) if (KINDS[kind], name) not in objects]
    missing += [
        name
        for name in NAMED_BY_OTHERS.findall(command)
        if name not in FOR_ONE_COMMAND and not re.search(rf"name: {name}\b", text)
    ]
    missing += [f"{key}={value}" for key, value in LABEL.findall(command) if f"{key}: {value}" not in text]
    missing += [path for path in APPLIED.findall(command) if path.startswith("deploy/") and not (ROOT / path).exists()]
    return f"{command}: deploy/k8s has no {', '.join(missing)}" if missing else ""


def installer_options() -> set[str]:
    text = (ROOT / "deploy" / "systemd" / "install.sh").read_text()
    return set(re.findall(r"--[a-z-]+", text.split("here=", 1)[0])) | {"--help"}


def fault(words: list[str], *, others_units: frozenset[str] = frozenset()) -> str:
    """Part of a command that does not exist, or "". Commands of other programs are not checked."""
    program, *rest = words
    name = Path(program).name
    if name == "irt":
        return fault_of_irt(rest)
    if name == "make":
        named = [word for word in rest if not word.startswith("-") and "=" not in word]
        return "" if set(named) <= make_targets() else f"make {named}: no such target"
    if name == "install.sh":
        return "" if {word for word in rest if word.startswith("-")} <= installer_options() else f"install.sh {rest}"
    if name == "kubectl":
        return fault_of_kubectl(" ".join(words))
    if name in UNIT_COMMANDS and not set(rest) & set(ANY_UNIT[1:]):
        missing = [unit for unit in units_named(words) if unit not in others_units and not unit_exists(unit)]
        return f"no unit {missing}" if missing else ""
    return ""
