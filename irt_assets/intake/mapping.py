"""Mapping files: how the columns of a file correspond to ours.

This module defines their format, has the built-in presets, and finds the mapping that fits a header. The rules for
values are applied in `clean`.
"""

from collections.abc import Collection, Mapping as Map, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, reduce
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)

from irt_assets.common.wording import fault_message, with_stop
from irt_assets.intake.sources import names_of
from irt_assets.intake.text_encoding import check_encoding
from irt_psychometrics.cells import ByPattern, Cells
from irt_psychometrics.items import MAX_SCORE
from resources.failures import PermanentFailure

V = TypeVar("V")
AUTO = "auto"
PRESETS = ("own", "datashop", "assistments", "wide")
MAX_YAML = 2**20  # bytes
ATTEMPT_COLUMNS = (
    *("attempt_id", "user_id", "item_id", "topic_id", "session_id", "form_id", "position"),
    *("started_at", "completed_at", "correct", "response", "response_time_ms", "hints_used", "mode", "revision"),
    "score",
)
ITEM_COLUMNS = ("item", "item_id", "question", "question_id", "problem_id")
SCORE_COLUMNS = ("score", "correct", "resp", "response", "answer", "is_correct", "outcome", "points")
REQUIRED_COLUMNS = ("user_id", "item_id", "correct")


def _text(value: object) -> object:
    """Convert a value back to text, because YAML parses 1, true and 2026-11-20, and the cells of a file are text."""
    if isinstance(value, bool):
        return str(value).lower()
    return value if value is None else str(value)


def _texts(value: object) -> object:
    return tuple(map(_text, value)) if isinstance(value, (list, tuple)) else (_text(value),)


Text = Annotated[str, BeforeValidator(_text)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_texts)]


Encoding = Annotated[str, AfterValidator(check_encoding)]


def _check_expression(expression: str) -> str:
    """Raise ValueError unless the regular expression is valid and has a group."""
    try:
        pc.replace_substring_regex(pa.array(["x"]), expression, r"\1")
    except pa.ArrowInvalid as error:
        raise ValueError(f"it must be a regular expression with a group in parentheses ({error})") from error
    return expression


Expression = Annotated[str, AfterValidator(_check_expression)]
TextsByColumn = Annotated[
    dict[Text, Texts], BeforeValidator(lambda value: value if isinstance(value, dict) else {"*": value})
]


class Rules(BaseModel):
    """Options from a file that a person writes. Other keys are errors, and messages repeat no value."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class TimeRules(Rules):
    """How times are written. Rules that are left out are inferred from the values; a missing zone is an error.

    Attributes:
        zone, zone_column: zone of times without one, and the column with each row's own zone.
        unit: unit of times that are numbers.
        format: format of other times, as in `strptime`, or "excel" for the serial numbers of Excel.
        order: column with the order of answers, for a file without times.
    """

    zone: str | None = None
    zone_column: str | None = None
    unit: Literal["s", "ms"] | None = None
    format: str | None = None
    order: str | None = None


class FileRules(Rules):
    """How the table lies in its file. Rules that are left out are inferred.

    Attributes:
        sheet: sheet of a workbook.
        delimiter: a character.
        header: row of the columns' names, and `first_row` the row of the first answers, as in a spreadsheet.
        decimal: the decimal mark of numbers.
    """

    sheet: str | None = None
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    header: Annotated[int, Field(ge=1)] | None = None
    first_row: Annotated[int, Field(ge=1)] | None = None
    decimal: Literal[".", ","] = "."


class MatrixMapping(Rules):
    """A matrix with one column per item: `items` are names or patterns such as `item_*`.

    `responses`: column with an item's scores → column with the chosen options.
    """

    items: Texts
    responses: dict[Text, Text] = {}


def with_reading(content: dict[str, Any], reading: Map[str, Any]) -> dict[str, Any]:
    """Add a reading's keys to the content of a mapping. The parts of a key that both have are merged."""
    both = [key for key, value in reading.items() if isinstance(value, dict) and isinstance(content.get(key), dict)]
    return {**content, **reading, **{key: {**content[key], **reading[key]} for key in both}}


class Reading(Rules):
    """One of several readings that fit a file: further keys of the mapping, and rows of the file as they say."""

    reading: dict[str, Any]
    rows: Texts = ()


