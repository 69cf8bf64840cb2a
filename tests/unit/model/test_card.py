"""The model card."""

from __future__ import annotations

from typing import Any

from model import card

FIGURES = {
    "images": 80,
    "patients": 40,
    "auc": 0.99,
    "auc_interval": [0.98, 1.0],
    "sensitivity": 0.95,
    "specificity": 0.9,
    "accuracy": 0.93,
    "undetermined": 0.05,
    "calibration_error": 0.02,
}


def described(**values: Any) -> dict[str, Any]:
    return {
        "name": "cxr-resnet18",
        "version": "1.0.0",
        "digest": "ab" * 32,
        "labels": ["normal", "pneumonia"],
        "training": {"backbone": "resnet18", "weights": "none", "precision": "float32"},
        "preprocessing": {"size": 64},
        "libraries": {"keras": "3"},
        "train_images": 100,
        "train_balance": "normal 50, pneumonia 50",
        "data_fingerprint": "f" * 64,
        "seconds": 120.0,
        "command": "python model/train.py --out OUT --data children",
        "steps": [{"step": "all", "epochs": 2, "val_auc": 0.97, "val_loss": 0.2}],
        "metrics": {"validation": FIGURES},
        "operating_point": {"threshold": 0.5, "low": 0.4, "high": 0.6, "sensitivity": 0.95},
        "temperature": 1.0,
        "attribution": "Somebody, CC BY 4.0.",
        "licence": "CC BY 4.0",
        **values,
    }


def test_a_network_from_scratch_is_called_that():
    text = card.render(described())
    assert "from scratch: no transfer" in text
    assert "| all | 2 | 0.9700 | 0.2000 |" in text


def test_every_training_that_led_to_an_artifact_is_told_first_one_first():
    first = described(command="python model/train.py --out OUT --data adults")
    text = card.render(described(started_from=first))
    assert "the first training below (from random weights), digest `abababababababab`" in text
    assert text.index("1. 100 images") < text.index("--data adults") < text.index("2. 100 images")
    assert text.index("2. 100 images") < text.index("--data children")


def test_weights_from_a_file_are_not_called_a_start_from_scratch():
    training = {"backbone": "resnet18", "weights": "r18.weights.h5", "precision": "float32"}
    text = card.render(described(training=training))
    assert "started from: weights from a file" in text


def test_public_sets_are_attributed_also_when_only_the_start_was_trained_on_them():
    adults = card.attribution(["COVID-12.jpeg"])
    assert "Radiography Database" in adults
    both = card.attribution(["person1_virus_7.jpeg"], adults)
    assert "Kermany" in both
    assert "Radiography Database" in both
    assert "NIH" not in both
    assert card.attribution(["scan.png"]) == "Data not attributed."


def test_weights_are_under_the_strictest_terms_of_their_images():
    children, adults = (
        card.attribution([name]) for name in ("person1_virus_7.jpeg", "COVID-1.png")
    )
    assert card.licence(children) == "CC BY 4.0, as the images they were trained on."
    assert card.licence(children + adults).startswith("for research use")
    assert "CC BY" not in card.licence(card.attribution(["scan.png"]))
