"""AdamW with warm-up, cosine decay, averaging and learning rates that fall with depth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

# Scales and offsets are not decayed: decaying them only moves the normalisation.
NOT_DECAYED = ["bias", "gamma", "beta"]


@keras.saving.register_keras_serializable(package="cxr_worker")
class LayerwiseAdamW(keras.optimizers.AdamW):
    """AdamW whose learning rate differs between groups of layers.

    Parameters
    ----------
    multipliers
        Prefix of a variable's path -> factor on the learning rate; the first that matches counts,
        1 when none does.
    **options
        As for `keras.optimizers.AdamW`.
    """

    def __init__(self, multipliers: Mapping[str, float] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.multipliers = dict(multipliers or {})

    def build(self, variables: list[Any]) -> None:
        """Look up each variable's factor: while updating, TensorFlow's variables have no path."""
        self.factors = [
            next((f for p, f in self.multipliers.items() if v.path.startswith(p)), 1.0)
            for v in variables
        ]
        super().build(variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable at its own rate."""
        factor = self.factors[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * factor)

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs."""
        return {**super().get_config(), "multipliers": self.multipliers}


def depth_multipliers(decay: float) -> dict[str, float]:
    """Return rates that fall by `decay` with each stage below the head (1: the same everywhere)."""
    stages = ["stack3", "stack2", "stack1", "stack0", "conv1"]
    return {stage: decay ** (depth + 1) for depth, stage in enumerate(stages)}


def make_optimizer(
    *,
    steps: int,
    warmup_steps: int,
    learning_rate: float,
    weight_decay: float,
    average: float,
    layer_decay: float = 1.0,
) -> keras.optimizers.Optimizer:
    """Build the optimizer of one stage of training.

    Parameters
    ----------
    steps
        Number of updates of the stage; the rate reaches zero at the last.
    warmup_steps
        Updates over which the rate rises linearly from zero.
    learning_rate
        The highest rate.
    weight_decay
        Decoupled decay of kernels.
    average
        Decay per update of the moving average of the weights.
    layer_decay
        See `depth_multipliers`.

    References
    ----------
    Loshchilov & Hutter, Decoupled Weight Decay Regularization, ICLR 2019.
    """
    warmup_steps = min(warmup_steps, max(steps - 1, 0))
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup_steps else learning_rate,
        decay_steps=max(steps - warmup_steps, 1),
        warmup_target=learning_rate if warmup_steps else None,
        warmup_steps=warmup_steps,
    )
    optimizer = LayerwiseAdamW(
        depth_multipliers(layer_decay),
        learning_rate=schedule,
        weight_decay=weight_decay,
        use_ema=True,
        ema_momentum=average,
        global_clipnorm=5.0,
    )
    optimizer.exclude_from_weight_decay(var_names=NOT_DECAYED)
    return optimizer
