"""The commands of `irt db`: the schema of the database in use, its address, and the embedded server."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from irt_assets.cli.console import Yes, confirm, out, say
from irt_assets.cli.installation import current_database, current_settings, unchecked_database
from irt_assets.common.wording import duration_in_words, quantity
from irt_assets.responses.verdicts import US_PER_ATTEMPT, attempts_without_verdicts
from resources.failures import PermanentFailure
from resources.files import folder_claim
from resources.postgres import foreign_schemas, schema
from resources.postgres.database import Database, embedded_postgres
from resources.postgres.database_url import with_search_path
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.postgres.roles import role_statements
from resources.postgres.schema_version import schema_version
from resources.settings import private_home

app = typer.Typer(no_args_is_help=True)


@app.command(epilog="Example: irt db upgrade")
def upgrade() -> None:
    """Upgrade the schema to the newest version (`alembic upgrade head`)."""
    upgrade_home(unchecked_database())


def upgrade_home(database: Database) -> None:
    """Upgrade the schema, and print its revision and the number of answers that wait to be judged."""
    schema.upgrade(database)
    out.print(f"schema is at {schema_version(database).revision}, with its tables in {database.schema}")
    days, attempts = database.call(attempts_without_verdicts, datetime.now(UTC))
    if days:
        takes = duration_in_words(timedelta(minutes=1) + attempts * timedelta(microseconds=US_PER_ATTEMPT))
        say(
            f"{attempts:,} answers of {quantity(days, 'day')} wait to be judged, which takes about {takes}. The daemon "
            "begins at 00:30 UTC, `irt job judge_attempts` at once, and both with the newest day; until then each "
            "reader first judges the answers that it needs"
        )


@app.command(epilog="Example: irt db downgrade 0057")
def downgrade(
    revision: Annotated[str, typer.Argument(help="Earlier revision, or its number, e.g. 0057.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation: a backup exists.")] = False,
) -> None:
    """Downgrade the schema for older code. Refused if rows would be lost that no job recomputes.

    Make a backup first, and stop all programs that use the database.
    """
    say("First stop what uses the database, and make a backup of it (irt backup).")
    confirm("Is that done?", yes)
    out.print(f"schema is at {schema.downgrade(unchecked_database(), revision)}")


@app.command(epilog="Example: irt db adopt-folder")
def adopt_folder(yes: Yes = False) -> None:
    """Use this IRT_HOME for the files of the database from now on, after they were moved here or lost."""
    settings = current_settings()
    confirm(f"Do the snapshots and reports of this database lie in {settings.irt_home} from now on?", yes)
    out.print(f"the files of this database lie in {folder_claim.adopt_folder(settings, current_database()).root}")


@app.command(epilog="Example: irt db url")
def url() -> None:
    """Print the database's address with its password, for psql "$(irt db url)". Starts the embedded server."""
    database = unchecked_database()
    print(with_search_path(database.url, database.schema))  # noqa: T201 - for command substitution, untouched by any formatting


@app.command(epilog="Example: irt db roles --own-table exam.answers")
def roles(
    own_table: Annotated[
        list[str] | None,
        typer.Option(help="Table of your own, SCHEMA.TABLE, that the owner may read. May be repeated."),
    ] = None,
    owner: Annotated[str, typer.Option(help="Role for migrations, daemon and imports.")] = "irt_owner",
    service: Annotated[str, typer.Option(help="Role for θ API and dashboard, which create no tables.")] = "irt_service",
    reader: Annotated[str, typer.Option(help="Role for people who read our tables.")] = "irt_reader",
) -> None:
    """Print the SQL with which an administrator creates our roles and schemas. Nothing is run."""
    database = unchecked_database()
    address = database.arguments()
    statements = role_statements(
        own_table or [],
        owner=owner,
        service=service,
        reader=reader,
        database=address.get("dbname") or address["user"],
        schema=database.schema,
        dagster=current_settings().irt_dagster_schema,
    )
    print("\n".join(statements))  # noqa: T201 - for psql, untouched by any formatting


@app.command(epilog="Example: irt db views --in reporting")
def views(
    schema: Annotated[str, typer.Option("--in", help="Schema for the views.", metavar="SCHEMA")],
    drop: Annotated[bool, typer.Option("--drop", help="Remove the views that this command created there.")] = False,
) -> None:
    """Create views of our tables, with the same names, in another schema, for programs that read there."""
    names = (foreign_schemas.drop_views if drop else foreign_schemas.make_views)(current_database(), schema)
    out.print(f"{quantity(len(names), 'view')} {'removed from' if drop else 'made in'} {schema}")


@app.command(epilog="Example: irt db start")
def start() -> None:
    """Start the embedded server. It runs until `irt db stop`."""
    _embedded().start()


@app.command(epilog="Example: irt db stop")
def stop() -> None:
    """Stop the embedded server."""
    _embedded().stop()


def _embedded() -> EmbeddedPostgres:
    settings = current_settings()
    if settings.database_url is not None:
        raise PermanentFailure("DATABASE_URL is set: the embedded server is not in use")
    server = embedded_postgres(settings)
    private_home(settings)
    return server
