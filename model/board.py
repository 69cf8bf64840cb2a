"""What TensorBoard shows when a training has ended: the artifact on its validation images."""

from __future__ import annotations

from pathlib import Path

from model import figures
from model.data import Loaded
from model.evaluate import pictures
from model.judgement import judge, report
from model.predict import Classifier


def write_judgement(artifact: Path, validation: Loaded, folder: Path) -> None:
    """Write curves, confusion, calibration, subgroups and worst mistakes as TensorBoard images.

    Parameters
    ----------
    artifact
        The artifact whose answers are judged: what is shown is what is served.
    validation
        Images that it was not trained on, prepared.
    folder
        TensorBoard's log folder.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    import tensorflow as tf

    from model.checkpoint import system_errors

    # Validation is of the population, so nothing is withheld for looking like an adult's.
    judgement = judge(Classifier.load(artifact), validation, "ignore")
    drawn = pictures(judgement, report(judgement))
    with system_errors(folder):
        writer = tf.summary.create_file_writer(str(folder))
        with writer.as_default(step=0):
            for name, figure in drawn.items():
                tf.summary.image(f"validation/{name}", figures.as_pixels(figure)[None])
        writer.close()
