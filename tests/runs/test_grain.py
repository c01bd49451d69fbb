"""A sweep on grain's data loaders: the rows they give, in their order, epoch by epoch."""

import grain
import jax
import numpy as np
import pytest

import jbn

ROWS, BATCH = 300, 32
KEY = jax.random.key(1)
Y = np.arange(ROWS) % 3
X = np.random.default_rng(0).normal(size=(ROWS, 5)) + Y[:, None]
HELD = {"x_validation": X[:60], "y_validation": Y[:60]}
CONFIGS = {"learning_rate": np.array([0.003, 0.01]), "batch_size": np.array([20, 20])}


class Rows:
    """What grain takes a record from."""

    def __len__(self):
        return ROWS

    def __getitem__(self, place):
        return X[place], Y[place]


def data_loader(epoch, seed):
    sampler = grain.samplers.IndexSampler(
        ROWS,
        shard_options=grain.sharding.NoSharding(),
        shuffle=True,
        num_epochs=1,
        seed=(seed + epoch) % 2**31,
    )
    return grain.DataLoader(
        data_source=Rows(), sampler=sampler, operations=[grain.transforms.Batch(BATCH)], worker_count=0
    )


def dataset(epoch, seed):
    return grain.MapDataset.source(Rows()).shuffle(seed=(seed + epoch) % 2**31).batch(BATCH).to_iter_dataset()


def sweep(source, **options):
    data = jbn.data.stream(source, **HELD, block_rows=100, **options)
    assert (data.rows, data.classes) == (ROWS, 3)
    return jbn.sweep(jbn.Task(model=jbn.mlp(), data=data), CONFIGS, epochs=2, key=KEY)


@pytest.mark.parametrize("factory", [data_loader, dataset])
def test_a_loader_gives_what_its_batches_in_a_list_give(factory):
    listed = sweep(lambda epoch, seed: [(np.array(x), np.array(y)) for x, y in factory(epoch, seed)])
    own = sweep(factory)
    np.testing.assert_array_equal(own.history.train_loss, listed.history.train_loss)
    assert own.history.train_loss[1].max() < own.history.train_loss[0].min()


def test_a_loader_may_be_read_every_epoch_as_it_is():
    loader = data_loader(0, 0)
    own = sweep(loader)
    listed = sweep(lambda epoch, seed: data_loader(0, 0))
    np.testing.assert_array_equal(own.history.train_loss, listed.history.train_loss)


def test_an_iterator_of_a_loader_is_read_once():
    """An endless one: `rows` says how long an epoch is."""
    endless = iter(grain.MapDataset.source(Rows()).repeat().batch(BATCH).to_iter_dataset())
    with pytest.warns(UserWarning, match="single iterator, which cannot be read again"):
        own = sweep(endless, rows=ROWS, classes=3)
    assert own.table().status.tolist() == ["done", "done"]
