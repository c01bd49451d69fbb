"""What a policy did to whom, as a table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jbn.policies import Event

if TYPE_CHECKING:
    import pandas as pd


def lineage_table(events: Sequence[Event], seeds: int) -> "pd.DataFrame":
    """Events as a table; see `Result.lineage`."""
    import pandas as pd

    source = np.array([-seeds if event.source is None else event.source for event in events], np.int64)
    member = np.array([event.member for event in events], np.int64)
    columns = {
        "segment": np.array([event.segment for event in events], np.int64),
        "config_id": member // seeds,
        "seed": member % seeds,
        "event": np.array([event.kind for event in events], object),
        "source_config_id": source // seeds,
        "source_seed": np.where(source < 0, -1, source % seeds),
    }
    names = dict.fromkeys(name for event in events for name in event.values)
    values = {name: [event.values.get(name, np.nan) for event in events] for name in names}
    return pd.DataFrame(columns | values)
