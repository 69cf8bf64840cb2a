"""The commands `cxr-worker token ...`: what programs ask the REST API with.

Each change is written to the audit trail before it is made: what cannot be written is not done.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from worker.access.names import normalised
from worker.command_line import show
from worker.recorded import recorded, sessions_here

if TYPE_CHECKING:
    from datetime import datetime

token = typer.Typer(no_args_is_help=True, help="What programs ask the REST API with.")

_LONGEST_DAYS = 3650


@token.command("add")
def add(
    name: Annotated[
        str, typer.Argument(metavar="NAME", parser=normalised, help="In whose name: a user.")
    ],
    label: Annotated[str, typer.Option(help="What it is for, such as the program's name.")],
    days: Annotated[
        int, typer.Option(min=1, max=_LONGEST_DAYS, help="For how long it is taken.")
    ] = 365,
) -> None:
    """Make a token, and print it this once; who has it may do what the user may do by then."""
    from worker.access import tokens
    from worker.audit.messages import user_changed
    from worker.clock import local_time

    sessions = sessions_here()
    what = f"got a token for {days} days: {label.strip()}"
    with recorded(sessions, lambda by: user_changed(by, name, what)) as session:
        made = tokens.add(session, name, label, local_time(), timedelta(days=days))
    typer.echo(made)
    typer.echo(f"{name} has a token; keep it now, it is not shown again.", err=True)


@token.command("list")
def list_() -> None:
    """List the tokens: whose they are, what for, and when they were last used."""
    from rich.markup import escape
    from rich.table import Table

    from worker.access import tokens

    with sessions_here()() as session:
        found = tokens.list_tokens(session)
    columns = ("id", "user", "label", "made", "last used", "ends")
    table = Table(*columns, box=None, pad_edge=False)
    for each, name in found:
        used = _day(each.last_used_at) if each.last_used_at else "never"
        words = (str(each.id), name, each.label, _day(each.created_at), used, _day(each.expires_at))
        table.add_row(*map(escape, words))
    show(table if found else "There are no tokens.")


@token.command("revoke")
def revoke(
    number: Annotated[int, typer.Argument(metavar="ID", help="As `cxr-worker token list` has it.")],
) -> None:
    """End a token, from the next request on."""
    from worker.access import tokens
    from worker.audit.messages import user_changed

    ended: list[tuple[str, str]] = []
    told = "lost the token: "
    sessions = sessions_here()
    with recorded(
        sessions, lambda by: user_changed(by, ended[0][0], told + ended[0][1])
    ) as session:
        ended.append(tokens.revoke(session, number))
    typer.echo(f"The token {ended[0][1]} of {ended[0][0]} is no longer taken.")


def _day(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
