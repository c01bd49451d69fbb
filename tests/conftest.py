"""Settings of the whole test run: strict arrays, checked annotations, compiled programs kept between runs."""

import gc
import os
import tempfile
from pathlib import Path

# Before JAX is imported, and for the processes that tests start.
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or tempfile.gettempdir())
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(_CACHE / "jbn-tests")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax  # noqa: E402
import jaxtyping  # noqa: E402
import pytest  # noqa: E402

# Shapes and types in signatures of everything numerical are checked at every call.
_NUMERICAL = ["jbn.nn", "jbn.engine", "jbn.policies"]
_NUMERICAL += [f"jbn.task.{name}" for name in ("losses", "member", "optimizers", "packing", "probe")]
_NUMERICAL += ["jbn.task.streams", "jbn.task.schedules", "jbn.task.transforms"]
_NUMERICAL += [f"jbn.interop.{name}" for name in ("convolution", "functions", "layers", "products")]
jaxtyping.install_import_hook(_NUMERICAL, "beartype.beartype")

from jbn.engine.room import forget  # noqa: E402 (after the hook)

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True, scope="module")
def _programs_of_one_module_at_a_time():
    """Compiled programs are memory maps, of which a process may have 65,530: a whole run has more."""
    yield
    forget()
    jax.clear_caches()


def pytest_collection_finish(session):
    """What is there by now stays: no need to look through it for garbage again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
