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

from model import data
from model.options import Training
from model.preprocess import Preprocessing
from model.quiet import without_greeting


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; its options are the fields of `Training`."""
    parser = argparse.ArgumentParser(prog="python model/train.py", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the labelled images")
    parser.add_argument("--out", type=Path, required=True, help="folder for everything written")
    parser.add_argument("--resume", action="store_true", help="go on where OUT stopped")
    for option, purpose in (("--adults", "fit"), ("--other-adults", "check")):
        parser.add_argument(
            option,
            type=Path,
            action="append",
            default=[],
            help=f"folder of chests outside the population, to {purpose} the gate (repeatable)",
        )
    for name, default in asdict(Training()).items():
        option = "--" + name.replace("_", "-")
        parser.add_argument(option, type=type(default), default=default, help=f"default {default}")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Train; problems a person can solve are one line on stderr and exit code 2."""
    options = parse(arguments)
    names = asdict(Training())
    training = Training(**{n: getattr(options, n) for n in names})
    try:
        artifact = run(
            training,
            options.data,
            options.out,
            adults=options.adults,
            other_adults=options.other_adults,
            resume=options.resume,
        )
    except data.DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error} (finished epochs are kept: --resume)", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; finished epochs are kept: --resume", file=sys.stderr)
        return 130
    print(f"the model is in {artifact}: serve it with CXR_MODEL={artifact} cxr-worker up")
    return 0


def run(
    training: Training,
    folder: Path,
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
    train, validation = data.find_splits(folder, training.validation, training.seed)
    describe(train, validation)
    for extra in (*adults, *other_adults):
        if not data.image_files(extra):
            raise data.DataError(f"{extra} holds no image")
    open_run(training, out, data.fingerprint(train), resume=resume)
    labels = data.class_labels(train)
    spec = Preprocessing(size=training.size)
    loaded = [data.load(part, spec) for part in (train, validation)]
    for path, reason in loaded[0].unreadable + loaded[1].unreadable:
        print(f"left out: {path}: {reason}", file=sys.stderr)

    with without_greeting():  # TensorFlow, late: bad data is told in a second
        from model.board import write_judgement
        from model.callbacks import seconds_trained
        from model.fit import Fitting
        from model.release import Trained, assemble

    network = Fitting(training, out, loaded[0], loaded[1], labels).run()
    seconds = seconds_trained(out / "history.jsonl")
    trained = Trained(
        training,
        network,
        loaded[0],
        loaded[1],
        labels,
        spec,
        adults,
        other_adults,
        command(training),
        seconds,
    )
    artifact = assemble(trained, out / "artifact")
    write_judgement(artifact, loaded[1], out / "tensorboard" / "validation")
    return artifact


def command(training: Training) -> str:
    """Return the command that repeats a training, without this machine's folders."""
    default = asdict(Training())
    changed = {n: v for n, v in asdict(training).items() if v != default[n] and n != "weights"}
    options = [f"--{name.replace('_', '-')} {value}" for name, value in changed.items()]
    if training.weights != "none":
        options.append(f"--weights {Path(training.weights).name}")
    return " ".join(
        [
            "python model/train.py --data DATA --adults ADULTS --other-adults OTHERS --out OUT",
            *options,
        ]
    )


def describe(train: list[data.Example], validation: list[data.Example]) -> None:
    """Print what will be trained on, before anything takes long."""
    print(f"training:   {len(train)} images ({data.balance(train)})")
    print(f"validation: {len(validation)} images ({data.balance(validation)}), no shared patient")
    for first, second in data.duplicates(train, validation):
        print(f"duplicate across the split: {first.name} = {second.name}", file=sys.stderr)


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
