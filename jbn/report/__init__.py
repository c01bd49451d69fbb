"""Pictures of a sweep; reads its store, never trains."""

from jbn.report.curves import learning_curves as learning_curves
