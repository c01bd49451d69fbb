"""One network in a file of its own."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import jbn

DIGITS = jbn.data.digits()
X, Y = DIGITS.test.x, DIGITS.test.y
KEY = jax.random.key(0)


def trained(model, data=DIGITS, **columns):
    task = jbn.Task(model=model, data=data)
    configs = {name: np.array([value]) for name, value in {"learning_rate": 0.02, **columns}.items()}
    return jbn.sweep(task, configs, epochs=2, key=KEY).best()


@pytest.fixture(scope="module", params=["before", "after", "cnn"])
def best(request):
    if request.param == "cnn":
        return trained(jbn.cnn(layers=1, channels=4))
    scale = request.param == "before"  # the other one has none
    return trained(jbn.mlp(layers=2, hidden_units=8, batch_norm=request.param, batch_norm_scale=scale))


def test_it_comes_back_bit_for_bit(best, tmp_path):
    best.save(tmp_path / "one.model")
    again = jbn.load(tmp_path / "one.model")
    jax.tree.map(np.testing.assert_array_equal, (again.params, again.stats), (best.params, best.stats))
    assert again.config == best.config
    np.testing.assert_array_equal(again.outputs(X), best.outputs(X))
    assert again.evaluate(X, Y) == best.evaluate(X, Y)
    assert again.accuracy(X, Y) > 0.5
    assert (again.config_id, again.seed, again.classes, again.features) == (0, 0, 10, (64,))
    again.save(tmp_path / "two.model")
    assert (tmp_path / "two.model").read_bytes() == (tmp_path / "one.model").read_bytes()


def test_folded_it_says_the_same_without_batch_norm(best, tmp_path):
    best.save(tmp_path / "folded.model", folded=True)
    names = list(load_file(tmp_path / "folded.model"))
    assert not any("batch_norm" in name or name.startswith("stats") for name in names)
    again = jbn.load(tmp_path / "folded.model")
    assert again.stats == {}
    assert again.folded
    np.testing.assert_allclose(again.outputs(X), best.outputs(X), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(again.predict(X), best.predict(X))
    np.testing.assert_array_equal(again.predict(X), best.without_batch_norm().predict(X))


def test_a_process_that_has_neither_run_nor_data_predicts_the_same(best, tmp_path):
    best.save(tmp_path / "one.model")
    np.save(tmp_path / "x.npy", X[:5])
    code = "import jbn, numpy as np; print(jbn.load('one.model').predict(np.load('x.npy')).tolist())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120
    )
    assert json.loads(done.stdout) == np.asarray(best.predict(X[:5])).tolist()


def test_numbers_come_back_in_their_unit(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3))
    best = trained(jbn.mlp(layers=1, hidden_units=8), jbn.data.arrays(x, 50 + 9 * x[:, 0], targets="numbers"))
    best.save(tmp_path / "numbers.model")
    again = jbn.load(tmp_path / "numbers.model")
    np.testing.assert_array_equal(again.predict(x), best.predict(x))
    assert 40 < np.mean(again.predict(x)) < 60
    assert again.evaluate(x, 50 + 9 * x[:, 0]) == best.evaluate(x, 50 + 9 * x[:, 0])


def _linear(size=10):
    def init(key, x, outputs):
        return {"w": jnp.zeros((x.shape[1], outputs)), "size": jnp.zeros(size)}

    return jbn.model(init, lambda params, x: x @ params["w"], name="linear")


def test_a_model_of_ones_own_is_given(tmp_path):
    own = _linear()
    best = trained(own)
    path = tmp_path / "own.model"
    best.save(path)
    np.testing.assert_array_equal(jbn.load(path, model=own).predict(X), best.predict(X))
    with pytest.raises(jbn.InputError, match=r"is of a model of your own, 'linear': give it, jbn.load\(path"):
        jbn.load(path)
    with pytest.raises(jbn.InputError, match="is of the model 'linear', but 'mlp' was given"):
        jbn.load(path, model=jbn.mlp())
    with pytest.raises(jbn.InputError, match="the model 'linear' cannot fold batch norm: give it a `fold`"):
        best.save(path, folded=True)


def test_a_loss_of_ones_own_is_not_in_the_file(tmp_path):
    def mine(outputs, targets):
        return -jax.nn.log_softmax(outputs)[jnp.arange(len(targets)), targets]

    task = jbn.Task(model=jbn.mlp(layers=1, hidden_units=8), data=DIGITS, loss=mine)
    best = jbn.sweep(task, {"learning_rate": [0.02]}, epochs=1, key=KEY).best()
    best.save(tmp_path / "mine.model")
    again = jbn.load(tmp_path / "mine.model")
    np.testing.assert_array_equal(again.predict(X), best.predict(X))
    with pytest.raises(
        jbn.InputError, match="this network's loss is a function of your own, 'mine', which its file"
    ):
        again.evaluate(X, Y)


def altered(path):
    arrays = load_file(path)
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        about = json.loads(file.read(size))["__metadata__"]
    arrays["params/output/bias"][0] += 1
    save_file(arrays, path, metadata=about)


def truncated(path):
    path.write_bytes(path.read_bytes()[:-5])


def foreign(path):
    save_file({"w": np.ones(3)}, path)


def newer(path):
    arrays = load_file(path)
    save_file(arrays, path, metadata={"jbn": json.dumps({"format": "jbn-model-9"})})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (altered, "was altered; copy the file again"),
        (truncated, "is not a whole file of safetensors"),
        (foreign, "is not a network of jbn; name a file that `.save` wrote"),
        (newer, "has format jbn-model-9, this jbn reads jbn-model-1; use a newer one"),
        (os.remove, "there is no network at"),
    ],
)
def test_what_is_no_network(best, tmp_path, change, message):
    path = tmp_path / "one.model"
    best.save(path)
    change(path)
    with pytest.raises(jbn.InputError, match=message):
        jbn.load(path)


def test_another_shape_is_named(tmp_path):
    trained(_linear()).save(tmp_path / "own.model")
    with pytest.raises(jbn.InputError, match=r"has params/size of shape \(10,\), but the model needs \(3,\)"):
        jbn.load(tmp_path / "own.model", model=_linear(3))
