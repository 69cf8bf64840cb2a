"""The commands `cxr-worker dataset ...`: what a model learns from."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.command_line import begin, show
from worker.recorded import by_whom

if TYPE_CHECKING:
    from worker.exporting import Export, Plan

dataset = typer.Typer(no_args_is_help=True, help="Images with labels, to train a model on.")

LABELS = ("NORMAL", "PNEUMONIA", "BACTERIAL", "VIRAL")
PARTS = ("train", "val", "test")


@dataset.callback()
def group() -> None:
    """Images with labels, to train a model on."""


@dataset.command("export")
def export(
    verdicts: Annotated[
        Path, typer.Option(help="Write what readers say into this new or empty folder.")
    ],
    since: Annotated[
        datetime | None, typer.Option(help="Only images judged since; local time.")
    ] = None,
    readers: Annotated[
        int, typer.Option(min=1, help="At least so many readers say what an image shows.")
    ] = 1,
    with_uids: Annotated[
        bool,
        typer.Option("--with-uids", help="Name SOP Instance UIDs in manifest.csv: they identify."),
    ] = False,
) -> None:
    """Write images that readers have labelled by their verdicts, for `python model/train.py`.

    Of each reader the last verdict on an image counts. What they contradict each other about, or
    are unsure of, is left out and counted. No patient is in two of train, val and test, nor moves
    from one to another with the next export. The export is written to the audit trail.
    """
    from worker import composition, exporting

    begin()
    desk = composition.desk()
    judged_since = since.astimezone() if since else datetime(1970, 1, 1, tzinfo=UTC)
    planned = exporting.plan(desk, judged_since, readers)
    exporting.require_empty(verdicts)
    _record(planned)
    done = exporting.write(desk, planned, verdicts, with_uids=with_uids)
    _tell(done, verdicts)


def _record(planned: Plan) -> None:
    """Write down what leaves, before it does."""
    from worker.audit.messages import exported

    with by_whom() as (trail, person):
        what = "cxr-worker dataset export --verdicts"
        trail.record(*exported(person, planned.studies(), what))


def _tell(done: Export, folder: Path) -> None:
    from rich.table import Table

    table = Table("part", *(label.lower() for label in LABELS), box=None, pad_edge=False)
    for part in PARTS:
        table.add_row(part, *(str(done.written[part, label]) for label in LABELS))
    show(table)
    for why, count in sorted(done.left_out.items()):
        if count:
            typer.echo(f"left out: {count}, as {why}")
    trained = {label != "NORMAL" for part, label in done.written if part == "train"}
    if trained == {True, False}:
        typer.echo(f"next: python model/train.py --data {folder} --out runs/mine")
    else:
        typer.echo("train has not both normal and pneumonia yet: more verdicts are needed")
