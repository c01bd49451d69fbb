"""The planner's choice of padded widths against five fixed ones: whole sweeps, each in a process of its own.

A plan that takes twice as long as the fastest before it is stopped there and then.
"""

import functools
import json
import subprocess
import sys
import time

from common import write

SPACES = {
    "digits, eight hyper-parameters": {"space": None, "configs": 256, "epochs": 50},
    "digits, widths 8 to 256": {
        "space": {
            "learning_rate": {"log_uniform": [1e-4, 1.0]},
            "hidden_units": {"integers": [8, 256]},
            "layers": {"integers": [1, 3]},
        },
        "configs": 512,
        "epochs": 32,
    },
    "digits, three widths": {
        "space": {
            "learning_rate": {"log_uniform": [1e-4, 1.0]},
            "hidden_units": {"choice": [32, 96, 192]},
            "batch_size": {"choice": [64, 128]},
        },
        "configs": 256,
        "epochs": 20,
    },
}
FIXED = (1, 2, 3, 4, "exact")
PATIENCE = 2.0


def one(name, classes):
    """A sweep in this process; prints seconds and what the plan was expected to take."""
    import jax

    import jbn
    import jbn.runs.sweep as runs
    from jbn.engine.plan import plan

    setting = SPACES[name]
    space = (
        jbn.search.defaults(all=True) if setting["space"] is None else jbn.Space.from_spec(setting["space"])
    )
    chosen = []

    def planned(*arguments, **options):
        chosen.append(plan(*arguments, **options, classes=classes))
        return chosen[-1]

    runs.plan = planned
    task = jbn.Task(model=jbn.mlp(), data=jbn.data.digits())
    configs = jbn.search.random(space, setting["configs"], key=0)
    expected = []
    start = time.perf_counter()
    result = jbn.sweep(
        task,
        configs,
        epochs=setting["epochs"],
        key=jax.random.key(1),
        max_programs=None,
        on_plan=expected.append,
    )
    seconds = time.perf_counter() - start
    timings, before = result.timings, expected[0]
    print(
        json.dumps(
            {
                "classes": chosen[0].classes,
                "seconds": seconds,
                "programs": before.programs,
                "compile": [before.compile_seconds, timings.trace + timings.compile],
                "run": [before.run_seconds, result.run_seconds],
                "padded": before.padded_share,
            }
        )
    )


def measured(name, classes, limit=None):
    """The same from a process of its own; None if it took longer than the limit."""
    arguments = [sys.executable, __file__, name, json.dumps(classes)]
    try:
        done = subprocess.run(arguments, stdout=subprocess.PIPE, check=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return None
    return json.loads(done.stdout.splitlines()[-1])


def main():
    if sys.argv[1:]:
        one(sys.argv[1], json.loads(sys.argv[2]))
        return
    results = {}
    for name in SPACES:
        own = measured(name, None)
        fixed, best = {}, own["seconds"]
        show = functools.partial(print, flush=True)
        show(f"{name}: {own['classes']} classes, {own['seconds']:.1f} s", json.dumps(own))
        for classes in FIXED:
            found = measured(name, classes, PATIENCE * best + 10)
            fixed[classes] = found
            best = min(best, found["seconds"]) if found else best
            show(f"  {classes}: " + (f"{found['seconds']:.1f} s" if found else "stopped"), json.dumps(found))
        again = measured(name, None)
        seconds = (own["seconds"] + again["seconds"]) / 2
        fastest = min(found["seconds"] for found in fixed.values() if found)
        show(f"  the plan's {seconds:.1f} s are {seconds / fastest:.2f} of the fastest fixed plan's")
        results[name] = {"plan": [own, again], "fixed": fixed, "ratio": seconds / fastest}
    write("plans", {"spaces": SPACES, "results": results})


if __name__ == "__main__":
    main()
