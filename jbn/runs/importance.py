"""What mattered in a recorded run."""

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from jbn import store
from jbn.errors import InputError
from jbn.runs.result import important
from jbn.search import Configs, Space

if TYPE_CHECKING:
    import pandas as pd


def importance_of_run(folder: str | os.PathLike[str], **options: Any) -> "pd.DataFrame":
    """How much each hyper-parameter mattered in a run; of a search in rounds, in the first one.

    Args:
        folder: of the run.
        **options: as for `jbn.search.importance`.

    Returns:
        The table of `Result.importance`.

    Raises:
        InputError: no run in the folder, one whose configurations come from no space, or as
            `jbn.search.importance`.
    """
    run = store.read(folder)
    if run.settings.get("space") is None:
        raise InputError(
            f"importance needs the space that configurations come from, but the run in {str(folder)!r} has none "
            "recorded: draw them with jbn.search"
        )
    table = run.configurations
    if "round" in table:
        table = table[table["round"] == 1]
    space = Space.from_spec(run.settings["space"])
    configs = Configs({name: table[name].to_numpy() for name in space if name in table}, space=space)
    usable = (table["status"] != "diverged").to_numpy()
    scores = run.objective.scores(table["objective"].to_numpy(float))
    return important((configs, np.where(usable, scores, np.nan)), **options)
