"""Files of answers as a mapping describes them, in the form in which the library's commands read answers.

The mapping is bound and the cells are cleaned as in an import; the library scores them.
"""

from collections.abc import Callable, Iterator, Mapping as Map, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.common.wording import some_of
from irt_assets.intake.cells import encode
from irt_assets.intake.clean import Columns, replace_by_item, replace_texts
from irt_assets.intake.library_files import open_rows
from irt_assets.intake.mapping import bind_attempts, encoding_of, load_mapping
from irt_assets.intake.matrix import item_columns
from irt_assets.intake.readers import open_source
from irt_assets.intake.scoring import AsGiven, ByKey, key_in_one_order, keys_of_scores
from irt_psychometrics.cells import Cells, MaxScores
from irt_psychometrics.commands import Batch as LibraryBatch, Files

PERSON, ITEM, SCORE = "person", "item", "score"
"""Columns of a list, by the library's names; a matrix has the first and the items."""


@dataclass(frozen=True, kw_only=True)
class MappedFiles(Files):
    """Reader of a command's files that reads answers by a mapping.

    Attributes:
        mapping: the name of a preset, a file, or "auto".
        progress: function that takes the number of rows read, and their total.
    """

    mapping: str
    progress: Callable[[int, int | None], None] = lambda _done, _rows: None

    def answers(
        self,
        path: Path,
        key: Map[str, Map[str, int]] | None = None,
        max_scores: MaxScores | None = None,
        *,
        missing: Map[str, Sequence[str]] | None = None,
        denominator: int = 1,
        groups: str | None = None,
        **options: Any,
    ) -> Any:
        """Read answers as `Files.answers` does, with the keys, maximum scores and denominator of the mapping.

        Raises PermanentFailure if the mapping does not fit the file.
        """
        given = load_mapping(self.mapping)
        source = open_source(path, encoding_of(None, given), given)
        binding = bind_attempts(given, str(path), source.columns).with_null_values(missing or {})
        rules, columns = binding.mapping, Columns(binding)
        key = key or {item: {option: 1} for item, option in key_in_one_order(rules.keys).items()} or None
        most = max_scores or MaxScores()
        most = MaxScores(most.by_item, {**rules.max_scores, **most.by_pattern})
        notes, items, texts = [], [ITEM, SCORE], dict[str, str]()
        if rules.wide:
            scoring = AsGiven(most) if key is None else ByKey(keys_of_scores(str(path), key, equal=False))
            found = item_columns(binding, source.batches(), scoring)
            items, aside = found.items, [f"{name} ({why})" if why else name for name, why in found.aside.items()]
            most = MaxScores({item: most[item] for item in items})
            notes += [f"{path}: left out by the mapping {rules.name}: {some_of(aside, 10)}"] if aside else []
            texts = {} if key is None else rules.wide.responses
        if key is None and (rules.wide.responses if rules.wide else "response" in binding.columns):
            notes.append(f"{path}: the choices beside the scores are used only with a key: --key FILE (item,key)")
        others = [groups] if groups in source.columns else []
        is_choice = key is not None and "response" in binding.columns

        def cells_of(rows: pa.RecordBatch) -> dict[str, pa.Array]:
            ours = {"user_id": columns.our_column(rows, "user_id")}
            if rules.wide:
                given = {name: columns.cells(rows, texts.get(name, name), "correct") for name in items}
                cells = {name: replace_texts(own, rules.item_values.get(name, {})) for name, own in given.items()}
            else:
                ours |= {name: columns.our_column(rows, name) for name in ("item_id", "correct", "score", "response")}
                replace_by_item(rules, ours)
                score = ours["response"] if is_choice else pc.coalesce(ours["score"], ours["correct"])
                cells = {ITEM: ours["item_id"], SCORE: score}
            return {PERSON: ours["user_id"], **cells, **{name: columns.cells(rows, name) for name in others}}

        def batches() -> Iterator[LibraryBatch]:
            done = 0
            for batch in source.batches():
                used = np.ones(len(batch.lines), dtype=bool)
                for _, is_skipped in columns.skipped(batch.rows):
                    used &= ~np.asarray(is_skipped)
                cells = cells_of(batch.rows.filter(pa.array(used)))
                bad = [(bad.line, bad.value) for bad in batch.bad]
                yield LibraryBatch(batch.lines[used], partial(_column, cells), bad)
                done += len(batch.lines)
                self.progress(done, max(done, source.rows))

        def read(other: Path) -> tuple[Sequence[str], Callable[[], Iterator[LibraryBatch]]]:
            return ([PERSON, *items, *others], batches) if other == path else open_rows(other)

        options |= {"missing": missing, "denominator": max(rules.denominator, denominator), "groups": groups}
        answers = Files(read).answers(path, key, most, **options)
        return replace(answers, notes=(*notes, *answers.notes))


def _column(cells: Map[str, pa.Array], name: str, _ids: bool) -> Cells:
    return encode(cells[name])
