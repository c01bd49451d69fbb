"""Dense layers by the library's own product: the numbers of `jax.lax.dot_general`, and its gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import jbn
from jbn.interop import products

KEY = jax.random.key(0)
CASES = [
    ((5, 3), (3, 4), ((1,), (0,))),
    ((2, 5, 3), (3, 4), ((2,), (0,))),
    ((2, 5, 3), (3, 2, 4), ((2,), (0,))),
    ((5, 3, 2), (3, 2, 4), ((1, 2), (0, 1))),
    ((3, 5), (3, 4), ((0,), (0,))),  # from here on passed on
    ((5, 3, 2), (2, 3, 4), ((1, 2), (1, 0))),
    ((3,), (3, 4), ((0,), (0,))),
]


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize(("left", "right", "contracted"), CASES)
def test_products_and_their_gradients_are_those_of_jax(left, right, contracted):
    numbers = contracted, ((), ())
    factors = draw(*left), draw(*right, seed=1)

    def score(function, factors):
        return jnp.sum(jnp.sin(function(*factors, numbers, precision=None)))

    own, theirs = (
        jax.value_and_grad(score, 1)(function, factors)
        for function in (products.dot_general, jax.lax.dot_general)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), own, theirs)


def test_what_asks_for_more_is_left_to_jax():
    a, b = draw(4, 3).astype(jnp.bfloat16), draw(3, 2, seed=1).astype(jnp.bfloat16)
    numbers = ((1,), (0,)), ((), ())
    assert products.dot_general(a, b, numbers, preferred_element_type=jnp.float32).dtype == jnp.float32
    batched = ((2,), (1,)), ((0,), (0,))
    y = products.dot_general(draw(2, 4, 3), draw(2, 3, 5, seed=1), batched)
    np.testing.assert_allclose(y, draw(2, 4, 3) @ draw(2, 3, 5, seed=1), rtol=1e-5, atol=1e-6)


class Linen(nn.Module):
    outputs: int

    @nn.compact
    def __call__(self, x):
        x = x + nn.MultiHeadDotProductAttention(num_heads=2)(nn.Dense(4)(x))
        return nn.Dense(self.outputs)(x.mean(axis=1))


class Nnx(nnx.Module):
    def __init__(self, *, outputs, rngs):
        self.first = nnx.Linear(4, 4, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 4, decode=False, rngs=rngs)
        self.last = nnx.Linear(4, outputs, rngs=rngs)

    def __call__(self, x):
        x = x + self.attention(self.first(x))
        return self.last(x.mean(axis=1))


def told_to(name):
    """A product that says that it was asked."""

    def dot_general(*arguments, **options):
        told_to.asked.append(name)
        return jax.lax.dot_general(*arguments, **options)

    return dot_general


told_to.asked = []


class Told(nn.Module):
    """Its layer is told what to multiply with."""

    outputs: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.outputs, dot_general=told_to("linen"))(x.mean(axis=1))


class ToldNnx(nnx.Module):
    def __init__(self, *, outputs, rngs):
        self.last = nnx.Linear(4, outputs, dot_general=told_to("nnx"), rngs=rngs)

    def __call__(self, x):
        return self.last(x.mean(axis=1))


def applied(model, x):
    hyper = {"outputs": 3}
    spec = jax.ShapeDtypeStruct(x.shape, x.dtype)
    params, stats = jax.jit(lambda key: model.init(key, hyper, spec))(KEY)

    def score(params):
        y, _ = model.train(params, stats, x, key=KEY, hyper=hyper, mask=None)
        return jnp.sum(y**2), y

    return jax.jit(jax.value_and_grad(score, has_aux=True))(params)


@pytest.mark.parametrize("model", [jbn.from_linen(Linen), jbn.from_nnx(Nnx)], ids=["linen", "nnx"])
def test_dense_layers_of_flax_use_it_with_the_same_results(model, monkeypatch):
    x, used = draw(6, 5, 4), []

    def noted(a, kernel):
        used.append(kernel.shape)
        return a @ kernel

    expected = applied(model, x)
    monkeypatch.setattr(products, "product", noted)
    own = applied(model, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), own, expected)
    assert len(used) >= 6  # two dense layers, query, key, value and output
    assert used.count((4, 4)) >= 5


@pytest.mark.parametrize(("model", "name"), [(jbn.from_linen(Told), "linen"), (jbn.from_nnx(ToldNnx), "nnx")])
def test_a_layer_that_was_told_what_to_multiply_with_does_so(model, name):
    told_to.asked.clear()
    applied(model, draw(6, 5, 4))
    assert set(told_to.asked) == {name}
