"""Stamp a trained artifact as a release, or write its model card.

python model/export.py release OUT/artifact --version 1.0.0 [--to model/released]
python model/export.py card [--model model/released] [--to docs/model-card.md]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dicom_node.errors import ConfigurationError
from model import artifact, card

RELEASED = Path(__file__).parent / "released"


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
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; a problem is one line on stderr and exit code 2."""
    options = parse(arguments)
    try:
        if options.command == "release":
            print(release(options.artifact, options.to, options.version, options.name))
        else:
            write_card(options.model, options.to)
    except (ConfigurationError, OSError, ValueError) as error:
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


if __name__ == "__main__":
    sys.exit(main())
