"""Data sources as fixed host arrays: training, validation and test part, checked once when they are made."""

from jbn.task.data.folding import folded as folded
from jbn.task.data.parts import Data as Data
from jbn.task.data.parts import Part as Part
from jbn.task.data.sources import arrays as arrays
from jbn.task.data.sources import digits as digits
from jbn.task.data.sources import load as load
from jbn.task.data.sources import mnist as mnist
from jbn.task.data.sources import npz as npz
from jbn.task.data.table import table as table
