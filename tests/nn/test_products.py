import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from numpy.testing import assert_allclose

from jbn.nn.products import product

SHAPES = [(64, 20, 30), (64, 100, 3), (3, 100, 64), (5, 1, 1)]  # either factor may be the one to transpose


def draw(rows, inputs, outputs):
    rng = np.random.default_rng(rows + inputs)
    return tuple(rng.normal(size=shape) for shape in ((rows, inputs), (inputs, outputs), (rows, outputs)))


@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_gradients_are_those_of_the_textbook(shape):
    with jax.enable_x64(True):
        a, kernel, dy = draw(*shape)
        y, vjp = jax.jit(lambda a, kernel: jax.vjp(product, a, kernel))(a, kernel)
        da, dkernel = jax.jit(lambda vjp, dy: vjp(dy))(vjp, dy)
    assert_allclose(y, a @ kernel, rtol=1e-13)
    assert_allclose(da, dy @ kernel.T, rtol=1e-13)
    assert_allclose(dkernel, a.T @ dy, rtol=1e-13)


@pytest.mark.parametrize("shape", SHAPES)
def test_derivatives_of_every_mode_and_order(shape):
    with jax.enable_x64(True):
        a, kernel, _ = (jnp.asarray(x) / np.sqrt(shape[1]) for x in draw(*shape))
        check_grads(jax.jit(lambda a, kernel: jnp.sin(product(a, kernel))), (a, kernel), order=2, rtol=1e-5)


def test_members_side_by_side_are_members_one_by_one():
    with jax.enable_x64(True):
        a, kernel, _ = (jnp.stack([x, x + 1, x + 2]) for x in draw(8, 6, 4))

        def gradients(a, kernel):
            return jax.grad(lambda a, kernel: jnp.sum(product(a, kernel) ** 2), argnums=(0, 1))(a, kernel)

        together = jax.jit(jax.vmap(gradients))(a, kernel)
        one_by_one = [gradients(*own) for own in zip(a, kernel, strict=True)]
    jax.tree.map(
        lambda whole, *parts: assert_allclose(whole, np.stack(parts), rtol=1e-12), together, *one_by_one
    )


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_on_cpu_every_product_contracts_the_last_axis_of_its_left_factor(shape):
    """What is not of this form runs at half the speed."""
    if jax.default_backend() != "cpu":
        pytest.skip("only XLA on CPU has such a rule")

    def gradients(a, kernel, dy):
        return jax.vjp(product, a, kernel)[1](dy)

    compiled = jax.jit(gradients).lower(*(x.astype("float32") for x in draw(*shape))).compile().as_text()
    contractions = [line for line in compiled.splitlines() if " dot(" in line]
    assert len(contractions) == 2
    assert all("lhs_contracting_dims={1}" in line for line in contractions), contractions
