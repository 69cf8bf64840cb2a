"""The command line. Each command imports what it needs when it runs, so that --help is quick."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from dicom_node.errors import ConfigurationError, PacsWorkerError
from worker import given_up_commands, keeping, model_commands
from worker.archive_commands import archive as archive_files
from worker.command_line import begin, show
from worker.dataset_commands import dataset
from worker.lasting import lasting
from worker.states import StudyState
from worker.token_commands import token
from worker.user_commands import user

app = typer.Typer(
    name="cxr-worker",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Finds pneumonia on paediatric chest radiographs and reports it to the PACS.

A study comes in by C-STORE, is classified by a ResNet, and its Structured Report goes out to every
destination. For research use, not for primary diagnosis.

Try it:

    CXR_DESTINATIONS=PACS@192.0.2.7:104 cxr-worker up

    cxr-worker send radiograph.jpeg --to CXRWORKER@localhost:11112 --patient-age 003Y --view AP

    cxr-worker results

Settings come from the environment: `cxr-worker settings`. Something is wrong? `cxr-worker doctor`.
""",
)
db = typer.Typer(no_args_is_help=True, help="The results database.")
model = typer.Typer(no_args_is_help=True, help="The model that answers.")
# What `results` shows where no limit is said: all there ever was fills a screen, and memory.
SHOWN = 1000


def _start_role(stopped: threading.Event, role: str) -> Any:
    """Begin as all commands do, end with the supervisor, and wait for the database.

    Whoever asks meanwhile learns that; a worker cannot tell before its children are forked off.
    """
    from worker import composition, database, monitoring, tracing
    from worker import up as supervisor

    supervisor.die_with_parent()
    settings = begin(role)
    if role.startswith(("node", "web", "worker")):
        tracing.require(settings)
    if not role.startswith("worker"):
        monitoring.start(settings, role)
    database.wait_for_schema(composition.engine(), stopped, monitoring.beat)
    return settings


def _stop_event() -> threading.Event:
    """Give the event that SIGINT and SIGTERM set.

    A thread sets it, told by the interpreter's wake-up pipe. A handler would run in the main thread
    alone: not at all while that waits for the event, if the signal came just before the wait.

    References
    ----------
    Python, ``signal.set_wakeup_fd``
    """
    stopped = threading.Event()
    told, tell = os.pipe()

    def wait() -> None:
        os.read(told, 1)
        stopped.set()

    threading.Thread(target=wait, name="signals", daemon=True).start()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    return stopped


# --- roles -----------------------------------------------------------------------------------


@app.command(rich_help_panel="Run")
def up() -> None:
    """Run everything on this machine: node, relay, workers, and Redis if none is set.

    SQLite and Redis live in CXR_HOME unless CXR_DATABASE_URL and CXR_BROKER_URL name others. One
    Ctrl-C stops all.
    """
    with lasting():
        from worker import composition, database, tracing
        from worker import up as supervisor

    settings = begin("up")
    composition.model_info()
    composition.require_certificates()
    tracing.require(settings)
    if settings.database_url.startswith("sqlite") and database.is_older(composition.engine()):
        database.upgrade(settings.database_url)
    database.require_schema(composition.engine())
    composition.engine().dispose()
    plain = [f"{settings.bind}:{settings.port}"] if settings.plaintext else []
    secure = [] if settings.tls_port is None else [f"{settings.bind}:{settings.tls_port} with TLS"]
    where = f"{settings.ae_title}@{' and '.join(plain + secure)}"
    peers = ", ".join(str(each.peer) for each in settings.destinations)
    goes = peers or "nowhere: CXR_DESTINATIONS is not set"

    def tell() -> None:
        typer.echo(f"cxr-worker is ready: receives as {where}, reports go to {goes}. Ctrl-C stops.")
        if settings.web_port is not None:
            typer.echo(f"The worklist is at {settings.web_address}{_first_sign_in(settings)}")

    supervisor.run(settings, tell)
    typer.echo("cxr-worker has stopped.")


