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
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from dicom_node.errors import ConfigurationError, InstanceError, PacsWorkerError
from dicom_node.peer import Peer
from worker import sending
from worker.stand_in import PacsStandIn

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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
        "CXR_DESTINATIONS": f"{pacs}?companions=picture+key-object", "CXR_AE_TITLE": "CXRWORKER",
        "CXR_ARCHIVE": str(home / "archive"), "CXR_ARCHIVE_RESERVE_MB": "0",
        "CXR_WEB_PORT": "off",
        # What else a shell or a file sets for another node would shut the demo's own modality out.
        "CXR_ALLOWED_AE_TITLES": "", "CXR_ALLOWED_HOSTS": "", "CXR_REQUIRE_CALLED_AE_TITLE": "",
        "CXR_PLAINTEXT": "on", "CXR_TLS_PORT": "", "CXR_PEERS": "",
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
    """Print the table; name what came, and the pictures, by the number of the study."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("study", "assessed", "P(pneumonia)", "finding", "seconds"):
        right = name in ("P(pneumonia)", "seconds")
        table.add_column(name, justify="right" if right else "left")
    for number, study in enumerate(studies, 1):
        uid = study.study_instance_uid
        record, arrived = records.get(uid), pacs.arrived.get(uid)
        seconds = "no report" if arrived is None else f"{arrived - study.sent_at:.2f}"
        for kind, paths in (("report", pacs.reports), ("key-object", pacs.key_objects)):
            for path in paths.get(uid, []):
                path.rename(out / f"{number:03}-{kind}-{path.stem[-8:]}.dcm")
        if record is None:
            table.add_row(study.label, study.refused or "not received", "", "", seconds)
            continue
        for index, instance in enumerate(record["instances"], 1):
            _show(instance, record, study, pacs, out / f"{number:03}-{index}")
            first = index == 1
            table.add_row(
                study.label if first else "", *_answer(instance), seconds if first else ""
            )
    console.print(table)


def _answer(instance: dict[str, Any]) -> tuple[str, str, str]:
    probability = instance["probabilities"].get("pneumonia")
    return (
        "yes" if instance["assessed"] else f"no: {instance['reason']}",
        "" if probability is None else f"{probability:.3f}",
        instance["finding"] or "",
    )


def _show(
    instance: dict[str, Any],
    record: dict[str, Any],
    study: DemoStudy,
    pacs: PacsStandIn,
    stem: Path,
) -> None:
    """Leave an image's picture as a PNG: the one the PACS got, or else one with the reason."""
    from pydicom import dcmread

    from worker.picture import to_png

    uid = instance["sop_instance_uid"]
    capture = pacs.captures.get(uid)
    if capture is not None:
        capture = capture.rename(stem.with_name(f"{stem.name}-picture.dcm"))
        picture = dcmread(capture).pixel_array
    else:
        picture = _drawn(instance, record, study.sources[uid])
    stem.with_name(f"{stem.name}.png").write_bytes(to_png(picture))


def _drawn(instance: dict[str, Any], record: dict[str, Any], source: Path) -> NDArray[np.uint8]:
    from dicom_node.findings import InstanceFinding
    from worker.picture import draw

    finding = InstanceFinding(
        instance["sop_instance_uid"], instance["assessed"], instance["reason"],
        instance["finding"], **instance["probabilities"], flags=tuple(instance["flags"]),
    )  # fmt: skip
    model = record["model"] or {"name": "", "version": ""}
    return draw(_pixels(source), finding, f"{model['name']} {model['version']}")


def _pixels(source: Path) -> NDArray[np.float32]:
    """Read the pixels of a file that was sent; black ones when they cannot be had."""
    import numpy as np
    from PIL import Image
    from pydicom import dcmread

    from dicom_node.pixels import to_pixels

    if not sending.is_dicom(source):
        with Image.open(source) as picture:
            return np.asarray(picture.convert("L"), np.float32) / np.float32(255)
    try:
        return to_pixels(dcmread(source))
    except InstanceError:
        return np.zeros((320, 640), np.float32)
