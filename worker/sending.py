"""Sends radiographs as a modality would: one association a study; pictures become DX first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_node.errors import ConfigurationError, InstanceError
from dicom_node.peer import Peer
from worker.destinations import KnownPeer

if TYPE_CHECKING:
    import ssl

    from pydicom import Dataset

    from dicom_node.storage_scu import Sent

PICTURES = frozenset({".jpg", ".jpeg", ".png"})
TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Wrapping:
    """What to say of pictures that are wrapped into DX objects."""

    patient_age: str | None = None
    view_position: str | None = None
    study_instance_uid: str | None = None


def find_files(paths: Sequence[Path]) -> list[Path]:
    """List the files named, and all files in the folders named, in order; hidden ones are left."""
    found: list[Path] = []
    for path in paths:
        below = sorted(path.rglob("*")) if path.is_dir() else [path]
        found += [p for p in below if p.is_file() and not _is_hidden(p.relative_to(path))]
    return found


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def is_dicom(path: Path) -> bool:
    """Tell whether a file is in the DICOM File Format (PS3.10 7.1)."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def studies(
    files: Sequence[Path], wrapping: Wrapping, skip: Callable[[Path], None]
) -> list[list[Path]]:
    """Group files by study: DICOM by its UID, pictures one a study, or all in one."""
    groups: dict[str, list[Path]] = {}
    for path in files:
        if path.name.upper() == "DICOMDIR":  # an index of media, no instance (PS3.10 8.6)
            skip(path)
        elif is_dicom(path):
            groups.setdefault(_study_uid(path), []).append(path)
        elif path.suffix.lower() in PICTURES:
            groups.setdefault(wrapping.study_instance_uid or str(path), []).append(path)
        else:
            skip(path)
    return list(groups.values())


def _study_uid(path: Path) -> str:
    from pydicom import dcmread

    ds = dcmread(path, stop_before_pixels=True, specific_tags=["StudyInstanceUID"])
    return str(ds.get("StudyInstanceUID", path))


def instances(paths: Sequence[Path], wrapping: Wrapping) -> Iterator[Path | Dataset]:
    """Give what is sent of the files of one study.

    Raises
    ------
    ValueError
        When the age or the view is not as DICOM writes it.
    InvalidInstance
        When a picture cannot be read.
    """
    from dicom_node.wrap import wrap_image

    for path in paths:
        if is_dicom(path):
            yield path
        else:
            yield wrap_image(
                path,
                patient_age=wrapping.patient_age,
                view_position=wrapping.view_position,
                study_instance_uid=wrapping.study_instance_uid,
            )


def send_study(
    outgoing: Sequence[Path | Dataset],
    peer: Peer,
    calling_ae_title: str,
    on_sent: Callable[[Sent], None],
    tls: ssl.SSLContext | None = None,
) -> list[Sent]:
    """Send one study in one association.

    Raises
    ------
    PeerError
        When there is no association, or it is lost on the way.
    """
    from dicom_node import storage_scu

    return storage_scu.send(
        outgoing, peer, calling_ae_title, timeout_s=TIMEOUT_S, on_sent=on_sent, tls=tls
    )


def send_all(
    paths: Sequence[Path], to: str, calling_ae_title: str, wrapping: Wrapping, *, one_study: bool
) -> bool:
    """Send files with a progress bar; print what was refused; tell whether all was stored.

    Raises
    ------
    ConfigurationError
        When the address, the age or the view is wrong, or there is nothing to send.
    PeerError
        When the peer cannot be reached.
    """
    from pydicom.uid import generate_uid
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    from dicom_node.status import is_success

    called = _called(to)
    peer, tls = called.peer, _context(called)
    if one_study:
        wrapping = Wrapping(wrapping.patient_age, wrapping.view_position, str(generate_uid()))
    console = Console(stderr=True, highlight=False)
    files = find_files(paths)
    groups = studies(files, wrapping, lambda path: console.print(f"skipped: {path}", markup=False))
    if not groups:
        raise ConfigurationError("PATH", "names no DICOM, JPEG or PNG file")
    refused = sent = 0
    columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("sending", total=sum(map(len, groups)))
        for group in groups:
            try:
                outgoing = list(instances(group, wrapping))
            except ValueError as error:
                raise ConfigurationError("--patient-age or --view", str(error)) from None
            except InstanceError as error:
                console.print(f"unreadable: {group[0]}: {error}", markup=False)
                refused += len(group)
                continue
            for answer in send_study(
                outgoing, peer, calling_ae_title, lambda _: progress.advance(bar), tls
            ):
                if is_success(answer.status):
                    sent += 1
                else:
                    refused += 1
                    console.print(
                        f"refused: {answer.sop_instance_uid}: {answer.words}", markup=False
                    )
    print(f"{sent} instances in {len(groups)} studies stored by {peer}, {refused} refused")
    return refused == 0


def _called(text: str) -> KnownPeer:
    try:
        return KnownPeer.parse(text)
    except ValueError as error:
        raise ConfigurationError("--to", str(error)) from None


def _context(called: KnownPeer) -> ssl.SSLContext | None:
    """Return what to connect with; None without TLS.

    Raises
    ------
    ConfigurationError
        When there are no certificates to connect with.
    """
    from dicom_node.tls import client_context
    from worker import composition

    if not called.tls:
        return None
    files = composition.settings().tls_files
    if files is None:
        needed = "CXR_TLS_CERTIFICATE, CXR_TLS_KEY and CXR_TLS_AUTHORITY"
        raise ConfigurationError("--to", f"{called.peer}: tls=on needs {needed}")
    return client_context(files)
