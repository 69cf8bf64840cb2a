"""The command line: teaching help, one line for a mistake, never a traceback."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from model import artifact
from tests.ledgers import PACS, VIEWER, Desk
from tests.unit.model.artifacts import write_plain
from worker import __main__ as main_module
from worker import composition, database, given_up, ledger
from worker.__main__ import app, main
from worker.settings import describe_settings
from worker.states import JobKind
from worker.tables import Decision

COMMANDS = (
    "up", "node", "worker", "relay", "send", "results", "demo", "doctor", "requeue",
    "discard", "dead-letters", "retention", "erase", "settings", "db upgrade", "db downgrade",
    "model list", "model show", "model use", "user add", "user list", "user password", "user role",
    "user disable", "user enable", "token add", "token list", "token revoke", "web",
    "dataset export", "archive adopt",
    "dataset export", "drift", "model shadow", "model compare", "model promote",
    "model rollback", "model history",
)  # fmt: skip
run = CliRunner().invoke


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Each test is a process of its own, as far as settings and engines go."""
    built = (
        composition.settings, composition.engine, composition.archive, composition.desk,
        composition.answering, composition.trying,
    )  # fmt: skip
    monkeypatch.setenv("CXR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    # The signals of the process that runs the tests are not ours to block.
    monkeypatch.setattr(main_module, "_stop_event", threading.Event)
    monkeypatch.chdir(tmp_path)
    for each in built:
        each.cache_clear()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    for each in built:
        each.cache_clear()


@pytest.fixture
def desk() -> Desk:
    """The ledger of the home that the commands see."""
    database.upgrade(composition.settings().database_url)
    return Desk(database.build_sessions(composition.engine()))


def command(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a real process."""
    return subprocess.run(
        [sys.executable, "-m", "worker", *words], env=os.environ | environ, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip


def mistake(monkeypatch: pytest.MonkeyPatch, *words: str, **environ: str) -> str:
    """Run a command that must end with a line for a person, and give that line."""
    for key, value in environ.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(sys, "argv", ["cxr-worker", *words])
    with pytest.raises(SystemExit) as caught:
        main()
    line = caught.value.code
    assert isinstance(line, str), "which makes Python print it and exit with 1"
    assert len(line.splitlines()) == 1
    return line


def names(group: typer.main.Typer) -> set[str]:
    click = typer.main.get_command(group)
    found = set()
    for name, sub in click.commands.items():  # type: ignore[attr-defined]
        below = getattr(sub, "commands", None)
        found |= {f"{name} {each}" for each in below} if below else {name}
    return found


# --- help ------------------------------------------------------------------------------------


def test_every_command_is_tested_here() -> None:
    assert names(app) - {"redis"} == set(COMMANDS)


@pytest.mark.parametrize(
    "words", ["", "db", "model", "user", "token", "dataset", "archive", *COMMANDS]
)
def test_help_is_under_every_command(words: str) -> None:
    done = run(app, [*words.split(), "--help"])
    assert done.exit_code == 0, done.output
    assert "Usage" in done.output
    assert len(done.output.splitlines()) > 5


def test_the_first_help_teaches_the_main_job() -> None:
    text = run(app, ["--help"]).output
    for word in ("cxr-worker up", "cxr-worker send", "cxr-worker results", "doctor", "research"):
        assert word in text


def test_no_command_at_all_shows_the_help() -> None:
    assert "Usage" in run(app, []).output


def test_help_is_quick_because_it_imports_little() -> None:
    code = "import sys, worker.__main__; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for heavy in ("tensorflow", "keras", "highdicom", "celery", "sqlalchemy", "pynetdicom"):
        assert f"'{heavy}'" not in done.stdout


# --- mistakes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", ["up", "node", "worker", "relay", "results", "doctor", "db upgrade", "dead-letters"]
)
def test_a_wrong_setting_stops_every_command_with_one_line_that_names_it(
    monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    line = mistake(monkeypatch, *words.split(), CXR_PORT="99999")
    assert line.startswith("cxr-worker: CXR_PORT: ")


def test_a_wrong_setting_is_all_that_a_process_prints() -> None:
    done = command("up", CXR_PORT="99999")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "CXR_PORT" in done.stderr
    assert done.stdout == ""


def test_a_database_that_is_not_there_is_one_line_without_the_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = "postgresql+psycopg://user:hunter2@127.0.0.1:1/cxr"
    line = mistake(monkeypatch, "results", CXR_DATABASE_URL=url)
    assert line.startswith("cxr-worker: CXR_DATABASE_URL: the database does not answer")
    assert "hunter2" not in line
    assert "doctor" in line


def test_a_database_that_cannot_be_made_is_one_line_that_names_the_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    url = f"sqlite:///{tmp_path / 'file' / 'home' / 'cxr.sqlite3'}"
    line = mistake(monkeypatch, "db", "upgrade", CXR_DATABASE_URL=url)
    assert line.startswith("cxr-worker: CXR_DATABASE_URL: ")
    assert "see CXR_HOME" in line


def test_a_revision_that_there_is_not_is_one_line(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = mistake(monkeypatch, "db", "downgrade", "nonsense", "--yes")
    assert line.startswith("cxr-worker: CXR_DATABASE_URL: ")
    assert "this version knows revisions 0001 to" in line


@pytest.mark.parametrize("words", ["results", "dead-letters", "requeue 1.2.3", "requeue --all"])
def test_a_database_without_schema_is_one_line_with_the_command_to_run(
    monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    assert "cxr-worker db upgrade" in mistake(monkeypatch, *words.split())


@pytest.mark.parametrize("words", ["up", "worker", "model show", "model list", "model use 1.0"])
def test_a_missing_model_is_one_line_that_names_the_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, desk: Desk, words: str
) -> None:
    composition.settings.cache_clear()
    line = mistake(monkeypatch, *words.split(), CXR_MODEL=str(tmp_path))
    assert line.startswith("cxr-worker: CXR_MODEL: ")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["send", "nothing.dcm", "--to", "A@h:1"], "nothing.dcm"),
        (["results", "--format", "xml"], "--format"),
        (["results", "--state", "LOST"], "--state"),
        (["results", "--since", "yesterday"], "--since"),
        (["worker", "--queues", "gpu,cpu"], "--queues"),
        (["worker", "--concurrency", "0"], "--concurrency"),
        (["nonsense"], "nonsense"),
    ],
)
def test_a_wrong_word_is_told(desk: Desk, words: list[str], told: str) -> None:
    done = run(app, words)
    assert done.exit_code == 2
    assert told in done.output


def test_sending_to_nobody_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("L", (64, 64)).save(path)
    line = mistake(monkeypatch, "send", str(path), "--to", "PACS@127.0.0.1:1")
    assert "nothing listens" in line


# --- commands --------------------------------------------------------------------------------


def test_settings_lists_every_key() -> None:
    text = run(app, ["settings"]).output
    for key, _, _ in describe_settings():
        assert key in text
    assert "CXR_SETTINGS" in text


def test_a_database_is_made_and_taken_away() -> None:
    head = database.head_revision()
    assert f"revision {head}" in run(app, ["db", "upgrade"]).output
    assert f"revision {head}" in run(app, ["db", "upgrade"]).output
    assert run(app, ["results"]).output.strip() == "No study matches."
    assert "revision None" in run(app, ["db", "downgrade", "base", "--yes"]).output


@pytest.mark.parametrize("answer", ["", "n\n"])
def test_no_table_is_dropped_unless_a_person_says_so(desk: Desk, answer: str) -> None:
    desk.receive("1.2.3", patient_id="P", accession_number="A")
    done = run(app, ["db", "downgrade", "base"], input=answer)
    assert done.exit_code == 1
    assert "every table" in done.output
    assert "--yes" in done.output
    assert "1.2.3" in run(app, ["results", "--format", "json"]).output


def test_tables_are_dropped_when_a_person_says_yes() -> None:
    run(app, ["db", "upgrade"])
    assert "revision None" in run(app, ["db", "downgrade", "base"], input="y\n").output


def test_results_come_as_json_csv_and_table(desk: Desk) -> None:
    desk.receive("1.2.3", patient_id="[bold]P", accession_number="A")
    (record,) = json.loads(run(app, ["results", "--format", "json"]).output)
    assert (record["study_instance_uid"], record["patient_id"]) == ("1.2.3", "[bold]P")
    lines = run(app, ["results", "--format", "csv"]).output.strip().splitlines()
    assert lines[0].startswith("study_instance_uid,")
    assert lines[1].startswith("1.2.3,A,[bold]P,")
    assert "[bold]P" in run(app, ["results"]).output


def test_results_are_filtered(desk: Desk) -> None:
    for number in "12":
        desk.receive(f"1.2.{number}", patient_id=f"P{number}", accession_number=f"A{number}")

    def uids(*words: str) -> list[str]:
        done = run(app, ["results", "--format", "json", *words])
        return [record["study_instance_uid"] for record in json.loads(done.output)]

    assert uids("--patient-id", "P1") == ["1.2.1"]
    assert uids("--accession", "A2") == ["1.2.2"]
    assert uids("--study", "1.2.1") == ["1.2.1"]
    assert uids("--state", "receiving") == ["1.2.2", "1.2.1"]
    assert uids("--state", "FAILED") == []
    assert uids("--since", "2026-11-22") == ["1.2.2", "1.2.1"]
    assert uids("--since", "2026-11-25T00:00:00") == []
    assert uids("--limit", "1") == ["1.2.2"]


@pytest.fixture
def many(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """More studies than are shown where no limit is said."""
    monkeypatch.setattr(main_module, "SHOWN", 2)
    for number in "123":
        desk.receive(f"1.2.{number}", accession_number=f"A{int(number) % 2}")
    return desk


@pytest.mark.parametrize("words", [[], ["--format", "json"], ["--format", "csv"]])
def test_results_without_a_limit_are_the_newest_and_it_is_said_that_there_are_more(
    many: Desk, words: list[str]
) -> None:
    done = run(app, ["results", *words])
    assert done.exit_code == 0
    assert [f"1.2.{number}" in done.stdout for number in "123"] == [False, True, True]
    (line,) = done.stderr.splitlines()
    assert "the newest 2" in line
    assert "--limit 0" in line
    if "json" in words:
        assert len(json.loads(done.stdout)) == 2


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["--limit", "0"], 3),
        (["--limit", "1"], 1),
        (["--limit", "3"], 3),
        (["--accession", "A1"], 2),
    ],
)
def test_nothing_is_said_of_more_where_all_is_shown_or_a_limit_is_set(
    many: Desk, words: list[str], count: int
) -> None:
    done = run(app, ["results", "--format", "json", *words])
    assert len(json.loads(done.stdout)) == count
    assert done.stderr == ""


def test_the_limit_that_is_there_by_itself_is_in_the_help() -> None:
    assert f"Default: {main_module.SHOWN}." in run(app, ["results", "--help"]).output


@pytest.mark.parametrize("form", ["json", "csv", "table"])
def test_who_reads_results_and_has_enough_is_no_mistake_with_a_traceback(
    desk: Desk, form: str
) -> None:
    desk.receive("1.2.3")
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "worker", "results", "--format", form], stdout=closed,
            stderr=subprocess.PIPE, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert done.stderr == ""


def test_json_of_no_study_is_an_empty_list(desk: Desk) -> None:
    assert json.loads(run(app, ["results", "--format", "json"]).output) == []


def test_certificates_that_cannot_be_used_stop_up_with_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = ("CXR_TLS_CERTIFICATE", "CXR_TLS_KEY", "CXR_TLS_AUTHORITY")
    told = mistake(monkeypatch, "up", **dict.fromkeys(files, "gone.pem"))
    assert told.startswith("cxr-worker: CXR_TLS_AUTHORITY: ")
    assert "gone.pem cannot be read" in told


def test_dead_letters_are_listed_with_their_reason(desk: Desk) -> None:
    assert "Nothing was given up." in run(app, ["dead-letters"]).output
    study = desk.ready()
    desk.do(ledger.bury, desk.claim_report(), "2 patients")
    (line,) = run(app, ["dead-letters"]).output.splitlines()
    assert line.split() == [study, "report", "-", "2", "patients"]


def test_requeuing_works_though_the_broker_is_away(desk: Desk) -> None:
    study = desk.ready()
    desk.do(ledger.bury, desk.claim_report(), "broken")
    done = run(app, ["requeue", study])
    assert done.exit_code == 0, done.output
    assert f"{study}: 1 jobs owed" in done.output
    assert desk.states() == {"REPORT": "DUE"}


def test_requeuing_an_unknown_study_fails(desk: Desk) -> None:
    done = run(app, ["requeue", "1.2.3"])
    assert done.exit_code == 1
    assert "1.2.3: no such study" in done.output


def refused(desk: Desk, *destinations: str) -> str:
    """A study whose report every destination has refused."""
    study = desk.ready()
    desk.report(*destinations)
    for destination in destinations:
        (claim,) = desk.claim(JobKind.DELIVER, destination=destination)
        desk.do(ledger.save_failed_delivery, claim, 0xC000, "no", None)
    return study


def test_what_a_destination_has_refused_is_requeued_at_once_when_it_was_mended(desk: Desk) -> None:
    at_pacs, elsewhere = [refused(desk, PACS) for _ in range(2)], refused(desk, VIEWER)
    letters = run(app, ["dead-letters", "--destination", PACS]).output
    assert [line.split()[0] for line in letters.splitlines()] == at_pacs
    done = run(app, ["requeue", "--destination", PACS, "--reason", "AE title allowed"])
    assert done.exit_code == 0, done.output
    assert [desk.study_state(study) for study in at_pacs] == ["REPORTED"] * 2
    assert desk.study_state(elsewhere) == "FAILED"
    assert {row.reason for row in desk.all(Decision)} == {"AE title allowed"}
    assert run(app, ["requeue", "--all"]).exit_code == 0
    assert desk.study_state(elsewhere) == "REPORTED"


@pytest.mark.usefixtures("desk")
def test_requeue_says_so_when_nothing_was_given_up_at_a_destination() -> None:
    done = run(app, ["requeue", "--destination", "FOO@h:1"])
    assert done.exit_code == 1
    assert "nothing was given up at FOO@h:1" in done.output


@pytest.mark.parametrize("words", [[], ["1.2", "--all"], ["--all", "--destination", PACS]])
def test_requeue_wants_to_be_told_what(words: list[str]) -> None:
    done = run(app, ["requeue", *words])
    assert done.exit_code == 2
    assert "name studies, or --all, or a --destination" in done.output


def test_a_dead_letter_is_discarded_with_a_reason_and_a_name(desk: Desk) -> None:
    study = refused(desk, PACS)
    done = run(app, ["discard", study, "--reason", "a phantom"])
    assert done.output == f"{study}: 1 dead letters discarded\n"
    assert "Nothing was given up." in run(app, ["dead-letters"]).output
    (row,) = desk.all(Decision)
    assert (row.action, row.reason, row.person) == ("DISCARDED", "a phantom", given_up.who())
    assert run(app, ["discard", study, "--reason", "again"]).output == (
        f"{study}: 0 dead letters discarded\n"
    )
    assert run(app, ["requeue", study]).exit_code == 0
    lines = composition.settings().audit_path.read_text().splitlines()
    assert [said(line) for line in lines] == [(study, "discard"), (study, "requeue")]


def said(line: str) -> tuple[str, str]:
    """Give the study of an audit message, and what was done about it."""
    (study,) = re.findall(r'ParticipantObjectID="([0-9.]+)"', line)
    (what,) = re.findall(r'type="Action" value="([^"]+)"', line)
    return study, b64decode(what).decode()


@pytest.mark.parametrize("words", [["1.2.3"], ["1.2.3", "--reason", " "]])
def test_nothing_is_discarded_without_a_reason(words: list[str]) -> None:
    done = run(app, ["discard", *words])
    assert done.exit_code == 2
    assert "--reason" in done.output


def test_discarding_of_an_unknown_study_fails(desk: Desk) -> None:
    done = run(app, ["discard", "1.2.3", "--reason", "typo"])
    assert done.exit_code == 1
    assert "1.2.3: no such study" in done.output


def test_doctor_fails_while_something_is_to_be_done(desk: Desk) -> None:
    done = run(app, ["doctor"])
    assert done.exit_code == 1
    assert "CXR_DESTINATIONS" in done.output


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Two versions of which the first is current, and a damaged one."""
    folder = tmp_path / "models"
    for version in ("1.0.0", "1.1.0", "2.0.0"):
        write_plain(folder / f"m-{version}", version)
    (folder / "m-2.0.0" / artifact.WEIGHTS).write_bytes(b"damaged")
    (folder / artifact.CURRENT).write_text("m-1.0.0\n")
    monkeypatch.setenv("CXR_MODEL", str(folder))
    return folder


def test_model_versions_are_listed_with_a_mark_and_what_is_damaged(models: Path) -> None:
    rows = [line.split() for line in run(app, ["model", "list"]).output.splitlines()]
    digest = artifact.describe(models / "m-1.0.0")["digest"][:12]
    assert rows[0] == ["version", "name", "digest", "AUC", "folder"]
    assert rows[1] == ["*", "1.0.0", "cxr-tiny", digest, "0.9100", "m-1.0.0"]
    assert rows[2][0] == "1.1.0"
    assert rows[3][:2] == ["-", "damaged:"]


def test_any_version_is_shown(models: Path) -> None:
    def shown(*words: str) -> str:
        done = run(app, ["model", "show", *words, "--format", "json"])
        return str(json.loads(done.output)["version"])

    assert (shown(), shown("1.1.0"), shown("m-1.1.0")) == ("1.0.0", "1.1.0", "1.1.0")


def test_a_version_is_chosen(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Path] = []
    monkeypatch.setattr(composition, "load_classifier", built.append)
    done = run(app, ["model", "use", "1.1.0"])
    assert done.exit_code == 0, done.output
    assert "cxr-tiny 1.1.0" in done.output
    assert built == [models / "m-1.1.0"]
    assert (models / artifact.CURRENT).read_text() == "m-1.1.0\n"


@pytest.mark.parametrize(
    ("version", "told"),
    [("3.0", "3.0 is not among m-1.0.0"), ("m-2.0.0", "digest"), ("1.1.0", "cannot be built")],
)
def test_a_version_that_cannot_answer_is_not_chosen(
    models: Path, monkeypatch: pytest.MonkeyPatch, version: str, told: str
) -> None:
    """The last has a network that Keras cannot read."""
    line = mistake(monkeypatch, "model", "use", version, CXR_ENGINE="tensorflow")
    assert told in line
    assert (models / artifact.CURRENT).read_text() == "m-1.0.0\n"


# --- stopping --------------------------------------------------------------------------------

WAITER = """
import signal, sys, threading
from worker.__main__ import _stop_event
stopped = _stop_event()
print("waiting", flush=True)
stopped.wait()
print("stopped")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_role_at_whatever_moment_it_comes(number: int) -> None:
    """A handler that came just before the wait for it would be heard after that wait."""
    several = [
        subprocess.Popen([sys.executable, "-c", WAITER], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in several:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(number)
        assert process.communicate(timeout=30)[0] == "stopped\n"
        assert process.returncode == 0
