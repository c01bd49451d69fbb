"""jbn trains a whole hyper-parameter sweep of batch-normalised networks as one program."""

from typing import Any as _Any

from jbn import search as search
from jbn.errors import InputError as InputError
from jbn.interop.functions import model as model
from jbn.nn import batch_norm as batch_norm
from jbn.nn.cnn import cnn as cnn
from jbn.nn.dropout import dropout as dropout
from jbn.nn.mlp import mlp as mlp
from jbn.nn.model import Model as Model
from jbn.policies import Edits as Edits
from jbn.policies import History as History
from jbn.policies import halving as halving
from jbn.policies import median_stopping as median_stopping
from jbn.policies import pbt as pbt
from jbn.runs.result import Result as Result
from jbn.runs.rounds import coarse_to_fine as coarse_to_fine
from jbn.runs.sweep import sweep as sweep
from jbn.search import Space as Space
from jbn.search import choice as choice
from jbn.search import integers as integers
from jbn.search import log_uniform as log_uniform
from jbn.search import reverse_log_uniform as reverse_log_uniform
from jbn.search import uniform as uniform
from jbn.task import data as data
from jbn.task.losses import loss as loss
from jbn.task.metrics import metric as metric
from jbn.task.objectives import objective as objective
from jbn.task.optimizers import Optimizer as Optimizer
from jbn.task.own_optimizer import optimizer as optimizer
from jbn.task.task import Task as Task
from jbn.task.train_function import train_function as train_function

_LAZY = {  # flax takes its time to import; the others are needed by few
    "from_linen": ("jbn.interop.linen", "from_linen"),
    "from_nnx": ("jbn.interop.nnx", "from_nnx"),
    "linen": ("jbn.interop.linen", None),
    "nnx": ("jbn.interop.nnx", None),
    "advise": ("jbn.runs.advise", "advise"),
    "extend": ("jbn.runs.extend", "extend"),
    "load": ("jbn.runs.saved", "load"),
    "panda": ("jbn.runs.panda", "panda"),
    "resume": ("jbn.runs.resume", "resume"),
    "retest": ("jbn.runs.retest", "retest"),
}


def __getattr__(name: str) -> _Any:
    """What is imported only when it is used."""
    import importlib

    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    path, attribute = _LAZY[name]
    module = importlib.import_module(path)
    return module if attribute is None else getattr(module, attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
