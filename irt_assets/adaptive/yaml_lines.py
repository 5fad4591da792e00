"""Rules that people write in YAML, with errors that name the lines. Policies and blueprints are made of these parts."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from irt_assets.common.wording import did_you_mean, fault_message
from irt_assets.intake.clean import MAX_ID_LENGTH
from irt_psychometrics.adaptive import ItemLimit
from resources.failures import PermanentFailure

MAX_COUNT = 10_000
"""Largest number of items that a rule may contain: more than any bank that tests are assembled from."""
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
"""Characters that PostgreSQL does not store: NUL, and half of a surrogate pair."""


def _require_short_name(name: str) -> str:
    if len(name.encode()) > MAX_ID_LENGTH:
        raise ValueError(f"must have at most {MAX_ID_LENGTH} bytes in UTF-8, got {len(name.encode()):,}")
    return name


Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Name = Annotated[str, Field(min_length=1), AfterValidator(_require_short_name)]
"""Name of a test or form, which exam services send as an id."""


class Part(BaseModel):
    """A part of a document. Unknown names, infinity and NaN are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Limits(Part):
    """The minimum and the maximum number of items of a group."""

    min: Count = 0
    max: Count | None = None

    @model_validator(mode="after")
    def _require_order(self) -> Self:
        if self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is larger than max {self.max}")
        return self


class ContentRules(Part):
    """A document with rules on the content.

    Attributes:
        topics, formats: limits by `topic_id`, and by the format in `meta` of a question.
        enemies: groups of items of which a test or form has at most one, besides the enemies in `meta`.
    """

    scale: str = "default"
    topics: Mapping[str, Limits] = {}
    formats: Mapping[str, Limits] = {}
    enemies: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def from_yaml(cls, text: str | bytes) -> Self:
        """Read a document. Raises PermanentFailure, which names the lines that are wrong."""
        tree, content = _load(text)
        try:
            return cls.model_validate(content if isinstance(content, dict) else {"": content})
        except ValidationError as error:
            faults = [
                f"line {_line(tree, fault['loc'])}: {'.'.join(map(str, fault['loc'])) or 'rules'}: "
                + fault_message(fault, cls.model_json_schema)
                for fault in error.errors()
            ]
            raise PermanentFailure(f"the {cls.__name__.lower()} is not valid; {'; '.join(faults)}") from None

    def limits(self, bank: Mapping[str, Mapping[str, Any]]) -> Iterator[ItemLimit]:
        """Yield the limits for the library. `bank` has `topic`, `format` and, if any, `enemies` of each item.

        Raises PermanentFailure for a minimum of a misspelt topic or format.
        """
        for kind, limits in (("topic", self.topics), ("format", self.formats)):
            groups = [f"{kind} {own[kind]}" for own in bank.values()]
            by_group = {f"{kind} {name}": (own.min, own.max) for name, own in limits.items()}
            for limit in ItemLimit.of_groups(groups, [*bank], by_group):
                if limit.least and not limit.items and (hint := did_you_mean(limit.name, set(groups))):
                    raise PermanentFailure(f"no item in use has {limit.name}; {hint}")
                yield limit
        pairs = {tuple(sorted((item, enemy))) for item, own in bank.items() for enemy in own.get("enemies") or ()}
        for group in (*self.enemies, *sorted(pair for pair in pairs if bank.keys() >= {*pair})):
            yield ItemLimit(f"enemies {', '.join(group)}", tuple(item for item in group if item in bank), 0, 1)


def _load(text: str | bytes) -> tuple[yaml.Node | None, Any]:
    """Return the nodes and the content of a YAML document. Raises PermanentFailure if a database cannot store it."""
    try:
        for token in yaml.scan(text):
            if isinstance(token, yaml.ScalarToken) and UNSTORABLE.search(token.value):
                raise PermanentFailure(
                    f"line {token.start_mark.line + 1}: text must not contain NUL or half of a surrogate pair, got "
                    f"{token.value[:40]!a}"
                )
        return yaml.compose(text), yaml.safe_load(text)
    except RecursionError:
        raise PermanentFailure("this is not YAML of rules: it is nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or a number that Python cannot represent
        raise PermanentFailure(f"this is not YAML: {error}") from None


def items_by_testlet(bank: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """The items of each testlet. `bank` has `testlet` of each item."""
    names = dict.fromkeys(own["testlet"] for own in bank.values() if own["testlet"] is not None)
    return {name: tuple(item for item, own in bank.items() if own["testlet"] == name) for name in names}


def _line(node: yaml.Node | None, place: Sequence[Any]) -> int:
    """The line of the deepest part of `place` that the document has, from 1."""
    start = node
    for name in map(str, place):
        if isinstance(node, yaml.MappingNode):
            parts = {key.value: (key, value) for key, value in node.value}
        else:
            parts = {str(k): (value, value) for k, value in enumerate(getattr(node, "value", ()))}
        if name not in parts:
            break
        start, node = parts[name]
    return start.start_mark.line + 1 if start else 1
