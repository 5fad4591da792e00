"""The file of sources, IRT_PULL_SOURCES: the name, the address and the mapping of each source.

Addresses contain passwords, so only the owner may read the file, and no message repeats a value from it.
"""

import re
import stat
from collections.abc import Mapping as Map
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, Self

import sqlalchemy as sa
from pydantic import AfterValidator, SecretStr, ValidationError, model_validator

from irt_assets.intake.mapping import AUTO, OF_FILES, Mapping, Rules, load_mapping, problems_of, read_yaml
from irt_assets.intake.times import find_zone
from resources.failures import PermanentFailure
from resources.settings import Settings, in_a_pod

DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql", "mariadb": "mariadb+pymysql"}
PARQUET = "parquet:"
THIS = "this"
"""Address of a source in the platform's own database."""
DELETE = re.compile(r"\s*DELETE\s+FROM\b[^;]*%\(user_id\)s[^;]*;?\s*", re.I)
OTHER_USERS = stat.S_IRWXG | stat.S_IRWXO


def _zone(name: str | None) -> str | None:
    if name is not None and find_zone(name) is None:
        raise ValueError("not a time zone: write a name such as Europe/Berlin")
    return name


class Cursor(Rules):
    """The columns by which new rows are found.

    Attributes:
        column: column whose values grow with each row that is written.
        key: column that distinguishes rows with the same value of `column`.
        unit: unit of `column`, if it counts seconds or milliseconds since 1970.
    """

    column: str
    key: str
    unit: Literal["s", "ms"] | None = None


class PullSource(Rules):
    """A source.

    Attributes:
        kind: `attempts` are pulled as answers; `question` and `learner` are tables that are copied.
        address: URL of a database, `parquet:` and a folder, or `this` (the platform's own database).
        table, select: the rows of a database; exactly one of them is given.
        mapping: name of a preset, a mapping file, or the mapping itself.
        zone: IANA name of the zone of times without a zone.
        since: day before which answers are not pulled.
        revision: the cursor is the time of the last write, so a row that is written again replaces the answer.
        erase: DELETE that removes a learner there.
    """

    name: str
    kind: Literal["attempts", "question", "learner"] = "attempts"
    address: SecretStr
    table: str | None = None
    select: str | None = None
    mapping: str | dict[str, Any] = AUTO
    zone: Annotated[str | None, AfterValidator(_zone)] = None
    cursor: Cursor | None = None
    since: date | None = None
    revision: Literal["cursor"] | None = None
    erase: str | None = None

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        is_copy, names_rows = self.kind != "attempts", [self.table, self.select].count(None) == 1
        faults = {
            "erase must be one DELETE FROM … WHERE … = %(user_id)s in a database, with no other parameter": (
                self.erase is not None and not (self.is_database and DELETE.fullmatch(self.erase))
            ),
            f"a copy of {self.kind} must come from a database, without cursor, since or revision": (
                is_copy and (not self.is_database or self.cursor or self.since or self.revision)
            ),
            "table must include its schema, such as public.answers": (
                self.is_here and self.table is not None and "." not in self.table
            ),
            "a folder of Parquet has neither table nor select": not self.is_database and (self.table or self.select),
            "name either a table or a select": self.is_database and not names_rows,
            "cursor is missing: {column: …, key: …}, a column that grows when a row is written": (
                self.cursor is None and not is_copy
            ),
        }
        for fault, is_present in faults.items():
            if is_present:
                raise ValueError(fault)
        return self

    @property
    def is_here(self) -> bool:
        return self.address.get_secret_value() == THIS

    @property
    def is_database(self) -> bool:
        return not self.address.get_secret_value().startswith(PARQUET)

    @property
    def start(self) -> datetime | None:
        return datetime(*self.since.timetuple()[:3], tzinfo=UTC) if self.since else None

    @property
    def location(self) -> str:
        """The address without its secrets."""
        return "this database" if self.is_here else str(self.url.set(username=None, password=None, query={}))

    @property
    def url(self) -> sa.URL:
        try:
            url = sa.make_url(self.address.get_secret_value())
        except (sa.exc.ArgumentError, ValueError):
            raise PermanentFailure(
                f"{self.name}: address is not a URL that SQLAlchemy can read, such as "
                "mysql://USER:PASSWORD@HOST/DATABASE, this (the database of the platform) or parquet:/FOLDER"
            ) from None
        return url.set(drivername=DRIVERS.get(url.drivername, url.drivername))

    @property
    def rules(self) -> Mapping | None:
        """The mapping, or None if it follows from the names of the columns."""
        if isinstance(self.mapping, str):
            rules = load_mapping(self.mapping)
        else:
            rules = Mapping.model_validate({**self.mapping, "name": f"mapping of {self.name}"})
        if rules and (of_files := OF_FILES & rules.model_dump(exclude_defaults=True).keys()):
            raise PermanentFailure(
                f"{self.name}: only files have {', '.join(sorted(of_files))}; take them out of mapping"
            )
        if rules is None or self.revision is None:
            return rules
        return rules.model_copy(update={"columns": {**rules.columns, "revision": ("revision",)}})


def read_sources(settings: Settings) -> dict[str, PullSource]:
    """All sources by name; empty if the setting is unset. Raises PermanentFailure, without any value from the file, if
    the file is wrong."""
    path = settings.irt_pull_sources
    if path is None:
        return {}
    content = read_yaml(path, aliases=True) or {}
    if path.stat().st_mode & OTHER_USERS and not in_a_pod():
        raise PermanentFailure(f"{path} contains passwords, and other users can read it: chmod 600 {path}")
    if not isinstance(content, dict) or not all(isinstance(keys, dict) for keys in content.values()):
        raise PermanentFailure(f"IRT_PULL_SOURCES: {path} names each source and, indented below it, its keys")
    sources = {str(name): _source(str(name), given) for name, given in content.items()}
    if len(banks := [name for name, source in sources.items() if source.kind == "question"]) > 1:
        raise PermanentFailure(
            f"IRT_PULL_SOURCES: {' and '.join(banks)} have kind: question, and only one source may have it"
        )
    return sources


def find_source(settings: Settings, name: str) -> PullSource:
    sources = read_sources(settings)
    if name not in sources:
        known = f"known: {', '.join(sources)}" if sources else "set IRT_PULL_SOURCES to the file of sources"
        raise PermanentFailure(f"no source is called {name!r}; {known}")
    return sources[name]


def _source(name: str, given: Map[str, Any]) -> PullSource:
    try:
        source = PullSource.model_validate({**given, "name": name})
        if source.is_database and not source.is_here:
            _ = source.url
        _ = source.rules
    except ValidationError as error:
        model = Mapping if error.title == Mapping.__name__ else PullSource
        raise PermanentFailure(f"IRT_PULL_SOURCES, {name}: {problems_of(error, model)}") from None
    return source
