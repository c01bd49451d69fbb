"""Policies: pure functions from a population's history to edits of it, run on the host between segments."""

from jbn.policies.interface import DIVERGED as DIVERGED
from jbn.policies.interface import DONE as DONE
from jbn.policies.interface import RUNNING as RUNNING
from jbn.policies.interface import STATUS_NAMES as STATUS_NAMES
from jbn.policies.interface import STOPPED as STOPPED
from jbn.policies.interface import Edits as Edits
from jbn.policies.interface import History as History
from jbn.policies.interface import Policy as Policy
from jbn.policies.interface import watch as watch
from jbn.policies.ranking import rank as rank
from jbn.policies.stopping import halving as halving
from jbn.policies.stopping import median_stopping as median_stopping
