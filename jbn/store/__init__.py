"""A run's folder on disk: one SQLite database of settings and curves, and weights as .npz."""

from jbn.store import checkpoints as checkpoints
from jbn.store import journal as journal
from jbn.store.checkpoints import Checkpoint as Checkpoint
from jbn.store.database import Store as Store
from jbn.store.database import check_free as check_free
from jbn.store.database import create as create
from jbn.store.database import exists as exists
from jbn.store.database import reopen as reopen
from jbn.store.lock import Lock as Lock
from jbn.store.record import Record as Record
from jbn.store.record import read as read
from jbn.store.record import read_spreads as read_spreads
from jbn.store.record import rounds as rounds
from jbn.store.rows import EventRow as EventRow
from jbn.store.rows import JsonValue as JsonValue
from jbn.store.rows import SegmentRows as SegmentRows
from jbn.store.schema import column as column
from jbn.store.schema import standard_error as standard_error
from jbn.store.weights import load_weights as load_weights
from jbn.store.weights import save_weights as save_weights