@app.command(rich_help_panel="Run")
def node() -> None:
    """Receive studies, and answer for them: Storage, Commitment and Query/Retrieve SCP."""
    with lasting():
        from worker import archiving, broker, composition, metrics, monitoring, tasks, tracing
        from worker import node as reception
        from worker import up as supervisor
        from worker.clock import clock_of
        from worker.counting import CountingWatch
        from worker.database import build_reading_sessions, build_sessions
        from worker.doorbell import Doorbell

    stopped = _stop_event()
    settings = _start_role(stopped, "node")
    tracing.start(settings, "node")
    engine, archive = composition.engine(), composition.archive()
    reading = build_reading_sessions(engine)
    archiving.wait_for_archive(archive, reading, stopped, monitoring.beat)
    if stopped.is_set():
        return
    doorbell = Doorbell(tasks.announce, holds=broker.holds_bells(settings))
    running = reception.start(
        settings, archive, build_sessions(engine), doorbell.ring, reading, clock_of(engine),
        CountingWatch(),
    )  # fmt: skip
    supervisor.mark_ready("node")
    monitoring.measure(metrics.ASSOCIATIONS, lambda: running.open_associations)
    while not stopped.wait(monitoring.TURN_S):
        if running.is_listening:
            monitoring.beat()
    running.shutdown(grace_s=10, finish_s=10)
    doorbell.stop()
    tracing.stop()


@app.command(rich_help_panel="Run")
def worker(
    queues: Annotated[str, typer.Option(help="gpu classifies; io reports and delivers.")] = (
        "gpu,io"
    ),
    concurrency: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes, one by default; for io alone threads, by default so many that "
            "destinations which hang hold up nothing else.",
        ),
    ] = None,
) -> None:
    """Classify, report and deliver: a Celery worker (`celery -A worker.tasks worker -Q gpu`).

    In one worker for both queues, classification waits for deliveries.
    """
    with lasting():
        from worker import composition, tasks

    names = [name.strip() for name in queues.split(",")]
    settings = _start_role(threading.Event(), tasks.role_of(names))
    if not set(names) <= {"gpu", "io"}:
        raise typer.BadParameter("the queues are gpu and io", param_hint="--queues")
    if "gpu" in names:
        composition.model_info()
    composition.engine().dispose()
    composition.engine.cache_clear()
    pool = "prefork" if "gpu" in names else "threads"
    if concurrency is None:
        concurrency = 1 if "gpu" in names else tasks.io_threads(settings)
    code = tasks.app.start([
        "--quiet", "worker", "--queues", ",".join(names), "--pool", pool,
        "--concurrency", str(concurrency), "--hostname", f"{'-'.join(names)}-{os.getpid()}@%h",
        "--loglevel", settings.log_level, "--without-gossip", "--without-mingle",
        "--without-heartbeat",
    ])  # fmt: skip
    raise typer.Exit(code or 0)


@app.command(rich_help_panel="Run")
def relay() -> None:
    """Announce due work that no message announced; remove what is not kept any more."""
    with lasting():
        from worker import composition, monitoring, retention, tasks
        from worker import relay as relaying
        from worker.gauges import Gauges

    stopped = _stop_event()
    settings = _start_role(stopped, "relay")
    if stopped.is_set():
        return
    desk = composition.desk()
    monitoring.collect(Gauges(settings, composition.reading_sessions(), desk.clock))
    # By itself: a slow disk must not hold up what is to be announced.
    threading.Thread(target=retention.run, args=(desk, stopped), name="retention").start()
    shadow = partial(relaying.announce_shadow, desk, tasks.announce_shadow, tasks.waiting)
    relaying.run(desk, tasks.announce, tasks.waiting, stopped, monitoring.beat, shadow)


