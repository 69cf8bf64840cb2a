"""One story with real peers, told once for all tests that ask about it."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import Comprehensive3DSRStorage, generate_uid

from dicom_node.wrap import wrap_image
from tests.e2e.programs import (
    START_S,
    Orthanc,
    alive,
    clean_environment,
    family,
    free_port,
    listens,
    living_in,
    run,
    running,
    stop,
    wait_until,
)

# Read now: the tests themselves run without our settings.
REQUIRED = bool(os.environ.get("CXR_REQUIRE_PEERS"))
MODEL = {"CXR_MODEL": os.environ["CXR_MODEL"]} if os.environ.get("CXR_MODEL") else {}
DATA = Path(
    os.environ.get("CXR_TEST_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data"
)
PEERS = ("storescu", "storescp", "echoscu", "dcmdump", "dsrdump", "Orthanc")
CXR_WORKER = (sys.executable, "-m", "worker")
DELIVERED_S = 300
# Longer than a study must be quiet: a second report that must not be made would be made by then.
AGAIN_S = 5


@pytest.fixture(scope="session")
def peers() -> None:
    """Ask for DCMTK and Orthanc; where CI has installed them, missing them is a failure."""
    missing = [name for name in PEERS if shutil.which(name) is None]
    if missing and REQUIRED:
        pytest.fail(f"CXR_REQUIRE_PEERS is set, and these are not on the PATH: {missing}")
    if missing:
        pytest.skip(f"DCMTK or Orthanc is not installed: {', '.join(missing)} not on the PATH")


@dataclass
class Study:
    """What was sent of one study, and by whom."""

    label: str
    sources: list[Dataset]
    paths: list[Path] = field(default_factory=list)
    by_orthanc: bool = False

    @property
    def uid(self) -> str:
        return str(self.sources[0].StudyInstanceUID)


@dataclass
class Story:
    """What was sent, what came back, and what was left when it was over."""

    studies: list[Study]
    records: dict[str, dict[str, Any]]
    at_dcmtk: list[Path]
    at_orthanc: list[Path]
    sent: dict[str, int]
    sent_again: int
    echo: int
    stranger_echo: int
    stranger_store: int
    exit_status: int
    left_over: list[str]
    log: str

    def reports(self, paths: list[Path], uid: str) -> list[Dataset]:
        """Give the reports of a study among received files."""
        return [
            ds
            for ds in map(dcmread, paths)
            if ds.StudyInstanceUID == uid and ds.SOPClassUID == Comprehensive3DSRStorage
        ]


@pytest.fixture(scope="session")
def story(peers: None, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Run ``cxr-worker up`` between DCMTK and Orthanc, once."""
    folder = tmp_path_factory.mktemp("story")
    studies = _studies(folder / "sent")
    with ExitStack() as stack:
        return _tell(folder, studies, stack)


def _tell(folder: Path, studies: list[Study], stack: ExitStack) -> Story:
    home, port, log = folder / "home", free_port(), folder / "cxr-worker.log"
    received, scp_port = folder / "dcmtk", free_port()
    received.mkdir()
    stack.enter_context(
        running(
            ["storescp", "--fork", "-aet", "DCMTKPACS", "-od", received, "+B", scp_port],
            folder / "storescp.log",
        )
    )
    orthanc = Orthanc(folder / "orthanc", port)
    stack.enter_context(running(["Orthanc", orthanc.configuration], folder / "orthanc.log"))
    wait_until(lambda: listens(scp_port) and orthanc.is_up(), START_S, "the start of the peers")
    env = clean_environment(
        CXR_HOME=str(home),
        CXR_BIND="127.0.0.1",
        CXR_PORT=str(port),
        CXR_DESTINATIONS=f"DCMTKPACS@127.0.0.1:{scp_port},ORTHANC@127.0.0.1:{orthanc.port}",
        CXR_ALLOWED_AE_TITLES="MODALITY,ORTHANC",
        CXR_ARCHIVE_RESERVE_MB="0",
        **MODEL,
    )
    up = stack.enter_context(running([*CXR_WORKER, "up"], log, env))
    wait_until(lambda: "is ready" in log.read_text() or up.poll() is not None, START_S, "the start")
    assert up.poll() is None, log.read_text()

    def dcmtk(program: str, calling: str, *words: str | Path) -> int:
        who = ["-aet", calling, "-aec", "CXRWORKER"]
        return run([program, *who, "127.0.0.1", port, *words]).returncode

    sent = {s.label: dcmtk("storescu", "MODALITY", *s.paths) for s in studies if not s.by_orthanc}
    for study in studies:
        if study.by_orthanc:
            orthanc.send_to_node(study.paths[0].read_bytes())
    records = _wait_for_delivery(env, {study.uid for study in studies})
    sent_again = dcmtk("storescu", "MODALITY", *studies[0].paths)
    time.sleep(AGAIN_S)
    told = Story(
        studies, records, [], [], sent, sent_again,
        echo=dcmtk("echoscu", "MODALITY"),
        stranger_echo=dcmtk("echoscu", "STRANGER"),
        stranger_store=dcmtk("storescu", "STRANGER", *studies[0].paths),
        exit_status=0, left_over=[], log="",
    )  # fmt: skip
    processes = family(up)
    told.exit_status = stop(up)
    psutil.wait_procs(processes, timeout=5)
    told.left_over = alive(processes) + living_in(home)
    told.at_dcmtk = sorted(received.iterdir())
    told.at_orthanc = _saved(orthanc.instances(), folder / "from-orthanc")
    told.log = log.read_text()
    return told


