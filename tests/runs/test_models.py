"""The models of all members of a sweep."""

import jax
import numpy as np

import jbn

MODEL = jbn.mlp(layers=1, hidden_units=8, batch_norm="none")


def test_every_member_is_there_as_a_model_of_its_own():
    task = jbn.Task(model=MODEL, data=jbn.data.digits())
    configs = {
        "learning_rate": [1e-3, 1e-2, 1e-2],
        "initial_scale": [1.0, 1e38, 1.0],
        "batch_size": [128] * 3,
    }
    result = jbn.sweep(task, configs, epochs=2, key=jax.random.key(0), seeds=2, keep_models=True)
    assert [model is None for model in result.models] == [False, False, True, True, False, False]
    validation = task.data.validation
    for member in (0, 1, 4, 5):
        model = result.models[member]
        assert (model.config_id, model.seed) == divmod(member, 2)
        assert model.config["learning_rate"] == configs["learning_rate"][model.config_id]
        accuracy = model.accuracy(validation.x, validation.y)
        assert abs(accuracy - result.history.validation_accuracy[-1, member]) < 1e-6
    best = result.best()
    own = result.models[2 * best.config_id + best.seed]
    np.testing.assert_array_equal(best.params["layer_1"]["kernel"], own.params["layer_1"]["kernel"])
    x = best.normalizer.apply(validation.x)
    state = jax.tree.map(jax.numpy.asarray, (best.params, best.stats))
    outputs = MODEL.infer(*state, x, hyper=best.hyper)  # its functions, by hand
    np.testing.assert_allclose(outputs, best.outputs(validation.x), rtol=1e-5, atol=1e-6)
    assert "learning_rate" not in best.hyper


def test_nobody_asked_nobody_gets_them():
    task = jbn.Task(model=MODEL, data=jbn.data.digits())
    assert jbn.sweep(task, {"learning_rate": [0.01]}, epochs=1, key=jax.random.key(0)).models == ()
