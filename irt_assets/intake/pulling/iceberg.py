"""An Iceberg table as a source; needs the extra `lake`.

The cursor is the snapshot. Of snapshots that only appended, the new files are read; what others changed is found by
comparing days.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cached_property, reduce
from itertools import takewhile
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog import load_catalog
from pyiceberg.expressions import AlwaysTrue, And, BooleanExpression, GreaterThanOrEqual, In, LessThan
from pyiceberg.table import DataScan, Table
from pyiceberg.table.snapshots import ancestors_of

from irt_assets.intake.cells import as_text
from irt_assets.intake.mapping import Binding, bind_attempts
from irt_assets.intake.pulling.clocks import Clock
from irt_assets.intake.pulling.rows import BATCH, Part, Read, Rows, Span, at_micros
from irt_assets.intake.pulling.sources_file import ICEBERG, PullSource
from irt_assets.intake.pulling.standing import Place
from resources.failures import TransientFailure


class IcebergRows(Rows):
    """The snapshot of a table that is its newest when it is opened."""

    has_times, notices_regrading = False, False

    def __init__(self, source: PullSource) -> None:
        self.source = source
        try:
            told = {name: value.get_secret_value() for name, value in source.catalog.items()}
            address = source.address.get_secret_value().removeprefix(ICEBERG)
            catalog = load_catalog(told.pop("name", source.name), uri=address, **told)
            self._table: Table = catalog.load_table(str(source.table))
        except Exception as error:  # noqa: BLE001 - each catalogue has errors of its own
            raise TransientFailure(f"{source.name}: the table cannot be read: {type(error).__name__}") from None
        self._snapshot = self._table.current_snapshot()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._table.catalog.close()

    @property
    def is_empty(self) -> bool:
        return self._snapshot is None

    @cached_property
    def binding(self) -> Binding:
        return bind_attempts(self.source.rules, self.source.name, self._table.schema().column_names)

    @cached_property
    def columns(self) -> dict[str, str]:
        return self.used({field.name: str(field.field_type) for field in self._table.schema().fields})

    @property
    def given(self) -> list[str]:
        return [*self.columns]

    @property
    def identity(self) -> list[str]:
        return [*self.columns]

    @cached_property
    def clock(self) -> Clock:
        type_ = self.columns[self.time_column]
        a_time = datetime(2000, 1, 1, tzinfo=UTC if "tz" in type_ else None) if type_.startswith("timestamp") else 1
        return self.clock_of_answers(a_time)

    def check_clocks(self) -> None:
        _ = self.clock

    def earlier(self, stood: Any, _cursor: Any, _by: timedelta) -> Any:
        return stood

    def span(self) -> Span:
        assert self._snapshot is not None
        first, last = None, None
        for micros in self._times(self._scan(Part(), [self.time_column])):
            low, high = micros.min(), micros.max()
            first, last = min(first or low, low), max(last or high, high)
        low, high = (None if one is None else at_micros(int(one)) for one in (first, last))
        return Span(low, high, self._snapshot.snapshot_id)

    @property
    def snapshot(self) -> Place:
        assert self._snapshot is not None
        return Place(self._snapshot.snapshot_id, "")

    def read(self, part: Part) -> Iterator[Read]:
        """All rows of a day, else those that were appended since the snapshot of `part.behind`, which stays the place
        until all of them are stored."""
        if part.start is not None or part.end is not None:
            batches = iter(self._scan(part, self.given).to_arrow_batch_reader())
        elif part.up_to is None and part.behind is not None and self._is_behind(part.behind.cursor):
            appended = self._table.incremental_append_scan(
                from_snapshot_id_exclusive=part.behind.cursor,
                to_snapshot_id_inclusive=self.snapshot.cursor,
                selected_fields=tuple(self.given),
            )
            batches = iter(appended.to_arrow_batch_reader())
        else:
            return  # no snapshot is committed late
        for batch in batches:
            for start in range(0, batch.num_rows, BATCH):
                yield Read(batch.slice(start, BATCH), part.behind or self.snapshot)

    @cached_property
    def _since(self) -> list[tuple[int, str]]:
        """The snapshots that led to this one, the newest first, and what each did."""
        ancestors = ancestors_of(self._snapshot, self._table.metadata)
        return [(one.snapshot_id, one.summary.operation.value if one.summary else "") for one in ancestors]

    def _is_behind(self, snapshot: int) -> bool:
        return any(one == snapshot for one, _ in self._since[1:])

    def rewritten_since(self, snapshot: int) -> bool:
        """Whether anything but appending has happened since, or may have."""
        done = takewhile(lambda one: one[0] != snapshot, self._since)
        return not self._is_behind(snapshot) or any(operation != "append" for _, operation in done)

    def count_days(self, bounds: Sequence[datetime]) -> list[int]:
        found = Counter[date]()
        for micros in self._times(self._scan(Part(start=bounds[0], end=bounds[-1]), [self.time_column])):
            days = pc.value_counts(pc.floor_temporal(pa.array(micros).cast(pa.timestamp("us")), unit="day"))
            found.update({one["values"].date(): one["counts"] for one in days.to_pylist()})
        return [found[begin.date()] for begin in bounds[:-1]]

    def present(self, ids: Sequence[str]) -> set[str]:
        names = self.binding.columns.get("attempt_id", ())
        if len(names) != 1 or not ids:
            return set()
        wanted: list[Any] = [int(one) for one in ids] if self.columns[names[0]] in ("int", "long") else list(ids)
        found = self._table.scan(In(names[0], wanted), selected_fields=names).to_arrow()
        return set(as_text(found[names[0]].combine_chunks(), names[0]).to_pylist())

    def _scan(self, part: Part, names: Iterable[str]) -> DataScan:
        conditions: list[BooleanExpression] = []
        if start := self.first_of(part):
            conditions.append(GreaterThanOrEqual(self.time_column, self._literal(start)))
        if part.end is not None:
            conditions.append(LessThan(self.time_column, self._literal(part.end)))
        return self._table.scan(reduce(And, conditions, AlwaysTrue()), selected_fields=tuple(names))

    def _literal(self, at: datetime) -> Any:
        theirs = self.clock.theirs(at)
        return theirs.isoformat() if isinstance(theirs, datetime) else theirs

    def _times(self, scan: DataScan) -> Iterator[Any]:
        """Microseconds since 1970 of the rows, batch by batch."""
        for batch in scan.to_arrow_batch_reader():
            if len(cells := batch.column(0).drop_null()):
                yield self.micros(cells, self.time_column, self.binding.mapping.time.unit)
