"""The commands about what is kept: `retention` and `erase`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.command_line import begin, given
from worker.recorded import writing_down

if TYPE_CHECKING:
    from worker.desk import Desk
    from worker.tables import Removal, Study

NOT_OURS = (
    "Not touched: what a PACS has received, back-ups, logs of other systems, and copies that "
    "people made."
)


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(rich_help_panel="Operate")(retention)
    app.command(rich_help_panel="Operate")(erase)


def _desk() -> Desk:
    from worker import composition

    begin()
    return composition.desk()


# --- retention -------------------------------------------------------------------------------


def retention(
    apply: Annotated[
        bool, typer.Option("--apply", help="Remove it now, and not only show it.")
    ] = False,
) -> None:
    """Show what is kept for how long, and what would go now; the relay removes that by itself.

    Nothing goes of a study that owes work, that is being received, or whose report has not come to
    its end. Files that no row names, and what is left of half-written ones, go only by --apply.
    """
    desk = _desk()
    _tell_policy(desk.settings)
    _tell_begun(desk, apply=apply)
    _tell_due(desk, apply=apply)
    _tell_room(desk, apply=apply)
    _tell_unnamed(desk, apply=apply)


def _tell_policy(settings: Any) -> None:
    for kind in ("images", "reports", "results"):
        days = getattr(settings, f"keep_{kind}_days")
        kept = "for ever" if days is None else f"for {days:g} days"
        typer.echo(f"{kind} are kept {kept} (CXR_KEEP_{kind.upper()}_DAYS)")
    limit = settings.archive_max_gb
    size = "without limit" if limit is None else f"up to {limit:g} GB"
    typer.echo(f"the archive grows {size} (CXR_ARCHIVE_MAX_GB)")


def _tell_begun(desk: Desk, *, apply: bool) -> None:
    from worker import retention as keeping

    count = keeping.Keeper(desk).finish_begun() if apply else keeping.begun(desk)
    if count:
        words = "were finished" if apply else "were begun and are to be finished"
        typer.echo(f"{count} removals {words}")


def _tell_due(desk: Desk, *, apply: bool) -> None:
    from worker import given_up
    from worker import retention as keeping

    for rule in keeping.rules(desk):
        count = 0
        for study_id in keeping.all_that_may_go(desk, rule):
            count += not apply or keeping.take(desk, rule, study_id, given_up.who()) is not None
        typer.echo(f"{rule.kind.lower()} of {count} studies {_words(apply)} for their age")


def _tell_room(desk: Desk, *, apply: bool) -> None:
    from worker import given_up
    from worker import retention as keeping
    from worker.measuring import GIGABYTE, measured

    used, limit = measured(desk), desk.settings.archive_max_gb
    typer.echo(f"the archive has {used / GIGABYTE:.2f} GB")
    if limit is None:
        return
    excess = used - int(limit * GIGABYTE)
    sizes = list(keeping.make_room(desk, excess, given_up.who(), apply=apply))
    freed = sum(sizes) / GIGABYTE
    typer.echo(f"images of {len(sizes)} studies {_words(apply)} for their space, {freed:.2f} GB")
    if sum(sizes) < excess:
        typer.echo("that is not enough, and nothing more may go")


def _words(apply: bool) -> str:
    return "removed" if apply else "would go"


def _tell_unnamed(desk: Desk, *, apply: bool) -> None:
    from worker import given_up, unnamed

    found = unnamed.find(desk)
    gone = unnamed.remove(desk, found, given_up.who()) if apply else list(found)
    size = sum(each.size for each in gone)
    typer.echo(f"{len(gone)} files that no row names {_words(apply)}, {size} bytes")
    left = desk.archive.remove_partial() if apply else sum(1 for _ in desk.archive.stale_partial())
    typer.echo(f"{left} half-written files {_words(apply)}")


# --- erase -----------------------------------------------------------------------------------


def erase(
    reason: Annotated[str, typer.Option(help="Why; kept with your name. Name no patient in it.")],
    patient_id: Annotated[str, typer.Option(help="All studies of this Patient ID.")] = "",
    study: Annotated[str, typer.Option(help="The study of this Study Instance UID.")] = "",
    even_if_owed: Annotated[
        bool, typer.Option("--even-if-owed", help="Discard what is still owed, too.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erase all that there is here of a patient or a study: files, rows, findings, reports.

    Who did it, when and why is kept in the table `removals`, with the Study Instance UID and no
    patient data. PACS and back-ups are not touched.
    """
    from worker import erasing

    if bool(patient_id) == bool(study):
        raise typer.BadParameter("name a --patient-id or a --study")
    why = given(reason)
    desk = _desk()
    found = erasing.find(desk, patient_id=patient_id, study=study)
    if not found:
        typer.echo("No study matches.")
        raise typer.Exit(1)
    owing = erasing.owing(desk, found)
    for each in found:
        owes = ", owes work" if each.study_instance_uid in owing else ""
        typer.echo(f"{each.study_instance_uid}  {each.state}{owes}")
    if not yes:
        typer.confirm(f"Erase {len(found)} studies for good?", abort=True)
    if not _erase(desk, found, why, even_if_owed=even_if_owed):
        raise typer.Exit(1)


def _erase(desk: Desk, studies: Iterable[Study], reason: str, *, even_if_owed: bool) -> bool:
    """Erase studies and say what came of it; tell whether all of it is done."""
    from worker import erasing, given_up
    from worker.audit.messages import study_deleted

    with writing_down(study_deleted) as note:
        done = erasing.erase(
            desk, list(studies), given_up.who(), reason, note, even_if_owed=even_if_owed
        )
        whole = _tell_erased(done)
    typer.echo(NOT_OURS)
    return whole


def _tell_erased(done: Iterable[tuple[str, list[Removal] | None, str]]) -> bool:
    """Say what came of each study; tell whether all of it is done."""
    whole = True
    for uid, erased, why in done:
        if erased is None:
            typer.echo(f"{uid}: owes work; wait, or use --even-if-owed")
        elif why:
            typer.echo(f"{uid}: promised no longer, but its files cannot be removed now: {why}; "
                       "the relay removes them when it can")  # fmt: skip
        else:
            counts = ", ".join(f"{each.count} {each.kind.lower()}" for each in erased)
            typer.echo(f"{uid}: erased: {counts or 'nothing was left'}")
        whole &= erased is not None and not why
    return whole
