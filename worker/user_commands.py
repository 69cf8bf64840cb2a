"""The commands `cxr-worker user ...`: who may use the web pages.

Each change is written to the audit trail before it is made: what cannot be written is not done.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from worker.access.names import normalised
from worker.access.roles import Role
from worker.command_line import show
from worker.recorded import recorded, sessions_here

user = typer.Typer(no_args_is_help=True, help="Who may use the web pages.")

Name = Annotated[str, typer.Argument(metavar="NAME", parser=normalised, help="How they sign in.")]
FromStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input.")
]


@user.command("add")
def add(
    name: Name,
    role: Annotated[
        Role,
        typer.Option(
            case_sensitive=False,
            help="viewer looks; reader also says what is wrong; admin also requeues and looks "
            "after users.",
        ),
    ],
    password_stdin: FromStdin = False,
) -> None:
    """Add a user; the password is asked for twice and not shown."""
    from worker.access import users
    from worker.access.names import checked
    from worker.audit.messages import user_changed
    from worker.clock import local_time

    sessions, name = sessions_here(), checked(name)
    password = _password(from_stdin=password_stdin)
    with recorded(sessions, lambda by: user_changed(by, name, f"added as {role}")) as session:
        users.add(session, name, role, password, local_time())
    typer.echo(f"{name} may sign in as {role}.")


@user.command("list")
def list_() -> None:
    """List the users, with their roles and when they last signed in."""
    from rich.markup import escape
    from rich.table import Table

    from worker.access import users

    with sessions_here()() as session:
        found = users.list_users(session)
    table = Table("user", "role", "may sign in", "by", "last signed in", box=None, pad_edge=False)
    for each in found:
        last = f"{each.last_sign_in_at:%Y-%m-%d %H:%M} UTC" if each.last_sign_in_at else "never"
        by = "password" if each.subject is None else each.subject.partition(" ")[0]
        may = "yes" if each.enabled else "no"
        table.add_row(escape(each.name), each.role, may, escape(by), last)
    show(table if found else "There are no users.")


@user.command("password")
def password(name: Name, password_stdin: FromStdin = False) -> None:
    """Give a user another password; their sessions end."""
    from worker.access import users
    from worker.audit.messages import user_changed

    sessions = sessions_here()
    given = _password(from_stdin=password_stdin)
    with recorded(sessions, lambda by: user_changed(by, name, "got another password")) as session:
        users.set_password(session, name, given)
    typer.echo(f"{name} has another password.")


@user.command("role")
def role(
    name: Name,
    role: Annotated[
        Role, typer.Argument(metavar="ROLE", case_sensitive=False, help="What they may do.")
    ],
) -> None:
    """Give a user another role, from their next click on."""
    from worker.access import users
    from worker.audit.messages import role_changed

    sessions = sessions_here()
    with recorded(sessions, lambda by: role_changed(by, name, f"is {role} now")) as session:
        users.set_role(session, name, role)
    typer.echo(f"{name} is {role} now.")


@user.command("disable")
def disable(name: Name) -> None:
    """Keep a user out, from their next click on."""
    from worker.access import users
    from worker.audit.messages import user_changed

    with recorded(sessions_here(), lambda by: user_changed(by, name, "disabled")) as session:
        users.disable(session, name)
    typer.echo(f"{name} may no longer sign in.")


@user.command("enable")
def enable(name: Name) -> None:
    """Let a user in again."""
    from worker.access import users
    from worker.audit.messages import user_changed

    with recorded(sessions_here(), lambda by: user_changed(by, name, "enabled")) as session:
        users.enable(session, name)
    typer.echo(f"{name} may sign in again.")


def _password(*, from_stdin: bool) -> str:
    """Ask for a password twice, or read a line."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
