"""`irt connect …`: the company's own tables as the log, and copies of its items and learners. Parses, calls, prints.

Exit codes: 0 done, or nothing is wrong; 1 the check found something, or nothing was confirmed; 2 the request is wrong.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from psycopg import Connection

from irt_assets.blocks import table as table_of
from irt_assets.cli.console import Yes, confirm, print_blocks, say
from irt_assets.cli.installation import current_database, os_user
from irt_assets.common.wording import counted
from irt_assets.intake.bank import COPIES
from irt_assets.intake.own_tables import Proposal, check_delete, first_rows, propose, table_named
from irt_assets.intake.own_tables_check import check as check_rows
from jobs.own_copies import bring_in_step
from resources.failures import PermanentFailure
from resources.postgres.database import one_value
from resources.postgres.own_log import answers_query, column_types, drop_mapping, read_mapping, sql_type, store_mapping

app = typer.Typer(no_args_is_help=True)
SHOWN = 20
Table = Annotated[str | None, typer.Argument(metavar="SCHEMA.TABLE", help="Table of your own, a row each.")]
Mapped = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="OURS=THEIRS", help="What a column of ours is: a column of theirs, or SQL."),
]
Select = Annotated[
    Path | None, typer.Option("--sql", help="File with a SELECT, where a table has it otherwise; ours by its names.")
]
Drop = Annotated[bool, typer.Option("--drop", help="Let go of the table; what is here stays.")]


@app.command()
def log(
    table: Table = None,
    mapped: Mapped = None,
    zone: Annotated[str | None, typer.Option(help="Time zone of times that name none, e.g. Asia/Seoul.")] = None,
    sql: Select = None,
    erase_with: Annotated[
        str | None,
        typer.Option(metavar="SQL", help="DELETE that irt learner erase runs: … WHERE student_id = :user_id."),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Say what is wrong with the rows; store nothing.")] = False,
    drop: Annotated[bool, typer.Option("--drop", help="Let go of the tables: the log is response_log again.")] = False,
    yes: Yes = False,
) -> None:
    """Make the company's own table the log: proposed and shown, then stored. Nothing is changed in the table."""
    database = current_database()
    if drop:
        confirm("Is the log response_log from now on? First stop what makes months, which would find no answers.", yes)
        with database.connect() as connection:
            drop_mapping(connection, "log")
        say("the log is response_log; the tables of your own are as they were")
        return
    if check and table is None and sql is None:
        with database.connect() as connection:
            if (stored := read_mapping(connection)) is None:
                raise PermanentFailure("the log is response_log: name the table to check, SCHEMA.TABLE, or --sql FILE")
            _check(connection, stored.query, list(column_types(connection, stored.query)))
    with database.connect() as connection:
        source, given = _source(connection, table, sql), _given(mapped or [])
        proposal = propose(connection, _select(sql) if sql else source, given=given, zone=zone)
        types = {ours: sql_type(ours) for ours in proposal.cells}
        if erase_with is not None:
            check_delete(connection, erase_with)
        _show(connection, f"{source} as the log:", proposal, answers_query(proposal.query, proposal.cells), types)
        if check:
            _check(connection, proposal.query, list(proposal.cells))
        here = one_value(connection, "SELECT count(*) FROM response_log")
        connected = read_mapping(connection)
    if here:
        say(f"response_log holds {here:,} answers, which nobody reads from then on: an installation has one log")
    instead = f", in the place of {connected.source}" if connected else ""
    if erase_with is not None:
        say(f"irt learner erase deletes there from then on, and nothing else does: {erase_with}")
    confirm(f"Is {source} the log from now on{instead}?", yes)
    options = {"map": given, "zone": zone, "erase_with": erase_with}
    with database.connect() as connection:
        store_mapping(connection, "log", source, proposal.query, options, os_user())
    say(f"the log is {source}: irt connect log --check says what is wrong with it, and what to do")


@app.command()
def question(
    table: Table = None, mapped: Mapped = None, sql: Select = None, drop: Drop = False, yes: Yes = False
) -> None:
    """Keep the item bank in step with the company's, every five minutes. Nothing is changed in the company's table."""
    _copy("question", table, mapped, sql, drop, yes)


@app.command()
def learner(
    table: Table = None, mapped: Mapped = None, sql: Select = None, drop: Drop = False, yes: Yes = False
) -> None:
    """Keep the learners in step with the company's, every five minutes. Nothing is changed in the company's table."""
    _copy("learner", table, mapped, sql, drop, yes)


def _copy(target: str, table: str | None, mapped: list[str] | None, sql: Path | None, drop: bool, yes: bool) -> None:
    database = current_database()
    if drop:
        confirm(f"Does {target} stop being a copy? Its rows stay as they are.", yes)
        with database.connect() as connection:
            drop_mapping(connection, target)
        say(f"{target} is not copied any more; the tables of your own are as they were")
        return
    with database.connect() as connection:
        source, given = _source(connection, table, sql), _given(mapped or [])
        proposal = propose(connection, _select(sql) if sql else source, given=given, kind=COPIES[target])
        types = column_types(connection, proposal.query)
        _show(connection, f"{source} as {target}:", proposal, proposal.query, types)
    confirm(f"Is {target} a copy of {source} from now on? What is here already gets its values.", yes)
    with database.connect() as connection:
        store_mapping(connection, target, source, proposal.query, {"map": given}, os_user())
    say(bring_in_step(database, target).summary)
    say("the sensor own_tables keeps it in step; without a daemon: systemctl enable --now irt-own-tables.timer")


def _source(connection: Connection, table: str | None, sql: Path | None) -> str:
    if (table is None) == (sql is None):
        raise PermanentFailure("name the table, SCHEMA.TABLE, or a SELECT with --sql FILE")
    return table_named(connection, table) if table else str(sql)


def _select(path: Path) -> str:
    try:
        return f"({path.read_text('utf-8').strip().rstrip(';')}\n)"
    except (OSError, UnicodeError) as error:
        raise PermanentFailure(f"--sql {path}: {error}") from error


def _given(mapped: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in mapped]
    if wrong := [text for text, (_, equals, _) in zip(mapped, pairs, strict=True) if not equals]:
        raise PermanentFailure(f"--map takes OURS=THEIRS, such as user_id=student_id, not {wrong[0]!r}")
    return {ours.strip(): theirs.strip() for ours, _, theirs in pairs}


def _check(connection: Connection, query: str, given: Sequence[str]) -> NoReturn:
    """Exits with 1 where something is wrong, with 0 where nothing is."""
    found = check_rows(connection, query, given, say)
    connection.rollback()
    for number, finding in enumerate(found, 1):
        say(f"\n{number}. {finding.what}\n   {finding.consequence}")
        for line in filter(None, (finding.row, finding.statement)):
            say(f"   {line}")
    say(f"\n{counted(len(found), 'fault')} found; nothing was changed, and no statement was run")
    raise typer.Exit(1 if found else 0)


def _show(connection: Connection, title: str, proposal: Proposal, query: str, types: Mapping[str, str]) -> None:
    rows, shown = first_rows(connection, query, SHOWN), list(proposal.cells)
    say(title)
    print_blocks(table_of(("ours", "theirs", "type"), [(*cell, types[cell[0]]) for cell in proposal.cells.items()]))
    print_blocks(
        table_of(shown, [tuple("" if row[name] is None else str(row[name]) for name in shown) for row in rows])
    )
