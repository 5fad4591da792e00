"""Assemble forms from a bank in a file, by the same blueprint as from the published values, without a database."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from irt_assets.adaptive.blueprint import Blueprint, in_order
from irt_assets.common.wording import join_names, some_of
from irt_assets.intake.library_files import FILES
from irt_psychometrics.adaptive import ItemPosterior
from irt_psychometrics.assembly import assemble
from irt_psychometrics.commands import FileResult
from resources.failures import PermanentFailure

DESCRIBED = {"topic": ("topic", "topic_id"), "format": ("format",), "testlet": ("testlet", "testlet_id")}
"""Fact about an item → its columns in a table of items."""


def assemble_from_file(path: Path, blueprint: Blueprint) -> FileResult:
    """Assemble the forms of a blueprint from the items of a file.

    Items have the errors of the file. If an item lacks errors, all items get the errors of 500 answers. Raises
    PermanentFailure if a rule needs stored forms or answers, or names an item that the file does not have.
    """
    if blueprint.max_exposure is not None or (blueprint.anchors and blueprint.anchors.form):
        raise PermanentFailure(
            "max_exposure and anchors.form need stored answers and forms: leave them out, or use `irt forms assemble`"
        )
    bank, questions = _read_bank(path, [*blueprint.columns])
    if unknown := sorted(blueprint.items.difference(questions)):
        raise PermanentFailure(f"the blueprint names items that {path} does not have: {some_of(unknown, 5)}")
    left_out = {"items that the blueprint excludes": blueprint.excluded} if blueprint.excluded else {}
    design = blueprint.design(questions, bank.mean, left_out=left_out)
    with_errors = bool(bank.errors_known.all())
    posterior = ItemPosterior.from_items(bank.with_errors(bank.item_ids, known=with_errors))
    found = assemble(bank, design, posterior=posterior, time_limit=blueprint.seconds)
    rows = [
        {"form": name, "place": place, "item": item} | {fact: questions.get(item, {}).get(fact) for fact in DESCRIBED}
        for name, items in zip(blueprint.names, found.forms, strict=True)
        for place, item in blueprint.places(in_order(items, questions)).items()
    ]
    facts = {
        f"information of {name} at θ = {theta:g}": f"{value:.2f}"
        for name, values in zip(blueprint.names, found.information, strict=True)
        for theta, value in zip(found.theta, values, strict=True)
    } | {rule: ", ".join(f"{number:g}" for number in numbers) for rule, numbers in found.rules}
    notes = [f"The objective is proven within {found.gap:.1%} of the best."]
    if not with_errors:
        notes.append(f"{path.name} lacks standard errors: the errors that 500 answers would leave are assumed.")
    columns = {name: [row[name] for row in rows] for name in ("form", "place", "item", *DESCRIBED)}
    return FileResult(f"Forms by blueprint {blueprint.name}", columns, {"place": ""}, facts, notes)


def _read_bank(path: Path, numbers: Sequence[str]) -> tuple[Any, dict[str, dict[str, Any]]]:
    """Return the parameters, and topic, format, testlet and the `numbers` in meta of each item.

    A fit.json has only parameters. Raises PermanentFailure if an item of a table has no such number.
    """
    described = {*chain(*DESCRIBED.values()), *numbers}

    def read_parameters(file: Path) -> Any:
        columns, rows = FILES.read(file)
        return [name for name in columns if name not in described], rows

    bank = replace(FILES, read=read_parameters).parameters(path)
    table = FILES.open_table(path)
    rows = {row[str(table.item)]: row for _, row in table.rows()} if table.item else {}
    questions: dict[str, dict[str, Any]] = {}
    for item in bank.item_ids:
        row = rows.get(item, {})
        questions[item] = {fact: next(filter(None, map(row.get, x)), None) for fact, x in DESCRIBED.items()}
        try:
            questions[item]["meta"] = {name: float(row.get(name, "")) for name in numbers}
        except ValueError:
            raise PermanentFailure(f"{path}: item {item} must have a number in {join_names(numbers)}") from None
    return bank, questions
