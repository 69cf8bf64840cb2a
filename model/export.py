"""Stamp a trained artifact as a release, write its model card, or hand its network to others.

python model/export.py release OUT/artifact --version 1.0.0 [--to model/released]
python model/export.py card [--model model/released] [--to docs/model-card.md]
python model/export.py savedmodel model/released --to DIR/1 [--precision mixed_float16]
python model/export.py openvino model/released --to DIR
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dicom_node.errors import ConfigurationError
from model import artifact, card, engines

RELEASED = Path(__file__).parent / "released"
FORMS = {
    "savedmodel": "as a TensorFlow SavedModel, for TF Serving and others",
    "openvino": "as OpenVINO's model.xml and model.bin",
}
OUTPUTS = ("probabilities", "features")
# What whoever serves it elsewhere must know of it, beside the network itself.
FACTS = ("name", "version", "digest", "labels", "preprocessing", "operating_point", "temperature",
         "calibrated", "attribution", "licence")  # fmt: skip


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python model/export.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    release_parser = commands.add_parser("release", help="name, version, digest; make it current")
    release_parser.add_argument("artifact", type=Path, help="a training's OUT/artifact")
    release_parser.add_argument("--version", required=True, help="such as 1.0.0")
    release_parser.add_argument("--name", help="default: the network's, such as cxr-resnet18")
    release_parser.add_argument("--to", type=Path, default=RELEASED, help=f"default {RELEASED}")
    card_parser = commands.add_parser("card", help="write the model card")
    card_parser.add_argument("--model", type=Path, default=RELEASED, help=f"default {RELEASED}")
    card_parser.add_argument("--to", type=Path, help="default: the terminal")
    for form, what in FORMS.items():
        form_parser = commands.add_parser(form, help=what)
        form_parser.add_argument("artifact", type=Path, help="a model, or a folder of versions")
        form_parser.add_argument("--to", type=Path, required=True, help="a folder, made if missing")
        if form == "savedmodel":
            form_parser.add_argument(
                "--precision", choices=["float32", engines.HALF], default="float32",
                help=f"{engines.HALF} for a GPU; default float32",
            )  # fmt: skip
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; a problem is one line on stderr and exit code 2."""
    options = parse(arguments)
    try:
        if options.command == "release":
            print(release(options.artifact, options.to, options.version, options.name))
        elif options.command == "card":
            write_card(options.model, options.to)
        elif options.command == "savedmodel":
            write_savedmodel(options.artifact, options.to, options.precision)
        else:
            write_openvino(options.artifact, options.to)
    except (ConfigurationError, ImportError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def release(source: Path, folder: Path, version: str, name: str | None = None) -> Path:
    """Write a trained artifact as `folder/<name>-<version>` and make it the current one.

    Raises
    ------
    ConfigurationError
        If the source is no artifact.
    ValueError
        If this version was released before: a version never changes.
    """
    trained = artifact.read(source)
    description = {**trained.description, "version": version}
    description["name"] = name or description["name"]
    target = folder / f"{description['name']}-{version}"
    if (target / artifact.DESCRIPTION).exists():
        raise ValueError(f"{target} was released before; choose another --version")
    description["card"] = card.render(description)
    artifact.write(target, description, trained.arrays)
    (folder / artifact.CURRENT).write_text(target.name + "\n", encoding="utf-8")
    return target


def write_card(model: Path, target: Path | None) -> None:
    """Write a model's card to a file, or to the terminal.

    Raises
    ------
    ConfigurationError
        If there is no such model.
    """
    text = str(artifact.describe(model)["card"])
    if target is None:
        print(text)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


def answering_network(released: artifact.Artifact, precision: str = "float32") -> Any:
    """Build the network that answers by itself: images -> probabilities, features.

    Parameters
    ----------
    released
        The artifact. The gate is no part of the network: it judges by the features.
    precision
        Of the feature maps: `float32` or `mixed_float16`.

    Returns
    -------
    keras.Model
        From (N, size, size, 1), prepared, in [0, 1], to probabilities (N, C), calibrated by the
        temperature, in the order of `labels`, and features (N, F); both float32.
    """
    network = engines.build_network(released, "auto")
    if precision == engines.HALF:
        engines.use_half_precision(network)
    import keras

    size = released.description["preprocessing"]["size"]
    images = keras.Input((size, size, 1), name="images")
    logits, features = network(images)
    cooled = keras.layers.Rescaling(1 / released.description["temperature"], dtype="float32")
    probabilities = keras.layers.Softmax(dtype="float32", name=OUTPUTS[0])(cooled(logits))
    return keras.Model(images, [probabilities, features])


def write_savedmodel(model: Path, folder: Path, precision: str = "float32") -> None:
    """Write a SavedModel; its signature takes `images` and gives `probabilities` and `features`.

    Raises
    ------
    ConfigurationError
        If there is no such model, or it cannot be built here.
    """
    released = artifact.read(model)
    network = answering_network(released, precision)
    import keras
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    archive.track(network)
    archive.add_endpoint(
        "serve",
        lambda images: dict(zip(OUTPUTS, network(images, training=False), strict=True)),
        input_signature=[tf.TensorSpec(network.inputs[0].shape, tf.float32, name="images")],
    )
    archive.write_out(str(folder), verbose=False)
    # TF Serving leaves this folder to whoever made the model.
    _write_facts(folder / "assets.extra", released.description)


def write_openvino(model: Path, folder: Path) -> None:
    """Write OpenVINO's form; input `images`, outputs `probabilities` and `features`.

    Raises
    ------
    ConfigurationError
        If there is no such model, or it cannot be built here.
    ImportError
        If OpenVINO is not installed.
    """
    from model import openvino_engine

    released = artifact.read(model)
    _write_facts(folder, released.description)
    openvino_engine.write_ir(answering_network(released), folder, ("images",), OUTPUTS)


def _write_facts(folder: Path, description: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    facts = {key: description[key] for key in FACTS if key in description}
    text = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
    (folder / "facts.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
