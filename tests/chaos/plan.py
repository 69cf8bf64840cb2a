"""What will happen in a run, from its seed alone: the studies, who sends them, and what breaks."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from tests.chaos.faults import MENU, NOTICES_MENU, Dish, Fault

MODALITIES = ("CT1ROOM", "XRAY2", "MOBILE3", "WARD4")
FORMS = ("plain", "plain", "jpeg-ls", "rle")
DEFECTS = ("photometric", "short", "garbage")

# How often each way of sending a study is chosen.
WAYS = {"once": 9, "halves": 4, "again": 3, "late": 4, "both": 2}
SINGLE = ("once", "again", "both")  # the ways for which one image is enough
MEAN_GAP_S, NOTICES_GAP_S = 3.0, 4.0
FIRST_FAULT_S = 2.0
ALSO = 0.25  # how often one more thing breaks at the same instant
# From this part of the load on the model is chosen that finds less: there are alarms to correct.
RESERVED_AT = 0.75
# How long a worker that classifies is left alone after it was killed: two deaths within one
# batch would isolate what was in it, which is right, but not what this run is about.
SPARED_S = 20.0


@dataclass(frozen=True)
class Image:
    """One instance, and what is wrong with it, if anything."""

    sop_instance_uid: str
    study_instance_uid: str
    number: int
    form: str
    defect: str


@dataclass(frozen=True)
class Errand:
    """One modality sends some instances of a study, from a time on until they are stored."""

    at: float
    modality: str
    sop_instance_uids: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """All that is decided before the start."""

    seed: int
    seconds: float
    images: tuple[Image, ...]
    errands: tuple[Errand, ...]
    faults: tuple[Fault, ...]
    # How the second destination is away during the whole load.
    archive_is: str

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    def studies(self) -> set[str]:
        return {image.study_instance_uid for image in self.images}


def plan(seed: int, studies: int, seconds: float) -> Plan:
    """Make the plan of a run; the same arguments make the same plan."""
    rng = random.Random(seed)
    images: list[Image] = []
    errands: list[Errand] = []
    for _ in range(studies):
        study = list(_images(rng))
        images += study
        errands += _errands(rng, study, rng.uniform(0, 0.85 * seconds), 0.95 * seconds)
    faults = list(_faults(rng, seconds, MENU, MEAN_GAP_S))
    archive_is = rng.choice(["refusing", "hanging", "mute"])
    until = RESERVED_AT * seconds
    for fault in _faults(rng, seconds, NOTICES_MENU, NOTICES_GAP_S):
        if fault.kind != "switch" or fault.at < until - fault.seconds:
            faults.append(fault)
    faults.append(Fault(until, "reserve", "model", 0.0, rng.getrandbits(32)))
    return Plan(
        seed, seconds, tuple(images), tuple(sorted(errands, key=lambda each: each.at)),
        tuple(sorted(faults, key=lambda each: each.at)), archive_is,
    )  # fmt: skip


def _uid(rng: random.Random) -> str:
    return f"2.25.{rng.getrandbits(112)}"


def _images(rng: random.Random) -> Iterator[Image]:
    study = _uid(rng)
    for number in range(1, rng.randint(1, 4) + 1):
        defect = rng.choice(DEFECTS) if rng.random() < 0.1 else ""
        yield Image(_uid(rng), study, number, rng.choice(FORMS), defect)


def _errands(rng: random.Random, study: list[Image], at: float, end: float) -> list[Errand]:
    uids = tuple(image.sop_instance_uid for image in study)
    ways = {way: n for way, n in WAYS.items() if len(uids) > 1 or way in SINGLE}
    way = rng.choices(list(ways), weights=list(ways.values()))[0]
    one, other = rng.sample(MODALITIES, 2)
    later, half = min(end, at + rng.uniform(1, 15)), len(uids) // 2
    return {
        "once": [Errand(at, one, uids)],
        "halves": [Errand(at, one, uids[:half]), Errand(at, other, uids[half:])],
        "again": [Errand(at, one, uids), Errand(later, rng.choice([one, other]), uids)],
        "late": [Errand(at, one, uids[:-1]), Errand(later, one, uids[-1:])],
        "both": [Errand(at, one, uids), Errand(at, other, uids)],
    }[way]


def _faults(
    rng: random.Random, seconds: float, menu: Sequence[Dish], mean_gap_s: float
) -> Iterator[Fault]:
    """Let things break at random; one thing does not break again before it is whole."""
    free_at: dict[str, float] = {}
    at = FIRST_FAULT_S + rng.expovariate(1 / mean_gap_s)
    while at < seconds:
        while True:
            fault = _fault(rng, at, menu)
            if at >= free_at.get(fault.victim, 0):
                yield fault
                spared = SPARED_S if fault.kills_classifying else 1.0
                free_at[fault.victim] = at + fault.seconds + spared
            if rng.random() >= ALSO:
                break
        at += rng.expovariate(1 / mean_gap_s)


def _fault(rng: random.Random, at: float, menu: Sequence[Dish]) -> Fault:
    dish = rng.choices(menu, weights=[each.weight for each in menu])[0]
    seconds = round(rng.uniform(*dish.seconds), 2)
    return Fault(round(at, 2), dish.kind, rng.choice(dish.victims), seconds, rng.getrandbits(32))
