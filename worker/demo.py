"""The main job on real radiographs: modality, cxr-worker and a PACS stand-in on one machine."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dicom_node.errors import ConfigurationError, PacsWorkerError
from dicom_node.peer import Peer
from worker import sending

PACS = "DEMOPACS"
MODALITY = "DEMOMODALITY"
START_S = 180
REPORT_S = 120
STOP_S = 60
MARK = ".cxr-worker-demo"

# Real CR objects of the PyPI package pydicom-data, with what they show.
SAMPLES = {
    "RG1_UNCR.dcm": "adult chest (RG1)",
    "RG3_J2KR.dcm": "extremity (RG3)",
}


@dataclass
class DemoStudy:
    """One study on its way through the demo; times are of time.monotonic()."""

    label: str
    paths: list[Path]
    study_instance_uid: str = ""
    sources: dict[str, Path] = field(default_factory=dict)  # by SOP Instance UID
    refused: str = ""
    sent_at: float = 0.0


class PacsStandIn:
    """A Storage SCP for reports that keeps them as files and notes when they came."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.arrived: dict[str, float] = {}
        self.files: dict[str, list[Path]] = {}
        self._changed = threading.Condition()

    @contextmanager
    def listening(self) -> Iterator[Peer]:
        """Listen on a free port of the loopback interface."""
        from pynetdicom import AE, evt

        from dicom_node.contexts import REPORT_SOP_CLASSES, VERIFICATION

        entity = AE(PACS)
        for uid in (VERIFICATION, *REPORT_SOP_CLASSES):
            entity.add_supported_context(uid)
        server = entity.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        try:
            yield Peer(PACS, "127.0.0.1", server.server_address[1])
        finally:
            server.shutdown()

    def _store(self, event: Any) -> int:
        ds = event.dataset
        path = self.folder / f"{ds.SOPInstanceUID}.dcm"
        path.write_bytes(event.encoded_dataset())
        with self._changed:
            self.arrived[ds.StudyInstanceUID] = time.monotonic()
            self.files.setdefault(ds.StudyInstanceUID, []).append(path)
            self._changed.notify_all()
        return 0x0000

    def wait_for(self, uids: set[str], timeout_s: float) -> None:
        """Wait until a report has come for each study, or the time is up."""
        with self._changed:
            self._changed.wait_for(lambda: uids <= self.arrived.keys(), timeout_s)


def run(images: Path | None, out: Path) -> bool:
    """Run the demo; leave reports and pictures in `out`; tell whether each study has a report."""
    console = Console(highlight=False, soft_wrap=True)
    studies = _studies(images)
    _make_room(out)
    home = Path(tempfile.mkdtemp(prefix="cxr-demo-"))
    pacs = PacsStandIn(out)
    try:
        with pacs.listening() as peer, _running(home, peer, out / "cxr-worker.log") as (node, env):
            console.print(f"sending {len(studies)} studies to {node}, reports go to {peer}")
            for study in studies:
                _send(study, node)
            sent = {s.study_instance_uid for s in studies if not s.refused}
            pacs.wait_for(sent, REPORT_S + 2 * len(sent))
            records = {r["study_instance_uid"]: r for r in _results(env)}
    finally:
        shutil.rmtree(home, ignore_errors=True)
    _present(console, studies, records, pacs, out)
    _list_sources(studies, out / "studies.csv")
    missing = [s for s in studies if s.study_instance_uid not in pacs.arrived]
    console.print(f"reports, pictures, the log and the list of files are in {out}/")
    if missing:
        console.print(f"[bold red]{len(missing)} of {len(studies)} studies have no report[/]")
    return not missing


def _make_room(out: Path) -> None:
    """Empty the folder of an earlier demo; one that holds anything else is left alone.

    Raises
    ------
    ConfigurationError
        When it holds anything else.
    """
    if out.exists() and any(out.iterdir()):
        if not (out / MARK).is_file():
            raise ConfigurationError("--out", f"{out} is not empty and not of an earlier demo")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).write_text("Made by `cxr-worker demo`, which empties this folder each time.\n")


def _studies(images: Path | None) -> list[DemoStudy]:
    if images is None:
        return [DemoStudy(label, [_sample(name)]) for name, label in SAMPLES.items()]
    files = sending.find_files([images])
    groups = sending.studies(files, sending.Wrapping(), lambda _: None)
    if not groups:
        raise ConfigurationError("IMAGES", f"{images} holds no JPEG, PNG or DICOM file")
    return [DemoStudy(f"study-{i:03}", group) for i, group in enumerate(groups, 1)]


