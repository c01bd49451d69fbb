"""Data sources: training, validation and test part, as arrays in memory or, for training, read in blocks."""

from jbn.task.data.blocks import Blocks as Blocks
from jbn.task.data.mapped import memory_map as memory_map
from jbn.task.data.mapped import shards as shards
from jbn.task.data.parts import Data as Data
from jbn.task.data.parts import Folds as Folds
from jbn.task.data.parts import Part as Part
from jbn.task.data.sources import arrays as arrays
from jbn.task.data.sources import digits as digits
from jbn.task.data.sources import load as load
from jbn.task.data.sources import mnist as mnist
from jbn.task.data.sources import npz as npz
from jbn.task.data.streamed import stream as stream
from jbn.task.data.table import table as table
