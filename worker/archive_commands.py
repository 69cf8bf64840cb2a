"""The commands `cxr-worker archive ...`: what is to be done with the archive's files by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from worker.command_line import begin
from worker.recorded import doing, writing_down

if TYPE_CHECKING:
    from worker.adopting import Fate

WARNING = """\
--also-removed: where a copy brought back files of images that were removed, or of a patient who was
erased, they are taken in with all others. Look first, without --apply, at what that would be.\
"""

archive = typer.Typer(no_args_is_help=True, help="The files of the archive.")


@archive.callback()
def _archive() -> None:
    """Keep `adopt` a command of its own: with one alone, its name would be left out."""


@archive.command("adopt")
def adopt(
    apply: Annotated[
        bool, typer.Option("--apply", help="Take them in now, and not only show them.")
    ] = False,
    also_removed: Annotated[
        bool,
        typer.Option(
            "--also-removed",
            help="Take in also what was removed or erased on purpose, or may have been.",
        ),
    ] = False,
) -> None:
    """Take in images that the archive has and the database does not know.

    For a database that was restored from before they came: each is entered as if it came now, and
    so assessed and reported. What is younger than a minute is left to the node that writes it, and
    what was removed on purpose as it is; in a bucket, all of a study that ever lost images.
    """
    from worker import adopting, composition, tasks
    from worker.desk import Bell
    from worker.reading import ArchiveAway
    from worker.states import JobKind

    if also_removed:
        typer.echo(WARNING, err=True)
    begin()
    desk = composition.desk()
    files: Counter[adopting.Fate] = Counter()
    studies: set[str] = set()
    try:
        with writing_down(doing("archive adopt")) as note:
            found = adopting.adopt(
                desk, write_down=note if apply else None, also_removed=also_removed
            )
            for each in found:
                files[each.fate] += 1
                if each.fate is adopting.Fate.ADOPTED:
                    studies.add(each.found.study_instance_uid)
                    typer.echo(each.found.path)
    except ArchiveAway as error:
        typer.echo(f"CXR_ARCHIVE cannot be looked through now: {error}", err=True)
        raise typer.Exit(1) from None
    _tell(files, len(studies), apply=apply)
    if apply and studies:
        tasks.announce(Bell(JobKind.CLASSIFY))


def _tell(files: Mapping[Fate, int], studies: int, *, apply: bool) -> None:
    from worker.adopting import Fate

    done = "taken in" if apply else "would be taken in, with --apply"
    typer.echo(f"{files.get(Fate.ADOPTED, 0)} images of {studies} studies {done}")
    for fate in Fate:
        if fate is not Fate.ADOPTED and files.get(fate):
            typer.echo(f"{files[fate]} files are left as they are: {fate}")
    if files.get(Fate.REMOVED):
        typer.echo("If they came after that, --also-removed takes them in; read its warning first")