@app.command(rich_help_panel="Run")
def web() -> None:
    """Show the worklist in the browser, on CXR_WEB_BIND and CXR_WEB_PORT."""
    with lasting():
        from worker import broker, composition, monitoring, tasks, tracing
        from worker import up as supervisor
        from worker.doorbell import Doorbell
        from worker.web import serving

    stopped = _stop_event()
    settings = _start_role(stopped, "web")
    tracing.start(settings, "web")
    if settings.web_port is None:
        raise ConfigurationError("CXR_WEB_PORT", "is off: there is nothing to serve")

    def ready() -> None:
        supervisor.mark_ready("web")
        if not supervisor.is_supervised():
            typer.echo(f"The worklist is at {settings.web_address}{_first_sign_in(settings)}")

    doorbell = Doorbell(tasks.announce, holds=broker.holds_bells(settings))
    if not stopped.is_set():
        serving.serve(
            composition.desk(), composition.reading_sessions(), composition.archive(),
            doorbell.ring, composition.model_info, ready, stopped, monitoring.beat,
        )  # fmt: skip
    doorbell.stop()
    tracing.stop()


def _first_sign_in(settings: Any) -> str:
    """Give the rest of the link for the first sign-in, while there is no administrator."""
    from worker.access.first import FirstToken

    token = FirstToken(settings.home).read()
    return f"sign-in?token={token}" if token else ""


@app.command(hidden=True)
def redis() -> None:
    """Run the embedded Redis of `up`."""
    from worker import composition, embedded
    from worker import up as supervisor

    supervisor.die_with_parent()
    embedded.run_server(composition.settings().redis_socket)


# --- people ----------------------------------------------------------------------------------


@app.command(rich_help_panel="Use")
def send(
    paths: Annotated[
        list[Path],
        typer.Argument(help="DICOM, JPEG or PNG files, or folders of them.", exists=True),
    ],
    to: Annotated[str, typer.Option(help="Where to: AET@host:port, or AET@host:port?tls=on.")],
    calling: Annotated[str, typer.Option(help="Our AE title.")] = "CXRSEND",
    patient_age: Annotated[
        str | None, typer.Option(help="Age for wrapped JPEG and PNG, such as 003Y or 018M.")
    ] = None,
    view: Annotated[
        str | None, typer.Option(help="View position for wrapped JPEG and PNG, such as AP.")
    ] = None,
    one_study: Annotated[
        bool, typer.Option("--one-study", help="Wrap all images into one study.")
    ] = False,
) -> None:
    """Send radiographs as a modality would.

    DICOM files go as they are; JPEG and PNG are wrapped into DX objects first, one study a file.
    """
    from worker import sending

    wrapping = sending.Wrapping(patient_age, view)
    if not sending.send_all(paths, to, calling, wrapping, one_study=one_study):
        raise typer.Exit(1)


@app.command(rich_help_panel="Use")
def results(
    study: Annotated[str | None, typer.Option(help="Study Instance UID.")] = None,
    accession: Annotated[str | None, typer.Option(help="Accession Number.")] = None,
    patient_id: Annotated[str | None, typer.Option(help="Patient ID.")] = None,
    state: Annotated[StudyState | None, typer.Option(case_sensitive=False)] = None,
    since: Annotated[datetime | None, typer.Option(help="Received since; local time.")] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=0, help=f"At most so many, the newest; 0 is all. Default: {SHOWN}."),
    ] = None,
    output: Annotated[str, typer.Option("--format", help="table, json or csv.")] = "table",
) -> None:
    """Show studies with their findings, newest first."""
    from worker import composition
    from worker import results as queries

    if output not in ("table", "json", "csv"):
        raise typer.BadParameter("is table, json or csv", param_hint="--format")
    begin()
    most = SHOWN if limit is None else limit
    with composition.reading_sessions()() as session:
        found = queries.find_studies(
            session, study=study, accession=accession, patient_id=patient_id, state=state,
            since=since and since.astimezone(), limit=most + 1 if most else None,
        )  # fmt: skip
        records = [queries.study_record(row) for row in found[: most or None]]
    if output == "table":
        show(queries.to_table(records) if records else "No study matches.")
    else:
        typer.echo(
            queries.to_json(records) if output == "json" else queries.to_csv(records).rstrip()
        )
    if limit is None and len(found) > most:  # who sets a limit knows that there may be more
        typer.echo(
            f"cxr-worker: more studies match; these are the newest {most}. --limit 0 shows all, "
            "--since and others narrow.",
            err=True,
        )


