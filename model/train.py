"""Train a network: `python model/train.py --data DIR --out DIR`.

`OUT` gets `config.json`, `history.jsonl`, `tensorboard/`, `checkpoint/` (what `--resume` needs)
and, at the end, `artifact/`: the folder that `CXR_MODEL` may name.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from dicom_node.errors import ConfigurationError
from model import artifact, data, history, sources, splits, survey
from model.images import image_files
from model.options import Training, option
from model.preprocess import Preprocessing
from model.quiet import without_greeting

STARTS = ("none", "imagenet")  # --weights that are no path


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; its options are the fields of `Training`."""
    parser = argparse.ArgumentParser(prog="python model/train.py", description=__doc__)
    parser.add_argument(
        "--data",
        action="append",
        required=True,
        help="folder with the labelled images, or kaggle:<owner>/<dataset> "
        "(repeatable: each is split by itself)",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for everything written")
    parser.add_argument("--resume", action="store_true", help="go on where OUT stopped")
    for collection, purpose in (("--adults", "fit"), ("--other-adults", "check")):
        parser.add_argument(
            collection,
            type=Path,
            action="append",
            default=[],
            help=f"folder of chests outside the population, to {purpose} the gate (repeatable)",
        )
    for name, default in asdict(Training()).items():
        described = f"default {default}"
        parser.add_argument(option(name), type=type(default), default=default, help=described)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Train; problems a person can solve are one line on stderr and exit code 2."""
    options = parse(arguments)
    names = asdict(Training())
    training = Training(**{n: getattr(options, n) for n in names})
    try:
        made = run(
            training,
            [sources.folder(named) for named in options.data],
            options.out,
            adults=options.adults,
            other_adults=options.other_adults,
            resume=options.resume,
        )
    except data.DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        kept = " (finished epochs are kept: --resume)" if options.out.is_dir() else ""
        print(f"error: {error}{kept}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; finished epochs are kept: --resume", file=sys.stderr)
        return 130
    print(f"the model is in {made}: serve it with CXR_MODEL={made} cxr-worker up")
    return 0


def run(
    training: Training,
    folders: Sequence[Path],
    out: Path,
    *,
    adults: Sequence[Path] = (),
    other_adults: Sequence[Path] = (),
    resume: bool = False,
) -> Path:
    """Train and write the artifact; return its folder.

    Raises
    ------
    DataError
        If the data or `out` cannot be used as they are.
    OSError
        If the disk is full or not writable; finished epochs are kept.
    """
    check(training)
    train, validation = find_all_splits(folders, training)
    survey.describe(train, validation)
    for extra in (*adults, *other_adults):
        if not image_files(extra):
            raise data.DataError(f"{extra} holds no image")
    open_run(training, out, data.fingerprint(train), resume=resume)
    labels = data.class_labels(train)
    spec = Preprocessing(size=training.size)
    test = [path for folder in folders for path in splits.held_back(folder)]
    loaded = survey.load_parts(train, validation, spec, test)

    with without_greeting():  # TensorFlow, late: bad data is told in a second
        from model.board import write_judgement
        from model.fit import Fitting
        from model.release import Trained, assemble

    fitting = Fitting(training, out, loaded[0], loaded[1], labels)
    network = fitting.run()
    trained = Trained(
        training,
        network,
        loaded[0],
        loaded[1],
        labels,
        spec,
        adults,
        other_adults,
        command(training, folders, adults, other_adults),
        history.seconds_trained(fitting.history),
        history.steps(fitting.history),
    )
    made = assemble(trained, out / "artifact")
    write_judgement(made, loaded[1], out / "tensorboard" / "validation")
    return made


def check(training: Training) -> None:
    """Tell options that cannot be used before anything takes long.

    Raises
    ------
    DataError
        Naming the option.
    """
    problem = training.problem()
    if problem:
        raise data.DataError(problem)
    if training.weights in STARTS:
        return
    path = Path(training.weights)
    if not path.exists():
        raise data.DataError(
            f"--weights {path} is not there; it must be {', '.join(STARTS)}, an artifact's folder,"
            " or a .h5 or .keras file"
        )
    if path.is_dir():
        _check_start(training, path)


def _check_start(training: Training, path: Path) -> None:
    """Say so when an artifact's training images may be among this training's validation."""
    try:
        theirs = artifact.describe(path)["training"]
    except ConfigurationError as error:
        raise data.DataError(f"--weights {path}: {error}") from error
    if any(theirs[n] != getattr(training, n) for n in ("seed", "validation")):
        print(
            f"note: {path.name} was trained with --seed {theirs['seed']} --validation"
            f" {theirs['validation']}: on the same images, use the same, or validation flatters"
        )


def find_all_splits(
    folders: Sequence[Path], training: Training
) -> tuple[list[data.Example], list[data.Example]]:
    """Split every folder by itself, so that adding one moves no patient of another across."""
    parts = [splits.find_splits(folder, training.validation, training.seed) for folder in folders]
    return [e for train, _ in parts for e in train], [e for _, held in parts for e in held]


def command(
    training: Training,
    folders: Sequence[Path],
    adults: Sequence[Path] = (),
    other_adults: Sequence[Path] = (),
) -> str:
    """Return the command that repeats a training; of folders and files only the last name."""
    default = asdict(Training())
    changed = {n: v for n, v in asdict(training).items() if v != default[n] and n != "weights"}
    weights = [] if training.weights == "none" else [Path(training.weights)]
    paths = {
        "--data": folders,
        "--adults": adults,
        "--other-adults": other_adults,
        "--weights": weights,
    }
    words = [f"{name} {path.name}" for name, given in paths.items() for path in given]
    words += [f"{option(name)} {value}" for name, value in changed.items()]
    return " ".join(["python model/train.py --out OUT", *words])


def open_run(training: Training, out: Path, fingerprint: str, *, resume: bool) -> None:
    """Make `out` ready for a new training, or check that it holds this very one.

    Raises
    ------
    DataError
        If `out` holds another training, or an unfinished one and `resume` is not asked for.
    """
    config = out / "config.json"
    wanted = {"training": asdict(training), "data": fingerprint}
    if config.exists() and not resume:
        raise data.DataError(
            f"{out} holds a training: go on with --resume, or choose another --out"
        )
    if config.exists() and json.loads(config.read_text()) != wanted:
        raise data.DataError(f"{out} was started with other options or data: cannot resume")
    out.mkdir(parents=True, exist_ok=True)
    config.write_text(json.dumps(wanted, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
