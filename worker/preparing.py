"""Makes the network's input of claimed instances, several at once; one never harms another."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from dicom_node.correlation import about
from dicom_node.decoder_child import DecoderAway
from dicom_node.errors import InstanceError, InvalidInstance
from worker.answers import WORKER_FAILURE, Answer, Away, Gone, Scarce
from worker.desk import Desk
from worker.ledger import Claim, NewFinding
from worker.reading import ArchiveAway, FileGone, open_stored, pixels_of, read_to_decode
from worker.tables import Instance
from worker.tracing import NOTHING, Steps

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)

# After so many workers that died with an instance in their hands no other is given it: the first
# time it may have been one of those in hand with it, the second time it was alone.
MOST_DEATHS = 2


class Preparing(Protocol):
    """What makes the network's input; in several threads at once."""

    @property
    def via(self) -> int:
        """Side of the square to which `prepare` would first reduce an image."""
        ...

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Make (rows, columns) float32 in [0, 1] the network's input."""
        ...


@dataclass(frozen=True, slots=True)
class Input:
    """What the network sees of an instance, with the flags of its header."""

    image: np.ndarray
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Prepared:
    """The network's input of a batch, and what is known already; by the instances' ids."""

    inputs: dict[int, Input] = field(default_factory=dict)
    answers: dict[int, Answer] = field(default_factory=dict)


def prepare_batch(
    desk: Desk,
    classifier: Preparing,
    claims: Sequence[Claim],
    instances: dict[int, Instance],
    steps: Steps = NOTHING,
) -> Prepared:
    """Prepare each claimed instance, or answer it where there is nothing to prepare.

    Parameters
    ----------
    instances
        What is claimed, by id.
    steps
        Name the traces in the lines of the log.
    """

    def one(claim: Claim) -> Input | Answer:
        instance = instances[claim.subject_id]
        # The archive keeps the instances of a study in a folder of its name.
        study_uid = instance.path.partition("/")[0]
        known = {"study_instance_uid": study_uid, "sop_instance_uid": instance.sop_instance_uid}
        with about(**known, **steps.log_fields(claim.study_id)):
            if claim.deaths >= MOST_DEATHS:
                log.error("%s ended its worker %d times", instance.sop_instance_uid, claim.deaths)
                return NewFinding(assessed=False, reason=WORKER_FAILURE)
            return prepare_instance(desk, classifier, instance)

    at_once = min(len(claims), desk.preparing)
    if at_once > 1:
        with ThreadPoolExecutor(at_once, "prepare") as threads:
            made = list(threads.map(one, claims))
    else:
        made = [one(claim) for claim in claims]
    batch = Prepared()
    for claim, each in zip(claims, made, strict=True):
        if isinstance(each, Input):
            batch.inputs[claim.subject_id] = each
        else:
            batch.answers[claim.subject_id] = each
    return batch


def prepare_instance(desk: Desk, classifier: Preparing, instance: Instance) -> Input | Answer:
    """Prepare one instance, or answer it where there is nothing to prepare."""
    uid = instance.sop_instance_uid
    try:
        return _input(desk, classifier, instance)
    except InstanceError as error:
        log.info("%s is not assessed: %s", uid, error.reason)
        return NewFinding(assessed=False, reason=error.reason)
    except ArchiveAway as error:
        log.warning("%s cannot be read now: %s", uid, error)
        return Away(error)
    except FileGone as error:
        log.warning("%s cannot be assessed: %s", uid, error)
        return Gone(error)
    except (MemoryError, DecoderAway, OSError) as error:
        log.warning("%s: %s", uid, type(error).__name__)
        return Scarce(type(error).__name__)
    except Exception as error:
        log.exception("%s could not be prepared", uid)
        return type(error).__name__


def _input(desk: Desk, classifier: Preparing, instance: Instance) -> Input:
    """Read an instance, look at its header, and make the network's input of its pixels."""
    from model.fitness import HeaderFacts, check_header

    uid = instance.sop_instance_uid
    with open_stored(desk.archive, instance.path) as file:
        ds = read_to_decode(file)
        verdict = check_header(HeaderFacts.from_dataset(ds), desk.settings.population)
        if verdict.reason is not None:
            raise InvalidInstance(verdict.reason, "refused by its header", uid)
        pixels = pixels_of(desk.decoder, ds, file, uid, classifier.via)
    return Input(classifier.prepare(pixels), verdict.flags)
