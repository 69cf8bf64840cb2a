"""One run from the start to the reckoning."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from tests.chaos.books import Books, owed_work, read_books
from tests.chaos.house import House
from tests.chaos.images import write_images
from tests.chaos.killer import Killer
from tests.chaos.logs import tracebacks
from tests.chaos.plan import Plan, plan
from tests.chaos.privacy import leaks
from tests.chaos.reckoning import Evidence, Reckoning, reckon
from tests.chaos.senders import Ward
from worker.database import build_engine

# Work that is over is looked at again after this, before it counts as over.
SETTLE_S = 2.0
# How many of the studies that took longest are named.
SLOWEST = 3


@dataclass(frozen=True)
class Options:
    """What a run may be told."""

    seed: int
    studies: int = 60
    seconds: float = 120
    drain_s: float = 300
    keep: bool = False
    settings: dict[str, str] = field(default_factory=dict)
    say: Callable[[str], None] = print


@dataclass
class Outcome:
    """What came of a run."""

    plan: Plan
    folder: Path
    reckoning: Reckoning
    kills: Counter[str]
    missed: int
    surprises: list[str]
    failures: list[str]
    numbers: dict[str, str]


def run(options: Options) -> Outcome:
    """Do a run, and remove its folder if nothing was wrong."""
    folder = Path(tempfile.mkdtemp(prefix=f"cxr-chaos-{options.seed}-"))
    try:
        outcome = Run(options, folder).whole()
    except BaseException:
        options.say(f"seed {options.seed}: broken off; what there is of it is in {folder}")
        raise
    if not outcome.failures and not options.keep:
        shutil.rmtree(folder)
    return outcome


class Run:
    """A run, step by step."""

    def __init__(self, options: Options, folder: Path) -> None:
        self.options, self.folder, self.say = options, folder, options.say
        self.plan = plan(options.seed, options.studies, options.seconds)
        (folder / "plan.json").write_text(self.plan.to_json())
        self.begun = time.monotonic()
        self.files = write_images(self.plan.images, folder / "images")
        self.house = House(folder / "house", self.clock, **options.settings)
        self.ward = Ward(self.files, self.house.node, self.clock)
        self.killer = Killer(self.house, self.clock, self.say)
        self.failures: list[str] = []
        self.drained_s: float | None = None

    def clock(self) -> float:
        return time.monotonic() - self.begun

    def whole(self) -> Outcome:
        engine = build_engine(self.house.database_url)
        try:
            self.house.open(self.plan.archive_is)
            self._load()
            self._drain(engine)
            return self._reckon(engine)
        finally:
            engine.dispose()
            self.ward.stop()
            self.house.close()

    def _load(self) -> None:
        """Send everything while everything breaks."""
        now = datetime.now(UTC)
        self.say(f"{now:%H:%M:%S}Z the load begins, the archive is {self.plan.archive_is}")
        self.begun = time.monotonic()
        self.ward.start(self.plan.errands)
        self.killer.start(self.plan.faults, self.plan.seconds / 5)
        while self.clock() < self.plan.seconds:
            time.sleep(0.2)
        self.killer.end()
        self.house.heal_archive()
        self.say(f"{self.clock():6.1f} all is healed")

    def _drain(self, engine: Engine) -> None:
        """Wait until nothing is owed any more."""
        healed, told = time.monotonic(), 0.0
        quiet_since: float | None = None
        while time.monotonic() - healed < self.options.drain_s:
            left = self._left(engine)
            if left:
                quiet_since = None
            elif quiet_since is None:
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since >= SETTLE_S:
                self.drained_s = quiet_since - healed
                return
            if left and time.monotonic() - told > 10:
                told = time.monotonic()
                self.say(f"{self.clock():6.1f} {dict(left)}")
            time.sleep(0.25)
        self.failures.append(f"not drained in {self.options.drain_s:.0f} s: {dict(left)}")

    def _left(self, engine: Engine) -> Counter[str]:
        try:
            left = owed_work(engine)
        except DBAPIError:
            return Counter({"the database is away": 1})
        return left + Counter({"errands": self.ward.busy()})

    def _reckon(self, engine: Engine) -> Outcome:
        house, supervisor = self.house, self.house.supervisor
        orphans, silent = house.orphans(), house.silent_workers()
        badly_ended = house.stop_roles()
        left_running = house.orphans()
        evidence = Evidence(
            self.plan.images,
            self.ward.acknowledged,
            read_books(engine),
            house.home / "archive",
            {str(d.peer): d.store for d in (house.pacs, house.archive)},
            {kind: listener.diary for kind, listener in house.listeners.items()},
        )
        told = reckon(evidence)
        house.close()
        self._keep_records(evidence.books)
        self.failures += [
            *(f"lost: {line}" for line in told.lost),
            *(f"duplicated: {line}" for line in told.duplicated),
            *(f"owed: {line}" for line in told.owed),
            *(f"dead letter: {line}" for line in told.dead_letters),
            *(f"not assessed: {line}" for line in told.unassessed),
            *(f"helped: {line}" for line in (*supervisor.helped, *badly_ended)),
            *(f"takes no messages any more: {name}" for name in silent),
            *(f"left running: {line}" for line in left_running),
            *(
                f"patient data: {line}"
                for line in leaks(
                    house.logs,
                    house.redis.folder,
                    house.broker_messages,
                    *(listener.diary.folder for listener in house.listeners.values()),
                )
            ),
        ]
        surprises = [
            f"{name}.{start:03d} ended by itself at {at:.1f} with {code}"
            for at, name, start, code in supervisor.surprises
        ]
        surprises += [f"orphan: {line}" for line in orphans]
        surprises += [f"traceback: {line}" for line in tracebacks(house.logs)]
        slowest = sorted(told.waits, key=lambda study: told.waits[study])[-SLOWEST:]
        surprises += [f"{study} took {told.waits[study]:.0f} s" for study in slowest]
        return Outcome(
            self.plan, self.folder, told, self.killer.counts(), len(self.killer.missed),
            surprises, self.failures, self._numbers(evidence, told),
        )  # fmt: skip

    def _keep_records(self, books: Books) -> None:
        """Write what a person needs who wants to know why."""
        for name, record in (
            ("acknowledged", [asdict(each) for each in self.ward.acknowledged]),
            ("answers", self.ward.answers),
            ("happened", [asdict(each) for each in self.killer.happened]),
            ("missed", [asdict(each) for each in self.killer.missed]),
            ("books", books.to_record()),
        ):
            (self.folder / f"{name}.json").write_text(json.dumps(record, indent=1, default=str))

    def _numbers(self, evidence: Evidence, told: Reckoning) -> dict[str, str]:
        covered = evidence.covered()
        reported = sum(evidence.books.last_report(study) is not None for study in covered)
        acknowledged = {each.sop_instance_uid for each in self.ward.acknowledged}
        longest = max(told.waits.values(), default=0)
        return {
            "studies": f"{len(self.plan.studies())}",
            "instances": f"{len(self.plan.images)}",
            "C-STORE requests sent": f"{self.ward.sent}",
            "acknowledged": f"{len(acknowledged)} ({len(self.ward.acknowledged)} times)",
            "studies reported": f"{reported}",
            "reports made": f"{sum(map(len, evidence.books.reports.values()))}",
            **{f"delivered to {peer}": f"{count}" for peer, count in told.delivered.items()},
            **{
                f"told to {target}": f"{heard.positive} studies, {heard.corrections} corrected, "
                f"in {heard.tries} tries, {heard.repeated} repeated"
                for target, heard in told.heard.items()
            },
            "repeated": f"{told.repeated}",
            "old after new": f"{len(told.late)}",
            "duplicated": f"{len(told.duplicated)}",
            "lost": f"{len(told.lost)}",
            "dead-lettered": f"{len(told.dead_letters)}",
            "still owed": f"{len(told.owed)}",
            "isolated": f"{len(told.isolated)}",
            "faults": f"{len(self.killer.happened)} ({len(self.killer.missed)} missed)",
            "kills": f"{sum(n for k, n in self.killer.counts().items() if 'kill' in k)}",
            "seconds of load": f"{self.plan.seconds:.0f}",
            "seconds from the last image to its report, at most": f"{longest:.0f}",
            "seconds to drain": "not drained"
            if self.drained_s is None
            else f"{self.drained_s:.1f}",
        }
