"""The reckoning: what was sent, what the database says and what arrived must be one story."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from pydicom import Dataset, dcmread

from tests.chaos.books import Books
from tests.chaos.diary import Diary
from tests.chaos.images import data_set_of, digest_of
from tests.chaos.pacs import Store
from tests.chaos.plan import Image
from tests.chaos.senders import Acknowledged
from tests.chaos.told import Told, reckon_notices
from worker.answers import WORKER_FAILURE
from worker.states import DeliveryState, StudyState
from worker.tables import Report

# What the model or the header says of an image that nothing is wrong with. Others mean that it
# was not looked at.
JUDGED = frozenset({
    None, "NOT_CHEST", "NOT_FRONTAL", "ROTATED", "INVERTED", "BLANK", "OUTSIDE_POPULATION",
})  # fmt: skip


@dataclass
class Reckoning:
    """What was found to be wrong, each in a line."""

    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    owed: list[str] = field(default_factory=list)
    dead_letters: list[str] = field(default_factory=list)
    isolated: list[str] = field(default_factory=list)
    unassessed: list[str] = field(default_factory=list)
    # No fault: what "at least once" means, and what a worker that slept sent late.
    repeated: int = 0
    late: list[str] = field(default_factory=list)
    delivered: dict[str, int] = field(default_factory=dict)
    # How long a report of all images took to the first destination, from the last image on.
    waits: dict[str, float] = field(default_factory=dict)
    heard: dict[str, Told] = field(default_factory=dict)


@dataclass(frozen=True)
class Evidence:
    """The sides: modalities, the database with its archive, destinations, receivers of notices."""

    images: Sequence[Image]
    acknowledged: Sequence[Acknowledged]
    books: Books
    archive: Path
    stores: Mapping[str, Store]
    diaries: Mapping[str, Diary] = field(default_factory=dict)

    def covered(self) -> dict[str, set[str]]:
        """Give the acknowledged instances of each study."""
        study_of = {image.sop_instance_uid: image.study_instance_uid for image in self.images}
        found: dict[str, set[str]] = defaultdict(set)
        for each in self.acknowledged:
            found[study_of[each.sop_instance_uid]].add(each.sop_instance_uid)
        return found

    def read(self, report: Report) -> Dataset:
        return dcmread(self.archive / report.path)


def reckon(evidence: Evidence) -> Reckoning:
    """Hold the sides against each other."""
    told = Reckoning()
    told.lost += _lost_instances(evidence)
    told.lost += _lost_reports(evidence)
    told.duplicated += _two_stories(evidence)
    told.owed += _owed(evidence)
    told.dead_letters += _dead_letters(evidence.books)
    for image, reason in _not_looked_at(evidence):
        told_of = told.isolated if reason == WORKER_FAILURE else told.unassessed
        told_of.append(f"{image.sop_instance_uid} ({image.form}): {reason}")
    told.waits |= _waits(evidence)
    for peer, store in evidence.stores.items():
        destination = peer.partition("@")[0]
        told.delivered[destination] = _delivered(evidence, store)
        told.duplicated += [f"{destination}: {line}" for line in _doubles(evidence, store)]
        told.late += [f"{destination}: {line}" for line in _late(evidence, store)]
        told.repeated += sum(len(kept) - 1 for kept in store.by_uid().values())
    told.heard = reckon_notices(evidence)
    for target, heard in told.heard.items():
        told.lost += [f"{target}: {line}" for line in heard.lost]
        told.duplicated += [f"{target}: {line}" for line in heard.two_stories]
        told.late += [f"{target}: {line}" for line in heard.late]
    return told


# --- lost ------------------------------------------------------------------------------------


def _lost_instances(evidence: Evidence) -> Iterator[str]:
    """Look for what was answered with Success and is not there, bytes and all."""
    for each in evidence.acknowledged:
        uid, row = each.sop_instance_uid, evidence.books.instances.get(each.sop_instance_uid)
        if row is None:
            yield f"instance {uid} of {each.modality}, stored at {each.at:.1f}, is unknown"
            continue
        path = evidence.archive / row.path
        if not path.is_file():
            yield f"instance {uid}, stored at {each.at:.1f}, has no file"
        elif digest_of(path) != each.sha256:
            yield f"instance {uid}, stored at {each.at:.1f}, has other bytes in the archive"


def _lost_reports(evidence: Evidence) -> Iterator[str]:
    """Look for studies without a report, and for last reports that did not arrive as they are."""
    stores = {peer: store.by_uid() for peer, store in evidence.stores.items()}
    for study, instances in evidence.covered().items():
        last = evidence.books.last_report(study)
        if last is None:
            yield f"study {study} of {len(instances)} instances has no report"
            continue
        ours = data_set_of((evidence.archive / last.path).read_bytes())
        rows = {row.destination: row for row in evidence.books.deliveries[last.id]}
        for peer, by_uid in stores.items():
            kept = by_uid.get(last.sop_instance_uid, [])
            row = rows.get(peer)
            if not kept:
                yield f"report of {study} is not at {peer}, delivery is {row and row.state}"
            elif kept[-1].data_set() != ours:
                yield f"report of {study} is another at {peer}"
            if row is None or row.state != DeliveryState.DELIVERED:
                yield f"report of {study} is {row and row.state} for {peer}, which has {len(kept)}"


def _delivered(evidence: Evidence, store: Store) -> int:
    """Count the studies of which a destination has the last report."""
    arrived = store.by_uid()
    last = (evidence.books.last_report(study) for study in evidence.covered())
    return sum(1 for report in last if report and report.sop_instance_uid in arrived)


# --- duplicated ------------------------------------------------------------------------------


def _two_stories(evidence: Evidence) -> Iterator[str]:
    """Look for reports that do not follow each other, or do not tell of all instances."""
    for study, instances in evidence.covered().items():
        reports = evidence.books.reports.get(study, [])
        revisions = [report.revision for report in reports]
        if revisions != list(range(1, len(reports) + 1)):
            yield f"study {study} has the revisions {revisions}"
        read = [evidence.read(report) for report in reports]
        for earlier, later in pairwise(read):
            if str(earlier.SOPInstanceUID) not in predecessors(later):
                yield f"study {study}: revision {later.InstanceNumber} does not name the one before"
        if read and (told := evidence_of(read[-1])) != instances:
            more, less = len(told - instances), len(instances - told)
            yield f"study {study}: the last report tells of {more} too many, {less} too few"
    strangers = set(evidence.books.instances) - {e.sop_instance_uid for e in evidence.acknowledged}
    for uid in strangers:
        yield f"instance {uid} is known, but its sender was never told"


def _doubles(evidence: Evidence, store: Store) -> Iterator[str]:
    """Look for two stories at one destination: other bytes, or a report that nobody knows."""
    known = {r.sop_instance_uid for reports in evidence.books.reports.values() for r in reports}
    revisions: dict[tuple[str, int], set[str]] = defaultdict(set)
    for uid, kept in store.by_uid().items():
        if len({each.data_set() for each in kept}) > 1:
            yield f"report {uid} came with different bytes"
        ds = kept[0].read()
        revisions[str(ds.StudyInstanceUID), int(ds.InstanceNumber)].add(uid)
        if uid not in known:
            yield f"report {uid} of study {ds.StudyInstanceUID} is not in the database"
    for (study, revision), uids in revisions.items():
        if len(uids) > 1:
            yield f"study {study} has {len(uids)} reports of revision {revision}"


def _late(evidence: Evidence, store: Store) -> Iterator[str]:
    """List earlier revisions that came after later ones."""
    revision = {
        r.sop_instance_uid: (study, r.revision)
        for study, reports in evidence.books.reports.items()
        for r in reports
    }
    newest: dict[str, int] = defaultdict(int)
    for kept in store.kept():
        study, number = revision.get(kept.sop_instance_uid, ("", 0))
        if number < newest[study]:
            yield f"revision {number} of study {study} came after revision {newest[study]}"
        newest[study] = max(newest[study], number)


def predecessors(report: Dataset) -> set[str]:
    """Give the documents that a report names as its predecessors."""
    return _referenced(report, "PredecessorDocumentsSequence")


def evidence_of(report: Dataset) -> set[str]:
    """Give the instances that a report is about."""
    return _referenced(report, "CurrentRequestedProcedureEvidenceSequence")


def _referenced(report: Dataset, keyword: str) -> set[str]:
    return {
        str(instance.ReferencedSOPInstanceUID)
        for study in report.get(keyword) or []
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }


# --- what is left ----------------------------------------------------------------------------


def _owed(evidence: Evidence) -> Iterator[str]:
    for job in evidence.books.owed():
        yield (
            f"{job.kind} of {job.subject_id} to {job.destination or 'us'} is {job.state}, due at "
            f"{job.due_at:%H:%M:%S}, tried {job.attempts} times: {job.last_error}"
        )
    for uid, study in evidence.books.studies.items():
        if study.state != StudyState.DELIVERED:
            yield f"study {uid} is {study.state}"
    stored = {each.sop_instance_uid for each in evidence.acknowledged}
    for image in evidence.images:
        if image.sop_instance_uid not in stored:
            yield f"instance {image.sop_instance_uid} was never stored"


def _dead_letters(books: Books) -> Iterator[str]:
    """List what was given up; no destination of this run refuses anything for good."""
    for job in books.dead():
        yield f"{job.kind} of {job.subject_id} to {job.destination or 'us'}: {job.last_error}"


def _not_looked_at(evidence: Evidence) -> Iterator[tuple[Image, str | None]]:
    """List images that were not assessed though nothing is wrong with them, and why.

    One that was in the hands of two workers that died is isolated on purpose. Others there are not.
    """
    for image in evidence.images:
        reason = evidence.books.reasons.get(image.sop_instance_uid)
        if not image.defect and reason not in JUDGED:
            yield image, reason


def _waits(evidence: Evidence) -> Iterator[tuple[str, float]]:
    """Time the first report of all images: what is assessed anew later has its own reasons."""
    first, rows = next(iter(evidence.stores.values())).by_uid(), evidence.books.instances
    for study, instances in evidence.covered().items():
        arrived = [
            first[report.sop_instance_uid][0].at_ns / 1e9
            for report in evidence.books.reports.get(study, [])
            if report.sop_instance_uid in first and evidence_of(evidence.read(report)) >= instances
        ]
        if arrived and instances <= rows.keys():
            came = datetime.fromtimestamp(min(arrived), UTC)
            yield study, (came - max(rows[uid].received_at for uid in instances)).total_seconds()