def _wait_for_delivery(env: dict[str, str], uids: set[str]) -> dict[str, dict[str, Any]]:
    """Wait until all studies are delivered everywhere, and committed by Orthanc, which offers that.

    Give what `cxr-worker results` says.
    """
    records: dict[str, dict[str, Any]] = {}

    def delivered() -> bool:
        done = run([*CXR_WORKER, "results", "--format", "json"], env=env)
        assert done.returncode == 0, done.stderr
        records.update({r["study_instance_uid"]: r for r in json.loads(done.stdout)})
        return {u for u, r in records.items() if _states(r) == {"DELIVERED", "COMMITTED"}} >= uids

    wait_until(delivered, DELIVERED_S, f"delivery of {len(uids)} studies")
    return records


def _states(record: dict[str, Any]) -> set[str]:
    return {delivery["state"] for report in record["reports"] for delivery in report["deliveries"]}


def _saved(instances: list[bytes], folder: Path) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{number}.dcm" for number in range(len(instances))]
    for path, data in zip(paths, instances, strict=True):
        path.write_bytes(data)
    return paths


def _studies(folder: Path) -> list[Study]:
    """Gather the studies to send: real CR, wrapped pictures, and real children where they are."""
    folder.mkdir()
    adult, arm, arm_again = (
        Path(str(get_testdata_file(name, download=False)))
        for name in ("RG1_UNCR.dcm", "RG3_UNCR.dcm", "RG3_UNCI.dcm")
    )
    found = [
        Study("adult chest", [dcmread(adult)], [adult]),
        Study("arm, two images", [dcmread(arm), dcmread(arm_again)], [arm, arm_again]),
        _wrapped("noise, two images", [_noise(folder, 1), _noise(folder, 2)], folder),
        _wrapped("ramp of 16 bits", [_ramp(folder)], folder),
        _wrapped("by Orthanc", [_noise(folder, 3)], folder),
    ]
    found[-1].by_orthanc = True
    return found + [_wrapped(path.stem, [path], folder) for path in children()]


def children() -> list[Path]:
    """List some real radiographs of children, none where the data are not there."""
    originals = DATA / "chest_xray_original"
    normal, ill = (sorted((originals / kind).glob("*.jpeg")) for kind in ("NORMAL", "PNEUMONIA"))
    return [*normal[:3], *ill[:3]]


def _wrapped(label: str, pictures: list[Path], folder: Path) -> Study:
    uid = str(generate_uid())
    study = Study(label, [])
    for number, picture in enumerate(pictures):
        ds = wrap_image(
            picture, patient_age="003Y", view_position="AP", study_instance_uid=uid,
            accession_number=f"A{uid[-8:]}",
        )  # fmt: skip
        path = folder / f"{uid}.{number}.dcm"
        ds.save_as(path, enforce_file_format=True)
        study.sources.append(ds)
        study.paths.append(path)
    return study


def _noise(folder: Path, seed: int) -> Path:
    path = folder / f"noise-{seed}.png"
    pixels = np.random.default_rng(seed).integers(0, 256, (320, 400), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def _ramp(folder: Path) -> Path:
    path = folder / "ramp.png"
    ramp = np.linspace(0, 65535, 300 * 280).reshape(300, 280).astype(np.uint16)
    Image.fromarray(ramp).save(path)
    return path
