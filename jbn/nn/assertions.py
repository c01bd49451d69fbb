"""chex's assertions, imported when the first one is made: chex takes longer to import than most of jbn."""

from jaxtyping import ArrayLike


def assert_shape(value: ArrayLike, shape: tuple[int, ...], message: str) -> None:
    """The value has this shape; else an AssertionError with the message."""
    import chex

    chex.assert_shape(value, shape, custom_message=message)


def assert_at_least_one_axis(x: ArrayLike) -> None:
    """The value is no scalar (sixteen axes are as many as there may be)."""
    import chex

    chex.assert_rank(x, set(range(1, 17)))
