"""What there is to say about one generation of a framework's batch norm: names, storage, recurrence."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

from jbn.interop.weights.stored import VARIANCE, Stored

Axes = int | tuple[int, ...]
Shape = tuple[int, ...]
Role = Literal["scale", "bias", "mean", "var", "hidden mean", "hidden var", "counter", "kept"]
Counter = Literal["batches", "sums", "debiased", "samples", "first"]


@dataclasses.dataclass(frozen=True)
class Form:
    """One generation of a framework's layer.

    Args:
        framework: what it is called in messages.
        arrays: names of its arrays and what each is, in the framework's order.
        epsilon: name of the argument and its default; None if it must be given.
        momentum: name of the argument, its default (None if it must be given), and whether it weighs the "old"
            or the "new" value; no name if running statistics never move by themselves.
        stored: what stands for the running variance.
        ddof: of the running variance, for `x` of any rank.
        ddof_in_images: the same where `x` has four or five axes.
        averages: what is averaged over batches: "variance" or "inverse deviation".
        counter: what the array that counts says: "batches" only counts; means and variances are "sums" to be
            divided by it, or averages that it "debiased"; "samples" and "first" say whether a first batch came.
        divided: whether the arrays of mean and variance themselves are to be divided by what the counter says.
        switches: arguments that are true where arrays are there.
        axes: `axes(arguments, shape of the mean) -> channel axes` of `x`.
        others: further arguments that matter, with their defaults.
        ignored: arguments that change nothing here; one that ends in "*" is a pattern.
        adjust: `adjust(arguments) -> fields of the settings` that follow from arguments.
        no_momentum: None may be given for the momentum.
        apart: one of scale and bias may be missing by itself, without being told so.
    """

    framework: str
    arrays: tuple[tuple[str, Role], ...]
    epsilon: tuple[str, float | None]
    momentum: tuple[str, float | None, Literal["old", "new"]] | None
    stored: Stored = VARIANCE
    ddof: int = 0
    ddof_in_images: int | None = None
    averages: Literal["variance", "inverse deviation"] = "variance"
    counter: Counter = "batches"
    divided: bool = False
    switches: tuple[tuple[str, tuple[Role, ...]], ...] = ()
    axes: Callable[[Mapping[str, Any], Shape], Axes] = lambda arguments, shape: 1
    others: tuple[tuple[str, Any], ...] = ()
    ignored: tuple[str, ...] = ()
    adjust: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda arguments: {}
    no_momentum: bool = False
    apart: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """Of all arrays that it may have."""
        return tuple(name for name, _ in self.arrays)

    def named(self, role: Role) -> tuple[str, ...]:
        """The arrays of this role."""
        return tuple(name for name, own in self.arrays if own == role)

    @property
    def required(self) -> tuple[str, ...]:
        """Arrays without which nothing can be said: mean, variance, and a counter that divides them."""
        needs_counter = self.divided or self.counter in ("debiased", "first")
        return self.named("mean") + self.named("var") + (self.named("counter")[:1] if needs_counter else ())

    @property
    def defaults(self) -> dict[str, Any]:
        """All arguments that matter; None in place of a default where there is none."""
        numbers = [self.epsilon] + ([] if self.momentum is None else [self.momentum[:2]])
        return {**dict(numbers), **{name: None for name, _ in self.switches}, **dict(self.others)}
