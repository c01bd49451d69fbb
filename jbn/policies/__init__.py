"""Policies: pure functions from a population's history to edits of it, run on the host between segments."""

from jbn.policies.diagnosis import Finding as Finding
from jbn.policies.diagnosis import Watched as Watched
from jbn.policies.diagnosis import diagnose as diagnose
from jbn.policies.interface import DIVERGED as DIVERGED
from jbn.policies.interface import DONE as DONE
from jbn.policies.interface import RUNNING as RUNNING
from jbn.policies.interface import STATUS_NAMES as STATUS_NAMES
from jbn.policies.interface import STOPPED as STOPPED
from jbn.policies.interface import Edits as Edits
from jbn.policies.interface import Event as Event
from jbn.policies.interface import History as History
from jbn.policies.interface import Policy as Policy
from jbn.policies.interface import expected_epochs as expected_epochs
from jbn.policies.interface import next_decision as next_decision
from jbn.policies.interface import watch as watch
from jbn.policies.pbt import pbt as pbt
from jbn.policies.ranking import rank as rank
from jbn.policies.schedule import Schedule as Schedule
from jbn.policies.schedule import schedule_of as schedule_of
from jbn.policies.stopping import halving as halving
from jbn.policies.stopping import median_stopping as median_stopping