def _sample(name: str) -> Path:
    from pydicom.data import get_testdata_file

    path = get_testdata_file(name, download=False)
    if path is None:
        raise ConfigurationError("IMAGES", "is not given and pydicom-data is not installed")
    return Path(str(path))


@contextmanager
def _running(home: Path, pacs: Peer, log: Path) -> Iterator[tuple[Peer, dict[str, str]]]:
    """Run `cxr-worker up` with everything in `home`; stop it as Ctrl-C does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {k: v for k, v in os.environ.items() if not k.startswith(("CXR_DATABASE", "CXR_BROKER"))}
    env |= {
        "CXR_HOME": str(home), "CXR_BIND": "127.0.0.1", "CXR_PORT": str(port),
        "CXR_DESTINATIONS": str(pacs), "CXR_AE_TITLE": "CXRWORKER", "CXR_ARCHIVE_RESERVE_MB": "0",
        "CXR_ARCHIVE": str(home / "archive"), "CXR_ALLOWED_AE_TITLES": "",
    }  # fmt: skip
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "worker", "up"], env=env, stdout=subprocess.PIPE, stderr=errors
        )
        try:
            _wait_until_ready(process, log)
            yield Peer("CXRWORKER", "127.0.0.1", port), env
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    timer = threading.Timer(START_S, process.kill)
    timer.start()
    assert process.stdout is not None  # it is a pipe
    try:
        if not any(b"is ready" in line for line in process.stdout):
            last = log.read_text(errors="replace").strip().splitlines()[-1:]
            raise PacsWorkerError(
                f"cxr-worker did not start: {' '.join(last) or 'see ' + str(log)}"
            )
    finally:
        timer.cancel()


def _send(study: DemoStudy, node: Peer) -> None:
    from dicom_node.status import is_success

    try:
        outgoing = list(sending.instances(study.paths, sending.Wrapping()))
        for path, instance in zip(study.paths, outgoing, strict=True):
            study.study_instance_uid, sop_instance_uid = _uids(instance)
            study.sources[sop_instance_uid] = path

        def note(answer: Any) -> None:
            study.sent_at = time.monotonic()
            if not is_success(answer.status):
                study.refused = answer.words

        sending.send_study(outgoing, node, MODALITY, note)
    except PacsWorkerError as error:
        study.refused = str(error)


def _uids(instance: Any) -> tuple[str, str]:
    from pydicom import dcmread

    ds = dcmread(instance, stop_before_pixels=True) if isinstance(instance, Path) else instance
    return str(ds.get("StudyInstanceUID", "")), str(ds.get("SOPInstanceUID", ""))


def _results(env: dict[str, str]) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "worker", "results", "--format", "json"]
    done = subprocess.run(  # noqa: S603  our own command
        command, env=env, capture_output=True, check=True
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def _list_sources(studies: Sequence[DemoStudy], path: Path) -> None:
    """Say which file each study came from; apart from the table, as names of files may identify."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["number", "study", "file"])
        for number, study in enumerate(studies, 1):
            writer.writerows([f"{number:03}", study.label, source] for source in study.paths)


def _present(
    console: Console,
    studies: Sequence[DemoStudy],
    records: dict[str, dict[str, Any]],
    pacs: PacsStandIn,
    out: Path,
) -> None:
    """Print the table; name reports and draw pictures by study label."""
    from worker.picture import draw

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, justify in (
        ("study", "left"), ("assessed", "left"), ("P(pneumonia)", "right"), ("finding", "left"),
        ("seconds", "right"),
    ):  # fmt: skip
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for number, study in enumerate(studies, 1):
        record = records.get(study.study_instance_uid)
        arrived = pacs.arrived.get(study.study_instance_uid)
        seconds = "no report" if arrived is None else f"{arrived - study.sent_at:.2f}"
        for report in pacs.files.get(study.study_instance_uid, []):
            report.rename(out / f"{number:03}-report-{report.stem[-8:]}.dcm")
        if record is None:
            table.add_row(study.label, study.refused or "not received", "", "", seconds)
            continue
        for index, instance in enumerate(record["instances"]):
            source = study.sources[instance["sop_instance_uid"]]
            draw(source, instance, out / f"{number:03}-{index + 1}.png")
            probability = instance["probabilities"].get("pneumonia")
            table.add_row(
                study.label if index == 0 else "",
                "yes" if instance["assessed"] else f"no: {instance['reason']}",
                "" if probability is None else f"{probability:.3f}",
                instance["finding"] or "",
                seconds if index == 0 else "",
            )
    console.print(table)
