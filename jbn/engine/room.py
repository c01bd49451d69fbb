"""Room for compiled programs: a process may hold only so many memory maps."""

import logging
from pathlib import Path

from jbn.engine import executables
from jbn.engine.programs import evaluate_program, init_program, train_program

_MAPS, _MOST_MAPS = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")
_log = logging.getLogger("jbn")


def make_room() -> None:
    """Forgets the programs of earlier sweeps if they take half of the memory maps that the process may have.

    On a CPU a program is about 130 memory maps, of which Linux allows 65,530 a process; the next one then ends it.
    """
    try:
        used, most = _MAPS.read_bytes().count(b"\n"), int(_MOST_MAPS.read_text())
    except OSError:  # another system
        return
    if used > most // 2:
        _log.info(
            "forgetting the compiled programs of earlier sweeps: %d of %d memory maps are used", used, most
        )
        forget()


def forget() -> None:
    """Lets go of all programs of sweeps; what is needed again is compiled again."""
    executables.forget()
    for program in (init_program, train_program, evaluate_program):
        program.cache_clear()
