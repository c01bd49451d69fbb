"""What a layer of another framework does, in the words of `jbn.batch_norm`, and how its training goes on."""

import dataclasses
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jbn.errors import InputError
from jbn.interop.weights import running
from jbn.interop.weights.forms import Axes, Form, Role
from jbn.nn import batch_norm
from jbn.nn.batch_norm import BatchNormParams, BatchNormStats
from jbn.nn.moments import AxisName

_IMAGES = (4, 5)  # axes of what Keras 2 takes for images


@dataclasses.dataclass(frozen=True)
class Stored:
    """One array as it came.

    Args:
        name: the framework's own.
        role: what it is.
        shape: its shape.
        dtype: its type.
        data: its bytes, where neither parameters nor statistics hold them.
    """

    name: str
    role: Role
    shape: tuple[int, ...]
    dtype: np.dtype
    data: bytes = b""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a layer goes on, and how its arrays were stored. Static under `jit`: equal where layers go on alike.

    With the batch's mean `mu` and variance `m2 / (n - ddof)`, and `count` the one in `BatchNormStats`:
    `count' = momentum * count + 1`, `mean' = mean + (mu - mean) / count'`, the same for what `averages` says.

    Args:
        framework: its name, as in `load`.
        name: of the layer, for messages.
        epsilon: added to the variance inside the square root.
        momentum: weight of the OLD value, of a batch, or of a single sample if `per_sample`; 1 with a count that is
            infinite where statistics stay, and where all batches weigh the same (`cumulative`).
        ddof: of the running variance, 0 biased and 1 unbiased.
        ddof_in_images: the same for `x` of four or five axes with channels second or last.
        channel_axis: the axis of the channels in the framework's own `x`, or several.
        averages: what is averaged: "variance" or "inverse deviation", `1 / sqrt(var + epsilon)`.
        cumulative: all batches (or samples) weigh the same.
        per_sample: `count` counts samples, and a batch of N weighs `1 - momentum ** N`.
        first_batch: it "counts" as others do, "replaces" what there was, or "adds" to it.
        blend: training normalises with the running statistics by `blend / (blend + N)`, else the batch's.
        frozen: training normalises with the running statistics, which stay.
        tracked: whether there are running statistics; if not, the batch's own normalise always.
        single_sample_runs: a batch of one sample is normalised with the running statistics.
        fixed: "scale" or "bias", if they are not trained.
        constants: "scale" or "bias" with its number, if that is what counts whatever is stored.
        form: what is known of this generation of the framework's layer.
        layout: the arrays as they came.
    """

    framework: str
    name: str = dataclasses.field(compare=False)
    epsilon: float
    momentum: float
    ddof: int
    ddof_in_images: int
    channel_axis: Axes
    averages: Literal["variance", "inverse deviation"] = "variance"
    cumulative: bool = False
    per_sample: bool = False
    first_batch: Literal["counts", "replaces", "adds"] = "counts"
    blend: float = 0.0
    frozen: bool = False
    tracked: bool = True
    single_sample_runs: bool = False
    fixed: tuple[str, ...] = ()
    constants: tuple[tuple[str, float], ...] = ()
    form: Form = dataclasses.field(kw_only=True, repr=False)
    layout: tuple[Stored, ...] = dataclasses.field(default=(), repr=False, compare=False)

    @property
    def label(self) -> str:
        """The layer, for messages."""
        return (
            f"{self.form.framework} batch norm {self.name!r}"
            if self.name
            else f"{self.form.framework} batch norm"
        )

    @property
    def plain(self) -> bool:
        """Whether `jbn.batch_norm.train` with `arguments` is all there is to training."""
        others = self.per_sample or self.blend or self.frozen or self.single_sample_runs or not self.tracked
        return self.averages == "variance" and self.first_batch == "counts" and not others

    def arguments(self, x: Any = None) -> dict[str, Any]:
        """Arguments for `jbn.batch_norm.train` under which it keeps the framework's running statistics.

        Args:
            x: the batch, or anything with its `ndim`: only Keras 2 asks how many axes it has.

        Raises:
            InputError: a rule that is no single average of variances (CNTK's, Lasagne's, a frozen layer's, ...), for
                which there is `train`; no `x` where one is asked for.

        >>> import numpy as np
        >>> from jbn.interop import weights
        >>> arrays = {"running_mean": np.zeros(2), "running_var": np.ones(2)}
        >>> weights.load("pytorch", arrays, affine=False, momentum=0.25).settings.arguments()
        {'momentum': 0.75, 'epsilon': 1e-05, 'channel_axis': 1, 'ddof': 1}
        """
        if not self.plain:
            raise InputError(
                f"{self.label}: its rule is no single average of variances, which is all that "
                "jbn.batch_norm.train takes arguments for; call the settings' own train"
            )
        return dict(
            momentum=self.momentum,
            epsilon=self.epsilon,
            channel_axis=self.channel_axis,
            ddof=self.ddof_of(x),
        )

    def ddof_of(self, x: Any) -> int:
        """Of the running variance of this batch."""
        if self.ddof == self.ddof_in_images:
            return self.ddof
        if x is None:
            raise InputError(
                f"{self.label}: the running variance depends on how many axes x has; pass x, as in arguments(x)"
            )
        several = isinstance(self.channel_axis, tuple)
        edge = not several and self.channel_axis % x.ndim in (1, x.ndim - 1)
        return self.ddof_in_images if x.ndim in _IMAGES and edge else self.ddof

    def train(
        self,
        params: BatchNormParams | None,
        stats: BatchNormStats | None,
        x: Float[Array, "..."],
        *,
        mask: Bool[Array, "..."] | None = None,
        axis_name: AxisName | None = None,
    ) -> tuple[Float[Array, "..."], BatchNormStats | None]:
        """One step of training as the framework takes it: the output, and running statistics under its rule.

        What the framework does not train (`fixed`, `constants`) has no gradient.

        Args:
            params: as loaded; None where the layer has none.
            stats: as loaded; None where it keeps none.
            x: the batch, with its channels where the framework has them (`channel_axis`).
            mask: which entries count, as in `jbn.batch_norm.train`; not for a frozen layer.
            axis_name: a mapped axis over which statistics are pooled.

        Returns:
            `y` in the shape and type of `x`, and the new running statistics.

        Raises:
            ValueError: fewer than two values a channel, as in `jbn.batch_norm.train`.
        """
        params, stats, x = self._held(_arrays(params)), _arrays(stats), jnp.asarray(x)
        mask = None if mask is None else jnp.asarray(mask, bool)
        if stats is not None and (self.frozen or (self.single_sample_runs and x.shape[0] == 1)):
            return self.infer(params, stats, x), stats
        if self.plain and stats is not None:
            return batch_norm.train(params, stats, x, mask=mask, axis_name=axis_name, **self.arguments(x))
        return running.train(self, params, stats, x, mask, axis_name)

    def infer(
        self, params: BatchNormParams | None, stats: BatchNormStats | None, x: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """The output at inference: `jbn.batch_norm.infer` with the settings' `epsilon` and `channel_axis`.

        Args:
            params: as loaded.
            stats: as loaded; where the layer keeps none, those of the batch.
            x: with its channels where the framework has them.

        Returns:
            `y` in the shape and type of `x`.
        """
        params, stats, x = _arrays(params), _arrays(stats), jnp.asarray(x)
        if stats is None:
            return running.train(self, params, None, x, None, None)[0]
        return batch_norm.infer(params, stats, x, epsilon=self.epsilon, channel_axis=self.channel_axis)

    def _held(self, params: BatchNormParams | None) -> BatchNormParams | None:
        """The parameters, those that are not trained as constants."""
        if params is None:
            return None
        held = {*self.fixed, *(name for name, _ in self.constants)}
        return params._replace(**{name: jax.lax.stop_gradient(getattr(params, name)) for name in held})


def _arrays(tree: Any) -> Any:
    return jax.tree.map(jnp.asarray, tree)


def uncorrected(momentum: float) -> float:
    """The count at which a running average stays uncorrected; infinite where nothing moves.

    >>> uncorrected(0.75), uncorrected(1.0)
    (4.0, inf)
    """
    return 1 / (1 - momentum) if momentum < 1 else math.inf