class Mapping(Rules):
    """A mapping file.

    `columns`: our column → the file's column. If it has several, their texts are joined by `/`, in times by a space;
    of `correct` and `score`, the first that is not empty counts.
    `file`, `rename`, `extract` and `frequency` are applied first, in `reshape`; the other keys see their result.
    `prefix` is put before the items' ids; the other keys have the items' names in the file.
    `choose`: name of a choice → the readings that fit the file. While there are several, `bind` refuses the file.
    """

    name: str
    description: str = ""
    columns: dict[str, Texts] = {}
    also_called: dict[str, Texts] = {}
    values: dict[str, dict[Text, Text | None]] = {}
    item_values: dict[Text, dict[Text, Text | None]] = {}
    constants: dict[str, Text] = {}
    null_values: TextsByColumn = {}
    units: dict[str, Literal["s", "ms"]] = {}
    time: TimeRules = TimeRules()
    skip_rows_where: dict[str, Texts] = {}
    integer_ids: bool = False
    wide: MatrixMapping | None = None
    max_scores: dict[Text, Annotated[int, Field(ge=1, le=MAX_SCORE)]] = {}
    denominator: Annotated[int, Field(ge=1, le=100)] = 1
    encoding: Encoding | None = None
    file: FileRules = FileRules()
    rename: dict[Text, Text] = {}
    extract: dict[Text, Expression] = {}
    frequency: Text | None = None
    keys: dict[Text, Text] = {}
    prefix: Text = ""
    recognised_by: Texts = ()
    choose: dict[str, Annotated[tuple[Reading, ...], Field(min_length=1)]] = {}
    preset: bool = False

    @model_validator(mode="wrap")
    @classmethod
    def _with_only_readings(cls, content: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        """Apply the readings that are the only one left of a choice."""
        mapping = validate(content)
        only = [readings[0].reading for readings in mapping.choose.values() if len(readings) == 1]
        if not only:
            return mapping
        several = {name: readings for name, readings in content["choose"].items() if len(readings) > 1}
        return validate(reduce(with_reading, only, {**content, "choose": several}))

    def find(self, name: str, columns: Collection[str]) -> tuple[str, ...] | None:
        """The file's columns that make up our column `name`. Returns None if the file lacks them."""
        candidates = [self.columns.get(name, ()), *((other,) for other in self.also_called.get(name, ()))]
        return next((names for names in candidates if names and all(column in columns for column in names)), None)


OF_FILES = frozenset(("file", "rename", "extract", "frequency", "keys", "prefix"))
"""Rules for files, which pulls and posts do not have."""
PATTERNS = Mapping(
    name="--frequency",
    columns={"user_id": ("#file", "#row")},
    null_values={"*": ("NA",)},
    wide=MatrixMapping(items=("*",)),
)
"""A matrix of patterns with frequencies, without a column of persons."""


@dataclass(frozen=True)
class Binding:
    """A mapping that is bound to a file. `columns`: our column → the file's columns, without columns that it lacks."""

    mapping: Mapping
    columns: Map[str, tuple[str, ...]]

    @property
    def makes_learners_ids(self) -> bool:
        """Whether a learner's id in the log may differ from its text in the file."""
        rules = self.mapping
        changed = rules.integer_ids or "user_id" in rules.values or "user_id" in rules.constants
        return changed or len(self.columns.get("user_id", ())) != 1

    def null_values_of(self, file_column: str) -> list[str]:
        """List the texts that count as empty in a column of the file, from all names and patterns that match it."""
        return [*chain(*self._null_values.fitting(file_column))]

    @cached_property
    def _null_values(self) -> ByPattern[tuple[str, ...]]:
        return ByPattern(self.mapping.null_values)  # here, because copies of a mapping share cached values

    def with_null_values(self, more: Map[str, Sequence[str]]) -> "Binding":
        """The binding with further texts that count as empty, by name or pattern of a column of the file."""
        known = self.mapping.null_values
        both = {name: (*known.get(name, ()), *more.get(name, ())) for name in {**known, **more}}
        return replace(self, mapping=self.mapping.model_copy(update={"null_values": both}))

    def item(self, column: str) -> str:
        """Return the id of the item that a column of a matrix has."""
        return self.mapping.prefix + Cells.visible(column)

    def with_prefix(self, prefix: str) -> "Binding":
        """The binding with a prefix of the items' ids, by default the mapping's, also in its rules of single items."""
        prefix = prefix or self.mapping.prefix
        rules = {name: with_prefix(getattr(self.mapping, name), prefix) for name in ("max_scores", "item_values")}
        return replace(self, mapping=self.mapping.model_copy(update={**rules, "prefix": prefix}))


def with_prefix(by_item: Map[str, V], prefix: str) -> dict[str, V]:
    """Put the prefix before the items: item or pattern → value."""
    return {prefix + item: value for item, value in by_item.items()}


@cache
def _preset(name: str) -> Mapping:
    return _parse(read_yaml(Path(__file__).with_name("presets") / f"{name}.yaml"), name, preset=True)


def presets() -> dict[str, str]:
    """Built-in mapping → its description."""
    return {name: _preset(name).description for name in PRESETS}


def load_mapping(mapping: str | Path | Mapping) -> Mapping | None:
    """The preset or mapping file with this name; a Mapping is returned unchanged.

    Returns None for "auto": the header of a file decides then. Raises PermanentFailure if there is no such preset or
    file, or the file is invalid.
    """
    if mapping == AUTO:
        return None
    if isinstance(mapping, Mapping):
        return mapping
    if str(mapping) in PRESETS:
        return _preset(str(mapping))
    path = Path(mapping)
    if not path.is_file():
        raise PermanentFailure(f"--mapping {mapping}: neither a preset ({', '.join(PRESETS)}) nor a file")
    return _parse(read_yaml(path), str(path), preset=False)


def read_yaml(path: Path, *, aliases: bool = False) -> Any:
    """Read a user's YAML file. `aliases`: whether it may have aliases, which can make a small file very large.

    Raises PermanentFailure, which contains no text of the file, because the text may be a secret.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_YAML + 1)
        if len(content) > MAX_YAML:
            raise PermanentFailure(f"{path}: longer than {MAX_YAML:,} bytes")
        text = content.decode("utf-8-sig")
        if not aliases and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise PermanentFailure(f"{path}: it must have no aliases (*name): write the value out")
        return yaml.safe_load(text)
    except (OSError, UnicodeError):
        raise PermanentFailure(f"{path} cannot be read as YAML in UTF-8") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        location = f", line {mark.line + 1}" if mark else ""
        raise PermanentFailure(f"{path}{location}: it is not YAML with a line `name: value` for each option") from None


def problems_of(error: ValidationError, model: type[BaseModel]) -> str:
    """Describe the faults of a `model` that was read from a file, each after its key, without the values."""
    return "; ".join(
        f"{'.'.join(map(str, fault['loc'])) or 'it'}: {fault_message(fault, model.model_json_schema)}"
        for fault in error.errors(include_input=False)
    )


def encoding_of(option: str | None, mapping: Mapping | None) -> str | None:
    """The encoding of files that are not UTF-8, from the option or else from the mapping.

    Raises PermanentFailure if the option names no encoding.
    """
    if option is None:
        return None if mapping is None else mapping.encoding
    try:
        return check_encoding(option)
    except ValueError as error:
        raise PermanentFailure(f"--encoding: {error}") from error


def bind_attempts(mapping: Mapping | None, file: str, columns: Sequence[str]) -> Binding:
    """Bind a mapping (None: the only preset that fits) to a file of answers with these columns.

    Raises PermanentFailure if no mapping fits. The message lists the file's columns and the missing ones, and shows how
    to write a mapping.
    """
    if mapping is None:
        fitting = _fitting_presets(columns)
        if len(fitting) > 1:  # every log has a column of persons, so the preset of matrices fits any log
            fitting = [preset for preset in fitting if preset.wide is None]
        if len(fitting) != 1:
            names = " and ".join(preset.name for preset in fitting)
            why = f"the presets {names} both fit; choose one with --mapping" if fitting else "no preset fits"
            raise unknown_header(file, columns, why)
        mapping = fitting[0]
        list_columns = [name for name in (*ITEM_COLUMNS, *SCORE_COLUMNS) if name in columns]
        if mapping.wide and len(list_columns) > 1:
            raise unknown_header(
                file, columns, f"it looks like a list ({' and '.join(list_columns)}), and no preset fits"
            )
    required = ("user_id",) if mapping.wide else REQUIRED_COLUMNS
    return bind(mapping, file, columns, ATTEMPT_COLUMNS, required)


def bind(
    mapping: Mapping, file: str, columns: Sequence[str], allowed: Sequence[str], required: Sequence[str]
) -> Binding:
    """Bind a mapping to a file with these columns.

    `allowed`: our columns. `required`: our columns that the file must have. Only a preset may name optional columns
    that the file lacks. Raises PermanentFailure if the mapping does not fit, or has several readings of the file.
    """
    if mapping.choose:
        keys = ", ".join(f"choose.{name}" for name in mapping.choose)
        raise PermanentFailure(
            f"{file}: {mapping.name} has several readings of it ({keys}): keep one reading under each name and delete"
            " the others. Nothing was stored."
        )
    named = {*mapping.columns, *mapping.also_called, *mapping.constants, *mapping.values}
    if unknown := sorted(named - {*allowed}):
        raise PermanentFailure(
            f"{mapping.name}: not among our columns: {', '.join(unknown)}. Our columns are {', '.join(allowed)}."
        )
    file_columns = frozenset(columns)
    found = {name: names for name in mapping.columns if (names := mapping.find(name, file_columns))}
    if not mapping.preset and (lacking := [name for name in mapping.columns if name not in found]):
        absent = [column for name in lacking for column in mapping.columns[name] if column not in columns]
        raise unknown_header(
            file, columns, f"{mapping.name} names columns that are not in the file: {', '.join(absent)}", required
        )
    further = [mapping.time.zone_column, mapping.time.order, *mapping.skip_rows_where]
    further += mapping.wide.responses.values() if mapping.wide else ()
    lacking = [name for name in further if name and name not in columns]
    given = {*found, *mapping.constants} | ({"correct"} if {"score", "response"} & found.keys() else set())
    lacking += [name for name in required if name not in given]
    if lacking:
        raise unknown_header(file, columns, f"{mapping.name} needs {', '.join(lacking)}", required)
    return Binding(mapping, found)


def list_preset(columns: Sequence[str]) -> Binding | None:
    """The only preset of lists that fits a file with these columns, bound to it."""
    fitting = [preset for preset in _fitting_presets(columns) if preset.wide is None]
    return bind_attempts(fitting[0], "", columns) if len(fitting) == 1 else None


def _fitting_presets(columns: Sequence[str]) -> list[Mapping]:
    return [preset for preset in map(_preset, PRESETS) if _recognises(preset, columns)]


def _recognises(preset: Mapping, columns: Sequence[str]) -> bool:
    needed = ("user_id",) if preset.wide else REQUIRED_COLUMNS
    scored = preset.find("score", columns) or preset.find("response", columns)
    found = all(preset.find(name, columns) or (scored and name == "correct") for name in needed)
    return set(preset.recognised_by) <= set(columns) and found


def _parse(content: Any, name: str, *, preset: bool) -> Mapping:
    if not isinstance(content, dict):
        raise PermanentFailure(f"{name}: a mapping file is a YAML mapping, for example\n{EXAMPLE}")
    try:
        mapping = Mapping.model_validate({**content, "name": name, "preset": preset})
        mapping.model_dump_json()  # raises ValueError for half a surrogate pair
    except ValidationError as error:
        raise PermanentFailure(
            f"{name}: {with_stop(problems_of(error, Mapping))} A mapping file looks like\n{EXAMPLE}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise PermanentFailure(f"{name} is not YAML of whole characters, such as\n{EXAMPLE}") from error
    return mapping


EXAMPLE = """\
  columns:                    # our column: the file's column
    user_id: learner
    item_id: question
    completed_at: answered
    correct: right            # of scored items: score: points, and below max_scores: {q7: 4}
  values:                     # if right is not 0/1, true/false or empty
    correct: {right: true, wrong: false}
  time: {zone: Europe/Berlin} # if times have no zone"""


WIDE_EXAMPLE = 'columns: {user_id: learner} and wide: {items: "item_*"}'


def unknown_header(
    file: str,
    columns: Sequence[str],
    why: str,
    required: Sequence[str] = REQUIRED_COLUMNS,
    remedies: str = "",
) -> PermanentFailure:
    """The error that lists the file's columns and the missing ones, and shows how to write a mapping."""
    missing = [name for name in required if name not in {*columns}]
    is_log = "correct" in required
    alone = "one: its first line has no comma, semicolon or tab"  # it may be a line of any text
    example = EXAMPLE if is_log else "\n".join(["  columns:", *(f"    {name}: its name there" for name in required)])
    built_in = "; ".join(f"{name} ({text})" for name, text in presets().items())
    return PermanentFailure(
        f"{file}: {why}.\n"
        f"Columns of the file: {names_of(columns) if len(columns) > 1 else alone}\n"
        f"Required columns that are missing (our names): {', '.join(missing) or 'none'}\n"
        f"Write a mapping file (our column: the file's column) and give it with --mapping FILE.yaml:\n{example}"
        + (f"\nBuilt-in presets: {built_in}. A matrix with one column per item has {WIDE_EXAMPLE}" if is_log else "")
        + (f"\n{remedies}" if remedies else "")
    )
