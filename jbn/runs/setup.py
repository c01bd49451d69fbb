"""A sweep that is laid out, before it is trained."""

import dataclasses

from jaxtyping import PRNGKeyArray

from jbn.engine.plan import Plan
from jbn.search import Configs
from jbn.task.task import Task


@dataclasses.dataclass(frozen=True, eq=False)
class Setup:
    """A sweep that is laid out.

    Args:
        given: the task as it was given.
        task: with folds, and with all that depends on configurations and length settled.
        shown: configurations as tables have them.
        columns: as they are trained, with defaults where conditions leave gaps.
        layout: which of them share a program.
        epochs: how long.
        key: of all random streams.
        seeds: members of a configuration: seed indices times folds.
        folds: of cross-validation; 1 is none.
    """

    given: Task
    task: Task
    shown: Configs
    columns: Configs
    layout: Plan
    epochs: int
    key: PRNGKeyArray
    seeds: int
    folds: int

    @property
    def each(self) -> int:
        """Members of a configuration in one fold."""
        return self.seeds // self.folds
