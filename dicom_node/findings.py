"""What a report is about: the finding of each instance, and the device that made it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InstanceFinding:
    """What the analysis of one instance came to.

    Attributes
    ----------
    sop_instance_uid : str
        The instance.
    assessed : bool
        Whether there is an answer.
    reason : str or None
        Why not: a key of :data:`dicom_node.codes.NOT_ASSESSED_REASONS`.
    finding : str or None
        ``PRESENT``, ``ABSENT`` or ``UNDETERMINED``.
    pneumonia : float or None
        Probability (or certainty) of pneumonia, in [0, 1].
    bacterial, viral : float or None
        Probabilities of either kind, given pneumonia, in [0, 1].
    flags : tuple of str
        Keys of :data:`dicom_node.codes.FLAG_SENTENCES`.
    """

    sop_instance_uid: str
    assessed: bool
    reason: str | None = None
    finding: str | None = None
    pneumonia: float | None = None
    bacterial: float | None = None
    viral: float | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AlgorithmDevice:
    """The model and the device it ran in.

    Attributes
    ----------
    name, version : str
        Of the model.
    digest : str
        SHA-256 of the model's artifact, in hexadecimal.
    threshold : float
        Pneumonia is present from here on, in [0, 1].
    undetermined : tuple of float
        From and to, in [0, 1]: undetermined between.
    temperature : float
        Of the calibration.
    calibrated : bool
        Whether the score is a probability.
    manufacturer, software_version : str
        Of the device.
    device_uid : str
        Device Observer UID; "" derives one from the model's digest.
    station_name : str
        Device Observer Name; "" is the manufacturer's.
    """

    name: str
    version: str
    digest: str
    threshold: float
    undetermined: tuple[float, float]
    temperature: float
    calibrated: bool
    manufacturer: str = "cxr-worker"
    software_version: str = "0.1.0"
    device_uid: str = ""
    station_name: str = ""
