import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from jbn.nn.fusion import after, apart, each, once

VECTOR = jnp.array([3.0, -1e-30, 0.1, 7e30])
KNOWN = jnp.array([-2.0, 0.0, 1e30, 5.0])
IDENTITIES = {
    "once": lambda vector: once(vector, KNOWN),
    "apart": apart,
    "after": lambda vector: after(vector, [KNOWN, 2 * KNOWN]),
}


@pytest.mark.parametrize("name", IDENTITIES)
@pytest.mark.parametrize("jit", [True, False])
def test_values_and_derivatives_are_those_of_the_identity(name, jit):
    function = jax.jit(IDENTITIES[name]) if jit else IDENTITIES[name]
    assert_array_equal(function(VECTOR), VECTOR)
    assert_array_equal(jax.jvp(function, (VECTOR,), (KNOWN,))[1], KNOWN)
    assert_array_equal(jax.vjp(function, VECTOR)[1](KNOWN)[0], KNOWN)


def test_known_numbers_get_no_gradient():
    gradient = jax.grad(
        lambda known: jnp.sum(once(VECTOR, known) + each(2.0, known) + after(VECTOR, [known]))
    )
    assert_array_equal(gradient(KNOWN), np.zeros(4))


def test_what_is_waited_for_may_hold_anything():
    others = jnp.array([np.nan, np.inf, -np.inf, 1.0])
    assert_array_equal(jax.jit(after)(VECTOR, [others]), VECTOR)


def test_each_has_the_type_of_what_it_is_made_of():
    vector = each(3, KNOWN.astype(jnp.bfloat16))
    assert vector.dtype == jnp.bfloat16
    assert_array_equal(vector.astype(jnp.float32), [3.0] * 4)
