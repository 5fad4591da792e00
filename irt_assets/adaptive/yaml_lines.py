"""Read YAML that people write, and name the lines that are wrong. Policies and blueprints have these parts."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from irt_psychometrics.adaptive import ItemLimit
from resources.failures import PermanentFailure

Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=0)]


class Part(BaseModel):
    """A part of a document. Unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Limits(Part):
    """The minimum and the maximum number of items of a group."""

    min: Count = 0
    max: Count | None = None

    @model_validator(mode="after")
    def _require_order(self) -> Self:
        if self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is larger than max {self.max}")
        return self


Document = TypeVar("Document", bound=Part)


def limits_of_groups(kind: str, limits: Mapping[str, Limits], bank: Mapping[str, Mapping[str, Any]]) -> list[ItemLimit]:
    """The limits for the library. `bank` has the `kind` of each item, which is its topic or format."""
    return [
        ItemLimit(f"{kind} {name}", tuple(item for item, own in bank.items() if own[kind] == name), own.min, own.max)
        for name, own in limits.items()
    ]


def read_yaml(text: str, model: type[Document], noun: str) -> Document:
    """Read a document from YAML. Raises PermanentFailure, which names the lines that are wrong."""
    try:
        tree, content = yaml.compose(text), yaml.safe_load(text)
        return model.model_validate(content if isinstance(content, dict) else {"": content})
    except yaml.YAMLError as error:
        raise PermanentFailure(f"this is not YAML: {error}") from None
    except ValidationError as error:
        faults = [f"line {_line(tree, fault['loc'])}: {_in_words(fault)}" for fault in error.errors()]
        raise PermanentFailure(f"the {noun} is not valid; " + "; ".join(faults)) from None


def _in_words(fault: Mapping[str, Any]) -> str:
    place = ".".join(map(str, fault["loc"]))
    reason = fault["msg"].removeprefix("Value error, ")
    return f"{place}: {reason}" if place else reason


def _line(node: yaml.Node | None, place: Sequence[Any]) -> int:
    """The line of the deepest part of `place` that the document has, from 1."""
    line = node.start_mark.line + 1 if node else 1
    for name in place:
        if isinstance(node, yaml.MappingNode):
            found = {key.value: (key, value) for key, value in node.value}.get(str(name))
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(name, int):
            node = node.value[name]
            line = node.start_mark.line + 1
    return line
