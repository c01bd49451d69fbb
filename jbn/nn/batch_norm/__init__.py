"""Batch normalisation (Ioffe and Szegedy 2015) as pure functions on explicit statistics.

Two verbs and no mode flag: `train` normalises with the statistics of the batch and moves the running ones,
`infer` normalises with the running ones. `moments`, `update` and `normalize` are the parts they are made of, so
three choices stay independent, with `b = moments(x)`:

- which statistics normalise: the batch's in `normalize(params, x, b.mean, b.variance(), rest=b.rest)`, the running
  ones in `infer(params, stats, x)`;
- whether the running ones move: `update(stats, b)`, or keep `stats`, or start them with an infinite count;
- whether the affine part is used: `params`, or None in place of it, of its `scale` or of its `bias`.

`train_ghost` and `train_renormalized` are other compositions of the parts; `collect` with `population`, `average` or
`replay` estimates statistics for test time from a whole training set; `fold` and `fold_into_next` leave batch norm
out at inference.
"""

from jbn.nn.batch_norm.estimates import average as average
from jbn.nn.batch_norm.estimates import collect as collect
from jbn.nn.batch_norm.estimates import population as population
from jbn.nn.batch_norm.estimates import replay as replay
from jbn.nn.batch_norm.folding import fold as fold
from jbn.nn.batch_norm.folding import fold_into_next as fold_into_next
from jbn.nn.batch_norm.parts import BatchNormParams as BatchNormParams
from jbn.nn.batch_norm.parts import BatchNormStats as BatchNormStats
from jbn.nn.batch_norm.parts import init as init
from jbn.nn.batch_norm.parts import moments as moments
from jbn.nn.batch_norm.parts import normalize as normalize
from jbn.nn.batch_norm.parts import update as update
from jbn.nn.batch_norm.variants import train_ghost as train_ghost
from jbn.nn.batch_norm.variants import train_renormalized as train_renormalized
from jbn.nn.batch_norm.verbs import infer as infer
from jbn.nn.batch_norm.verbs import train as train
from jbn.nn.moments import Moments as Moments