@app.command(rich_help_panel="Use")
def demo(
    images: Annotated[
        Path | None, typer.Option(help="Folder of JPEG, PNG or DICOM radiographs.", exists=True)
    ] = None,
    out: Annotated[Path, typer.Option(help="Where reports and pictures go.")] = Path("demo-out"),
) -> None:
    """Run the main job on real radiographs, against an embedded PACS stand-in."""
    from worker import demo as demonstration

    if not demonstration.run(images, out):
        raise typer.Exit(1)


@app.command(rich_help_panel="Operate")
def doctor() -> None:
    """Check everything the product stands on; say what is wrong and what to do."""
    from rich.console import Console

    from worker import doctor as examination

    settings = begin()
    console = Console(highlight=False)
    sick = 0
    for check in examination.examine(settings):
        mark = "[green]ok  [/]" if check.healthy else "[red]look[/]"
        console.print(f"{mark} [bold]{check.name}[/]: {check.found}", soft_wrap=True)
        if not check.healthy:
            console.print(f"     -> {check.advice}", soft_wrap=True)
            sick += 1
    if sick:
        raise typer.Exit(1)


@app.command(rich_help_panel="Operate")
def settings() -> None:
    """List all settings with their meaning and default."""
    from rich.console import Console
    from rich.table import Table

    from worker.settings import describe_settings
    from worker.settings_file import FILE_KEY

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("setting", "default", "meaning"):
        table.add_column(name, overflow="fold", no_wrap=name == "setting")
    for key, default, meaning in describe_settings():
        table.add_row(key, default, meaning)
    table.add_row(FILE_KEY, "./.env", "File with settings, .env or .toml; the environment wins.")
    Console().print(table)


@db.command("upgrade")
def db_upgrade(
    revision: Annotated[str, typer.Argument(help="Revision; head is the newest.")] = "head",
) -> None:
    """Bring the database to the schema that this version needs."""
    from worker import composition, database

    url = begin().database_url
    composition.engine().dispose()
    database.upgrade(url, revision)
    typer.echo(f"database is at revision {database.current_revision(composition.engine())}")


@db.command("downgrade")
def db_downgrade(
    revision: Annotated[str, typer.Argument(help="Revision to go back to; base drops all.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take the database back to an older schema. Back it up first."""
    from sqlalchemy import make_url

    from worker import composition, database

    url = begin().database_url
    if not yes:
        lost = (
            "every table with all that is in it"
            if revision == "base"
            else (f"what came into the schema after revision {revision}")
        )
        typer.echo(f"This drops {lost}, of {make_url(url).set(query={}).render_as_string()}.")
        typer.echo("Without a terminal to answer at, it takes --yes.")
        typer.confirm("Is it backed up, and to be dropped for good?", abort=True)
    database.downgrade(url, revision)
    typer.echo(f"database is at revision {database.current_revision(composition.engine())}")


# In the order in which they are shown.
given_up_commands.add_to(app)
keeping.add_to(app)
model_commands.add_to(app, model)
for name, group in (
    ("db", db), ("model", model), ("user", user), ("token", token), ("archive", archive_files),
    ("dataset", dataset),
):  # fmt: skip
    app.add_typer(group, name=name, rich_help_panel="Operate")


def _is_of_the_database(error: Exception) -> bool:
    from sqlalchemy.exc import OperationalError

    return isinstance(error, OperationalError)


def main() -> None:
    """Run the command line; what a person did wrong is one line, not a traceback."""
    try:
        app()
    except PacsWorkerError as error:
        sys.exit(f"cxr-worker: {error}")
    except Exception as error:
        if logging.getLogger().isEnabledFor(logging.DEBUG):
            raise
        words = " ".join(str(error).strip().splitlines()[:1])
        if _is_of_the_database(error):
            told = f"CXR_DATABASE_URL: the database does not answer: {words}"
        else:
            told = f"{type(error).__name__}: {words}"
        sys.exit(
            f"cxr-worker: {told}; `cxr-worker doctor` may know more, "
            "CXR_LOG_LEVEL=DEBUG shows where"
        )


if __name__ == "__main__":
    main()
