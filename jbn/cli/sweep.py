"""`jbn sweep`: from a spec to the table of the best."""

import dataclasses
import datetime
import functools
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

import jbn
from jbn import policies, store
from jbn.cli.explain import show_outcome, show_plan
from jbn.cli.progress import display, interruptible
from jbn.cli.show import show_regions, show_summary, show_table, show_winner
from jbn.cli.spec import Spec, of_run
from jbn.engine.plan import MANY_PROGRAMS
from jbn.errors import InputError
from jbn.runs.loop import Progress
from jbn.runs.reopened import ended
from jbn.runs.result import Result
from jbn.runs.rounds import Rounds, split
from jbn.search import Configs, Space
from jbn.task.data import Data
from jbn.task.optimizer_choice import with_defaults

ALL_DIVERGED, INTERRUPTED = 1, 130
_SEARCH, _TRAINING = 0, 1  # purposes of the seed's key


@dataclasses.dataclass(frozen=True)
class How:
    """How a sweep runs, whatever it trains.

    Args:
        cache: keep compiled programs for the next run.
        explain: show the plan, and at the end how it went.
        tune: time tile and chunk capacity first.
        yes: go on whatever the number of programs.
        resume: go on with the run in the spec's folder.
        epochs: for how many in all, where it goes on; default: as many as it was to have.
        configs: with how many in all, where it has ended.
    """

    cache: bool = True
    explain: bool = False
    tune: bool = False
    yes: bool = False
    resume: bool = False
    epochs: int | None = None
    configs: int | None = None


def run(spec: Spec, console: Console, how: How) -> int:
    """Trains what the spec says and shows the outcome; the exit code.

    Raises:
        InputError: before anything is written.
    """
    out = spec.out or default_folder(spec.data)
    if not how.resume:
        store.check_free(out)
    task = task_of(spec)
    if how.cache:
        keep_programs()
    console.print(repr(task.data), highlight=False, soft_wrap=True)
    spec = dataclasses.replace(spec, space=spec.space or default_space(task.data))
    search = _in_rounds if spec.rounds > 1 else _at_once
    return search(task, spec, out, console, how)


def again(folder: Path, spec: Path | None, options: Mapping[str, Any], console: Console, how: How) -> int:
    """Goes on with a recorded run and shows the outcome; the exit code.

    Raises:
        InputError: no run in the folder, or one that cannot go on so; before anything is written.
    """
    given = {name: value for name, value in options.items() if value not in (None, [])}
    other = [*(["a spec"] if spec is not None else []), *(f"--{name.replace('_', '-')}" for name in given)]
    taken = ("--epochs", "--configs", "--rounds", "--data-dir")
    if refused := [name for name in other if name not in taken]:
        raise InputError(
            f"a run goes on as it began: leave out {refused[0]}; --resume takes {', '.join(taken)}"
        )
    if "epochs" in given and len(store.rounds(folder)) > 1:
        raise InputError(f"more epochs are for a single sweep, but {str(folder)!r} has several rounds")
    if len(more := [name for name in other if name in taken[:3]]) > 1:
        raise InputError(f"give one of {' and '.join(more)} at a time")
    own = of_run(
        folder, "--resume trains what the run's spec says", "call jbn.resume in Python with its task"
    )
    own = dataclasses.replace(own, out=str(folder), data_dir=given.get("data_dir", own.data_dir))
    if "rounds" in given:  # as many configurations in each new round as there were on the average
        share = own.configs // own.rounds
        own = dataclasses.replace(own, rounds=given["rounds"], configs=share * given["rounds"])
    how = dataclasses.replace(how, resume=True, epochs=given.get("epochs"), configs=given.get("configs"))
    return run(own, console, how)


def task_of(spec: Spec) -> jbn.Task:
    """What a spec trains, with its data loaded.

    Raises:
        InputError: data that cannot be used, or a loss, metric or objective that is not for such targets.
    """
    data = jbn.data.load(
        spec.data,
        data_dir=spec.data_dir,
        targets=spec.targets,
        target=spec.target,
        categorical=spec.categorical,
        drop=spec.drop,
        seed=spec.seed,
    )
    return jbn.Task(
        model=jbn.mlp(),
        data=data,
        loss=spec.loss,
        metrics=spec.metrics,
        objective=spec.objective,
        normalize=not spec.raw_inputs,
        steps_per_epoch=spec.steps_per_epoch,
    )


def _at_once(task: jbn.Task, spec: Spec, out: str, console: Console, how: How) -> int:
    """One sweep over all configurations."""
    if how.resume:
        return _show(
            _watched(functools.partial(_gone_on, task, spec, out, how), spec, out, console, how), out, console
        )
    configs = draw(spec, task.data)
    task.check(with_defaults(task, configs))
    _announce(console, spec, f"{configs.count} configurations")
    result = _watched(
        lambda options: jbn.sweep(task, configs, key=_training_key(spec), **options), spec, out, console, how
    )
    code = _show(result, out, console)
    if result.forecast is not None:
        show_outcome(console, result.forecast, result)
    return code


def _in_rounds(task: jbn.Task, spec: Spec, out: str, console: Console, how: How) -> int:
    """Coarse to fine."""
    shares = split(spec.configs, spec.rounds)
    words = f"{spec.configs} configurations in {spec.rounds} rounds, {' + '.join(map(str, shares))}"
    _announce(console, spec, words)
    space = spec.space or default_space(task.data)

    def on_round(place: int, space: Space, drawn: Configs) -> None:
        console.print(f"round {place + 1}: {drawn.count} configurations", highlight=False)

    found = _watched(
        lambda options: jbn.coarse_to_fine(
            task,
            space,
            configs=spec.configs,
            rounds=spec.rounds,
            key=_training_key(spec),
            on_round=on_round,
            resume=how.resume,
            **options,
        ),
        spec,
        out,
        console,
        how,
    )
    code = _show(found, out, console)
    if how.explain:
        for result in found.results:
            if result.forecast is not None:
                show_outcome(console, result.forecast, result)
    return code


