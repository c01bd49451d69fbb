"""Search spaces, and the configurations drawn from them: host numbers only, no networks."""

from jbn.search.ask_tell import Batches as Batches
from jbn.search.ask_tell import optuna as optuna
from jbn.search.configs import Configs as Configs
from jbn.search.dimensions import Dimension as Dimension
from jbn.search.importance import Importance as Importance
from jbn.search.importance import importance as importance
from jbn.search.neighbours import neighbours as neighbours
from jbn.search.refinement import refine as refine
from jbn.search.sampling import grid as grid
from jbn.search.sampling import latin_hypercube as latin_hypercube
from jbn.search.sampling import quasi_random as quasi_random
from jbn.search.sampling import random as random
from jbn.search.scales import choice as choice
from jbn.search.scales import integers as integers
from jbn.search.scales import log_uniform as log_uniform
from jbn.search.scales import quantized as quantized
from jbn.search.scales import reverse_log_uniform as reverse_log_uniform
from jbn.search.scales import uniform as uniform
from jbn.search.scales import when as when
from jbn.search.space import Space as Space
from jbn.search.space import defaults as defaults
from jbn.search.studies import Observed as Observed
from jbn.search.studies import from_optuna as from_optuna
