"""The commands about what was given up: `dead-letters`, `requeue` and `discard`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from worker.command_line import begin, given
from worker.recorded import doing, writing_down


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("dead-letters", rich_help_panel="Operate")(dead_letters)
    app.command(rich_help_panel="Operate")(requeue)
    app.command(rich_help_panel="Operate")(discard)


def dead_letters(
    destination: Annotated[str | None, typer.Option(help="Only what is owed there.")] = None,
) -> None:
    """List work that was given up, with the reason."""
    from worker import composition, given_up

    begin()
    letters = given_up.dead_letters(composition.reading_sessions(), destination)
    for job, uid in letters:
        typer.echo(f"{uid}  {job.kind.lower()}  {job.destination or '-'}  {job.last_error}")
    if not letters:
        typer.echo("Nothing was given up.")


def requeue(
    study: Annotated[list[str] | None, typer.Argument(help="Study Instance UIDs.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every study with something given up.")
    ] = False,
    destination: Annotated[
        str | None, typer.Option(help="Every study whose delivery there was given up.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; kept with your name.")] = "",
) -> None:
    """Try what was given up again; a study with nothing given up is done anew."""
    from worker import composition, given_up, tasks

    if sum((bool(study), everything, destination is not None)) != 1:
        raise typer.BadParameter("name studies, or --all, or a --destination")
    begin()
    desk = composition.desk()
    if not study:
        study = given_up.studies_with(given_up.dead_letters(desk.sessions, destination))
    if destination is not None and not study:
        typer.echo(f"nothing was given up at {destination}", err=True)
        raise typer.Exit(1)
    with writing_down(doing("requeue")) as note:
        again = given_up.requeue(desk, study, reason, tasks.announce, given_up.who(), note)
        _tell(again, "{} jobs owed")


def discard(
    study: Annotated[list[str], typer.Argument(help="Study Instance UIDs.")],
    reason: Annotated[str, typer.Option(help="Why; kept with your name.")],
) -> None:
    """Do without what was given up of a study; who decided that, and why, is kept."""
    from worker import composition, given_up

    why = given(reason)
    begin()
    with writing_down(doing("discard")) as note:
        done = given_up.discard(composition.desk(), study, why, note)
        _tell(done, "{} dead letters discarded")


def _tell(done: Iterable[tuple[str, int | None]], words: str) -> None:
    """Say what became of each study; one that is not known is a failure."""
    unknown = 0
    for uid, count in done:
        typer.echo(f"{uid}: {'no such study' if count is None else words.format(count)}")
        unknown += count is None
    if unknown:
        raise typer.Exit(1)