def _gone_on(task: jbn.Task, spec: Spec, out: str, how: How, options: dict[str, Any]) -> Result:
    """What comes of more segments, or of more configurations."""
    own = {name: options[name] for name in ("policy", "on_segment")}
    if how.configs is None:
        left = [place for place in store.rounds(out) if not ended(place)]
        return jbn.resume(left[0] if left else out, task, epochs=how.epochs, **own)
    there = len(store.read(out).configurations)
    if spec.grid is not None or how.configs <= there:
        reason = "is a grid" if spec.grid is not None else f"has {there} configurations"
        raise InputError(f"the run in {out!r} {reason}: give more (--configs), of a random search")
    everyone = draw(
        dataclasses.replace(spec, configs=how.configs), task.data
    )  # the first of them are those it has
    return jbn.extend(out, task, {name: values[there:] for name, values in everyone.items()}, **own)


def _announce(console: Console, spec: Spec, words: str) -> None:
    each = f", {spec.seeds} seeds each" if spec.seeds > 1 else ""
    each += f", {spec.folds} folds" if spec.folds > 1 else ""
    console.print(f"{words}{each}, {spec.epochs} epochs, seed {spec.seed}", highlight=False, soft_wrap=True)


def draw(spec: Spec, data: Data) -> Configs:
    """The configurations of a spec."""
    space = spec.space or default_space(data)
    if spec.grid is not None:
        return jbn.search.grid(space, spec.grid)
    return jbn.search.random(space, spec.configs, key=search_key(spec))


def default_space(data: Data) -> Space:
    """All eight hyper-parameters; of the batch sizes those that the training part can fill."""
    space = jbn.search.defaults(all=True)
    rows = data.rows
    sizes = [size for size in (32, 64, 128, 256) if size <= rows]
    if not sizes:
        raise InputError(
            f"the default batch sizes need at least 32 training rows, but there are {rows}; "
            "name smaller ones in a spec: batch_size = {choice = [4, 8]}"
        )
    return Space(**{**space, "batch_size": jbn.choice(*sizes)})


def keep_programs() -> None:
    """JAX's persistent compilation cache, in the user's cache folder unless JAX is told of another."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(root) / "jbn" / "programs"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def default_folder(data: str, *, before: str = "") -> str:
    """`runs/DATA-DATE`, with `before` in front, and the time of day: two runs of a day do not meet."""
    return f"runs/{before}{Path(data).absolute().stem}-{datetime.datetime.now().strftime('%Y-%m-%d-%H%M%S')}"


def search_key(spec: Spec) -> jax.Array:
    """What draws the configurations of a spec."""
    return jax.random.fold_in(jax.random.key(spec.seed), _SEARCH)


def _training_key(spec: Spec) -> jax.Array:
    return jax.random.fold_in(jax.random.key(spec.seed), _TRAINING)


def _watched(train: Callable[[dict[str, Any]], Any], spec: Spec, out: str, console: Console, how: How) -> Any:
    """What comes of training with a bar, and with Ctrl-C as a wish to end."""
    settings = {"seed": spec.seed, "command": sys.argv[1:], "spec": plain(spec)}
    with interruptible(console) as wish, display(console) as shown:

        def on_segment(state: Progress) -> bool:
            shown.show(state)
            return wish.asked

        return train(
            {
                "epochs": spec.epochs,
                "seeds": spec.seeds,
                "folds": spec.folds,
                "policy": _policy(spec),
                "out": out,
                "on_plan": functools.partial(show_plan, console) if how.explain else None,
                "on_segment": on_segment,
                "tuned": how.tune,
                "max_programs": None if how.yes else MANY_PROGRAMS,
                "settings": settings,
            }
        )


def _show(result: Result | Rounds, out: str, console: Console) -> int:
    results = result.results if isinstance(result, Rounds) else (result,)
    show_table(console, result)
    if isinstance(result, Rounds):
        show_regions(console, result.spaces)
    show_summary(console, results)
    lost = all(own.winner is None for own in results)
    if lost:
        console.print(
            "every configuration diverged: lower the learning rates", highlight=False, soft_wrap=True
        )
    elif not result.interrupted:
        show_winner(console, result.best(), result.test, seeds=results[0].seeds, folds=results[0].folds)
    console.print(f"written to {out}", highlight=False, soft_wrap=True)
    if result.interrupted:
        done = len(results[-1].history.steps)
        where = f" of round {len(results)}" if isinstance(result, Rounds) else ""
        console.print(
            f"interrupted after {done} segments{where}; to go on: jbn sweep --resume {shlex.quote(out)}",
            highlight=False,
            soft_wrap=True,
        )
        return INTERRUPTED
    return ALL_DIVERGED if lost else 0


def _policy(spec: Spec) -> policies.Policy | None:
    """The policy of a spec, with its usual numbers."""
    if spec.policy == "pbt" and spec.space is not None:
        return policies.pbt(spec.space)
    return None if spec.policy is None else getattr(policies, spec.policy)()


def plain(spec: Spec) -> dict[str, object]:
    """A spec as values that JSON knows; `spec_of` is the way back."""
    fields = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}
    return {**fields, "space": None if spec.space is None else spec.space.to_spec()}
