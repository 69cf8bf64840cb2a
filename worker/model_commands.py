"""The commands about the model: `model list`, `use`, `show`, `shadow` ..., and `drift`."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from worker.command_line import begin, given, show

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.drift import Window
    from worker.ledger.candidates import Artifact

Reason = Annotated[str, typer.Option(help="Why; kept with your name.")]
When = Annotated[datetime | None, typer.Option(help="Received since; local time.")]
Until = Annotated[datetime | None, typer.Option(help="Received before; local time.")]

WINDOW_DAYS, BASELINE_TIMES = 14, 4


def add_to(app: typer.Typer, model: typer.Typer) -> None:
    """Add the commands to the command line."""
    model.command("list")(list_)
    model.command("show")(show_one)
    for command in (use, shadow, compare, promote, rollback, history):
        model.command()(command)
    app.command(rich_help_panel="Operate")(drift)


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        typer.echo(line)


def _named(model: Artifact) -> str:
    return f"{model.name} {model.version}, digest {model.digest[:16]},"


# --- what is there ---------------------------------------------------------------------------


def list_() -> None:
    """List the versions in CXR_MODEL, the current one marked; a damaged one says what is wrong."""
    from model import registry
    from worker import composition, describing

    begin()
    show(describing.versions_table(registry.versions(composition.model_path())))


def use(
    version: Annotated[str, typer.Argument(help="A version, or the name of its folder.")],
) -> None:
    """Choose the version that answers. A worker that runs takes it up at its next batch."""
    from worker import composition, model_life

    begin()
    info = model_life.use(composition.model_path(), version, composition.load_classifier)
    typer.echo(f"{info.name} {info.version}, digest {info.digest[:16]}, answers from now on.")


def show_one(
    version: Annotated[
        str | None, typer.Argument(help="A version, or the name of its folder; else the current.")
    ] = None,
    output: Annotated[str, typer.Option("--format", help="table or json.")] = "table",
) -> None:
    """Show a model: name, version, digest, thresholds, validation figures."""
    import json

    from worker import composition, describing

    if output not in ("table", "json"):
        raise typer.BadParameter("is table or json", param_hint="--format")
    begin()
    info = composition.model_info(version)
    if output == "json":
        typer.echo(json.dumps(describing.model_record(info), indent=2))
    else:
        show(describing.model_table(info))


# --- steps -----------------------------------------------------------------------------------


def shadow(
    version: Annotated[
        str | None, typer.Argument(help="A version, or the name of its folder.")
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="Try no version any more.")] = False,
    reason: Annotated[str, typer.Option(help="Why; kept with your name.")] = "",
) -> None:
    """Try a version on what is received from now on: its answers are kept, and sent to nobody."""
    from worker import composition, model_life

    if (version is None) != off:
        raise typer.BadParameter("name a version, or say --off")
    begin()
    if version is None:
        ended = model_life.withdraw(reason.strip())
        typer.echo(f"{_named(ended)} is tried no more; `cxr-worker model compare` tells of it.")
        return
    found = model_life.shadow(
        composition.model_path(), version, composition.load_classifier, reason.strip()
    )
    typer.echo(f"{_named(found)} is tried from now on; `cxr-worker model compare` tells of it.")


def promote(reason: Reason) -> None:
    """Make the candidate the model that answers. A worker takes it up at its next batch."""
    from worker import composition, model_life

    why = given(reason)
    begin()
    found = model_life.promote(composition.model_path(), composition.load_classifier, why)
    typer.echo(f"{_named(found)} answers from now on; `cxr-worker model rollback` undoes that.")


def rollback(reason: Reason) -> None:
    """Return to the model that answered before the last promotion."""
    from worker import composition, model_life

    why = given(reason)
    begin()
    found = model_life.roll_back(composition.model_path(), composition.load_classifier, why)
    typer.echo(f"{_named(found)} answers again.")


def history(
    limit: Annotated[int, typer.Option(min=1, help="So many of the last steps.")] = 50,
) -> None:
    """List the steps in the life of models, the last one first: who, when, and why."""
    from worker import composition
    from worker.ledger.model_events import events

    begin()
    with composition.reading_sessions()() as session:
        found = events(session, limit)
    for each in found:
        why = f": {each.reason}" if each.reason else ""
        typer.echo(
            f"{each.at.astimezone():%Y-%m-%d %H:%M:%S}  {each.action:<11}  {each.name} "
            f"{each.version}  {each.digest[:16]}  by {each.person}{why}"
        )
    if not found:
        typer.echo("No step was recorded yet.")


# --- what a trial and a time say -------------------------------------------------------------


def compare() -> None:
    """Compare the candidate, or the last one, with the model in use."""
    from worker import composition, telling_models
    from worker.comparing import compare as compared

    begin()
    with composition.reading_sessions()() as session:
        found = compared(session)
    if found is None:
        typer.echo("There was no candidate yet: `cxr-worker model shadow` begins a trial.")
        return
    _say(telling_models.comparison_lines(found))


def drift(
    since: When = None,
    until: Until = None,
    baseline_since: When = None,
    baseline_until: Until = None,
    against_training: Annotated[
        bool,
        typer.Option("--against-training", help="Compare scores with the model's own figures."),
    ] = False,
) -> None:
    """Compare the images of a time with those of an earlier one, as the current model saw them.

    By default, the last 14 days with the 56 before. It knows what the database does: neither age
    nor sex, and of devices only what they call themselves.
    """
    from worker import composition, telling_models
    from worker.clock import local_time

    if against_training and (baseline_since or baseline_until):
        raise typer.BadParameter("has no baseline in time", param_hint="--against-training")
    begin()
    window, baseline = windows(local_time(), since, until, baseline_since, baseline_until)
    info = composition.model_info()
    with composition.reading_sessions()() as session:
        _say(telling_models.drift_of(session, info, window, None if against_training else baseline))


def windows(
    now: datetime,
    since: datetime | None = None,
    until: datetime | None = None,
    baseline_since: datetime | None = None,
    baseline_until: datetime | None = None,
) -> tuple[Window, Window]:
    """Give the time that is looked at and the one that it is compared with; local times.

    Raises
    ------
    typer.BadParameter
        When one ends before it begins, or both overlap.
    """
    from datetime import timedelta

    from worker.drift import Window

    end = (until or now).astimezone()
    begin = (since or end - timedelta(days=WINDOW_DAYS)).astimezone()
    last = (baseline_until or begin).astimezone()
    first = (baseline_since or last - BASELINE_TIMES * (end - begin)).astimezone()
    if begin >= end:
        raise typer.BadParameter("is not before --until", param_hint="--since")
    if first >= last:
        raise typer.BadParameter("is not before --baseline-until", param_hint="--baseline-since")
    if last > begin and first < end:
        raise typer.BadParameter("overlaps what is compared with it", param_hint="--baseline-until")
    return Window(begin, end), Window(first, last)
