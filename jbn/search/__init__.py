"""Search spaces, and the configurations drawn from them: host numbers only, no networks."""

from jbn.search.configs import Configs as Configs
from jbn.search.sampling import grid as grid
from jbn.search.sampling import random as random
from jbn.search.scales import choice as choice
from jbn.search.scales import integers as integers
from jbn.search.scales import log_uniform as log_uniform
from jbn.search.scales import reverse_log_uniform as reverse_log_uniform
from jbn.search.scales import uniform as uniform
from jbn.search.space import Space as Space
from jbn.search.space import defaults as defaults
