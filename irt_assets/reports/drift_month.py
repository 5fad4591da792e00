"""Render the drift reports of a month for every scale, name their files, and store them in the object store."""

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

from irt_assets.blocks import html, pdf, word
from irt_assets.common.partitions import Month, month_of
from irt_assets.gates.month_status import month_states
from irt_assets.ledger.origin_fit import origin_windows
from irt_assets.reports import drift_report
from irt_assets.reports.artifacts import Artifact, Format, store_report
from irt_assets.reports.drift_facts import gather
from irt_assets.scales.scale import named_scale, read_scales
from resources.failures import PermanentFailure
from resources.files.object_store import ObjectStore, key_part
from resources.postgres.database import Database, first_column

UNITS_FOLDER = (
    "A unit of systemd may write there once install.sh has been run again, which puts ReadWritePaths= into "
    "irt-report.service.d/report-output-dir.conf"
)


@dataclass(frozen=True)
class DriftReport:
    """The report on a month of a scale as HTML, as PDF and for Word.

    Attributes:
        only_scale: whether the bank has no other scale.
        problem: why there are no PDF and no Word file; "" if there are.
    """

    month: str
    scale_id: str
    only_scale: bool
    verdict: drift_report.ReleaseVerdict
    made_at: datetime
    files: dict[Format, bytes]
    problem: str = ""

    def file_names(self, window: int, extension: Format) -> tuple[str, str]:
        """Return the required name, in which `window` 1 is the newest month, and a name with the month itself.

        Both end with the scale if the bank has several.
        """
        scale = "" if self.only_scale else f"_{key_part(self.scale_id)}"
        return (
            f"drift_window_{window}_{self.made_at:%Y%m%d_%H%M%S}{scale}.{extension}",
            f"drift_{self.month}{scale}.{extension}",
        )


def windows(database: Database) -> list[str]:
    """Return the months with a snapshot and the last month of each origin window, newest first: window 1, 2, …"""
    with database.connect() as connection:
        months = first_column(connection, "SELECT DISTINCT month FROM scored_snapshot")
        origins = origin_windows(connection).values()
    return sorted({*months, *(month_of(end - timedelta(microseconds=1)) for _, end in origins)}, reverse=True)


def make_reports(
    database: Database, store: ObjectStore, instance: dg.DagsterInstance, month: str, scale_id: str | None = None
) -> Iterator[DriftReport]:
    """Yield the report on the month for every scale, or for the scale `scale_id`.

    The report lists missing parts (a fit, a month before, a test). Raises PermanentFailure if the scale does
    not exist.
    """
    states = {state.scale_id: state for state in month_states(database, instance, [month])}
    with database.connect() as connection:
        scales = read_scales(connection, Month(month).start)
    for scale in scales.values() if scale_id is None else [named_scale(scales, scale_id)]:
        with database.connect() as connection:
            facts = gather(connection, store, month, scale, states[scale.scale_id])
        made_at = datetime.now(UTC)
        document = drift_report.document(facts, made_at, database.settings.dashboard_url)
        files: dict[Format, bytes] = {"html": html.page(document).encode()}
        problem = ""
        try:
            files |= {"pdf": pdf.typeset(document), "docx": word.write_docx(document)}
        except PermanentFailure as error:
            problem = str(error)
        verdict = drift_report.verdict(facts)
        yield DriftReport(month, scale.scale_id, len(scales) == 1, verdict, made_at, files, problem)


def store_files(database: Database, store: ObjectStore, report: DriftReport) -> list[Artifact]:
    """Put the files into the store under new names, and record them instead of the files of an earlier run.

    `irt prune` deletes files that are no longer recorded, unless somebody has decided on the month. If there are no
    new PDF and Word file, the records of the earlier ones are deleted, because they are out of date.
    """
    window = f"{report.month}/{report.scale_id}"
    if report.problem:
        with database.connect() as connection:
            connection.execute("""DELETE FROM report_file WHERE "window" = %s AND format <> 'html'""", (window,))
    name = f"reports/drift/{report.month}/{key_part(report.scale_id)}_{report.made_at:%Y%m%d_%H%M%S}"
    return [
        store_report(
            database,
            store,
            f"{name}.{extension}",
            data,
            format=extension,
            window=window,
        )
        for extension, data in report.files.items()
    ]


def stored_uris(database: Database, month: str) -> list[str]:
    """Return the URIs of the month's reports in the store: by scale, then by format."""
    with database.connect() as connection:
        return first_column(
            connection,
            """SELECT url FROM report_file WHERE starts_with("window", %s) ORDER BY "window", format""",
            (f"{month}/",),
        )


def write_files(report: DriftReport, folder: Path, window: int) -> list[Path]:
    """Write the files under both of their names into `folder`, which is created if it is missing.

    Returns their paths. Raises PermanentFailure if a file cannot be written.
    """
    paths = []
    for extension, data in report.files.items():
        for name in report.file_names(window, extension):
            path = folder / name
            try:
                folder.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            except OSError as error:
                in_a_unit = f". {UNITS_FOLDER}" if error.errno == errno.EROFS else ""
                owner = f", or run chown -R {os.geteuid()} {folder}" if error.errno == errno.EACCES else ""
                raise PermanentFailure(
                    f"{path} cannot be written ({error.strerror}): choose another folder with --out or "
                    f"REPORT_OUTPUT_DIR{owner}{in_a_unit}"
                ) from error
            paths.append(path)
    return paths
