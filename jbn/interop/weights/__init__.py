"""Batch norm layers and whole networks of other frameworks, exactly; and the layers out again.

`load` takes the arrays of a layer under its framework's own names and the layer's own arguments, and returns
`params, stats, settings`: `settings.infer(params, stats, x)` is the framework's inference, `settings.train` its
training with its own running statistics. `save` gives the arrays back. No framework is needed for it.
`load_network` does it for a whole MLP or CNN of PyTorch or Keras.

>>> import numpy as np
>>> from jbn.interop import weights
>>> arrays = {"running_mean": np.zeros(3, "float32"), "running_var": np.ones(3, "float32")}
>>> params, stats, settings = weights.load("pytorch", arrays, affine=False)
>>> y, stats = settings.train(params, stats, np.ones((4, 3), "float32"))
>>> weights.save(params, stats, settings, steps=1)["running_var"].tolist()
[0.8999..., 0.8999..., 0.8999...]

What the frameworks do: `m` and `v` are the running mean and variance, `mu` and `s2` those of the batch (`s2` divided by
n, `u2` by n - 1), `d` the weight of the old value, `e` epsilon. Where only `v` has a recurrence, the mean has the same.
Arrays are named in `load`'s errors and in `jbn/interop/weights/frameworks.py`.

| `framework` | recurrence | stored | here |
|---|---|---|---|
| `caffe` | `S = d S + u2`, `c = d c + 1`, `v = S / c` | sums, scale factor c; scale in its own layer | `v = S / c`, count c |
| `caffe2` | `v = d v + (1-d) s2` | v, in `riv` | as it is |
| `cntk` | `d = exp(-N / T)` for N samples, the first batch replaces; T < 0: all samples alike; `u2` | v; v1: `1/sqrt(v+e)` | count is samples |
| `dl4j` | `v = d v + (1-d) s2` | `log10(sqrt(v))`; to beta3: v + e; `useLogStd=False`: v | `10^(2s)`; less e; as it is |
| `keras2` | `v = d v + (1-d) s2`; four or five axes, fused: `u2` | v | as it is; `ddof_in_images` 1 |
| `keras3` | `v = d v + (1-d) s2` | v | as it is |
| `lasagne` | `i = d i + (1-d) / sqrt(s2+e)`, the mean plain | `i` | `v = i^-2 - e`; averages i |
| `mxnet` | `v = d v + (1-d) s2` | v; gamma also where it counts as 1 (`fix_gamma`) | scale 1, gamma kept |
| `paddle` | `v = d v + (1-d) s2` | v | as it is |
| `tensorflow` | fused: `v = d v + (1-d) u2`; `tf.nn.batch_normalization`: none | v | as it is; none: count infinite |
| `theano` | `v = d v + (1-d) u2`; first function: none | v; first function: `sqrt(v+e)` | as it is; squared |
| `torch7` | `v = d v + (1-d) u2`; first files: as `lasagne`; one sample: running ones | v; first files: `1/sqrt(v+e)` | as it is; `v = i^-2 - e` |
| `pytorch` | `v = d v + (1-d) u2`; `momentum=None`: all batches alike | v, number of batches | as it is; count of batches |
| `flax_linen`, `flax_nnx` | `v = d v + (1-d) s2` | v | as it is |
| `equinox` | "batch": `h = d h + (1-d) s2` from h = 1, `v = h / (1 - d^t)` | h, t | `v`, count `(1 - d^t) / (1 - d)` |
| | "ema": `v = d v + (1-d) s2`, the first replaces; v normalises in training too | v, whether it is the first | `blend` infinite |
| `haiku` | `h = d h + (1-d) s2` from 0, `v = h / (1 - d^t)` | v, h, t | `v`, count `(1 - d^t) / (1 - d)` |

Frameworks that give the weight of the new value have `1 - d` in their arguments (PyTorch, Torch7, Theano, Lasagne,
TensorFlow's fused one). A batch of fewer than two values a channel is refused here, whatever a framework does with it.
As their sources have them, but not compared with a run: DL4J, Torch7, Caffe's training, CNTK's blend and first files,
Theano's first function. All others were compared with what the framework computed.
"""  # noqa: E501 (a table)

from jbn.interop.weights.loading import Loaded as Loaded
from jbn.interop.weights.loading import load as load
from jbn.interop.weights.networks import Network as Network
from jbn.interop.weights.networks import load_network as load_network
from jbn.interop.weights.saving import save as save
from jbn.interop.weights.settings import Settings as Settings
