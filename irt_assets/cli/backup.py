"""The commands `irt backup` and `irt restore`.

Exit codes: 0 done; 1 files are missing, or the restored database differs; 2 nothing was backed up or restored.
"""

from typing import Annotated

import typer

from irt_assets.backup import make, places
from irt_assets.backup.restore import restore_backup
from irt_assets.cli.console import AsJson, exit_with_failure, print_error, print_json, say
from irt_assets.cli.installation import current_database, current_settings, current_store, unchecked_database
from irt_assets.common.wording import join_names, quantity

app = typer.Typer()
MAX_NAMED = 3
MAX_DIFFERENCES = 10


@app.command(epilog="Example: irt backup --out s3://exam-backups/irt")
def backup(
    out: Annotated[
        str | None,
        typer.Option(
            help="Folder, or s3://BUCKET/PREFIX. Default: `backups` in S3_BUCKET or, without a bucket, in IRT_HOME."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Back up the database, with a list of the files that it refers to."""
    settings, database = current_settings(), current_database()
    place = places.place_at(settings, out) if out else places.default_place(settings)
    made = make.make_backup(settings, database, current_store(database), place)
    if as_json:
        print_json(
            {
                "address": made.address,
                "seconds": round(made.seconds, 1),
                "bytes": made.size,
                "missing": made.missing,
                "removed": made.removed,
                "manifest": made.manifest.model_dump(mode="json"),
            }
        )
    else:
        answers = made.manifest.contents.tables.get("response_log", 0)
        say(f"{made.address}: {made.size / 2**20:,.1f} MB with {answers:,} answers, in {made.seconds:,.1f} s")
        say(
            f"it lists {made.manifest.objects:,} files ({made.manifest.object_bytes / 2**20:,.1f} MB) "
            "without their content"
        )
        if made.removed:
            say(f"removed {quantity(len(made.removed), 'older backup')}, the newest stay")
    if made.missing:
        print_error(
            "warning: ",
            f"{quantity(len(made.missing), 'file')} that the database cites cannot be found: "
            f"{join_names(made.missing, MAX_NAMED)}: `irt invariants run` shows the remedy",
        )


@app.command(epilog="Example: irt restore /mnt/backups/irt-20261121T053000Z --verify")
def restore(
    address: Annotated[str, typer.Argument(metavar="BACKUP", help="Folder or s3:// address of the backup.")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Also read every listed file and evaluate the invariants.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Restore a backup into an empty database, and compare the two."""
    settings = current_settings()
    place, name = places.backup_at(settings, address)
    restored = restore_backup(settings, unchecked_database(), place, name, verify=verify)
    if as_json:
        print_json(
            {
                "seconds": round(restored.seconds, 1),
                "verified": verify,
                "notes": restored.notes,
                "differences": restored.differences,
                "contents": restored.manifest.contents.model_dump(),
            }
        )
    else:
        say(*restored.notes)
        for difference in restored.differences[:MAX_DIFFERENCES]:
            print_error("differs: ", difference)
        if len(restored.differences) > MAX_DIFFERENCES:
            print_error("differs: ", f"… and {len(restored.differences) - MAX_DIFFERENCES} more (--json has all)")
        rows = restored.manifest.contents.tables.get("response_log", 0)
        ledger = restored.manifest.contents.tables.get("item_parameter_publication", 0)
        contents = f"{rows:,} answers and {ledger:,} publications of {restored.manifest.made_at:%Y-%m-%d %H:%M} UTC"
        end = "; the copy equals the backup" if verify and not restored.differences else ""
        say(f"restored {contents} in {restored.seconds:,.1f} s{end}")
    exit_with_failure(restored.differences)
