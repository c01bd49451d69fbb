"""The commands and their options."""

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from jbn.cli.panda import panda
from jbn.errors import InputError

INPUT_ERROR, INTERRUPTED = 2, 130

app = typer.Typer(
    name="jbn",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Trains a whole hyper-parameter sweep of batch-normalised networks as one program.",
)

app.add_typer(panda, name="panda")


def main() -> NoReturn:
    """Runs the command line; wrong input is one message and exit code 2, never a traceback."""
    try:
        app()
    except InputError as error:
        Console(stderr=True, soft_wrap=True).print(f"error: {error}", markup=False, highlight=False)
        sys.exit(INPUT_ERROR)
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader went away; so do we
        sys.exit(0)
    sys.exit(0)


@app.callback()
def _root() -> None:
    """Without it, typer would make the only command the whole program."""


@app.command()
def sweep(
    spec: Annotated[Path | None, typer.Argument(help="A TOML file; options win over it.")] = None,
    configs: Annotated[
        int | None, typer.Option(help="Configurations to draw at random.  [default: 256]")
    ] = None,
    grid: Annotated[int | None, typer.Option(help="Try a grid with so many points per axis instead.")] = None,
    rounds: Annotated[
        int | None,
        typer.Option(
            help="Search from coarse to fine: so many rounds share the configurations.  [default: 1]"
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training part.  [default: 50]")] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            help="Stop what falls behind: halving, median_stopping; or go on from the best: pbt.  [default: none]"
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of split, search and training.  [default: 0]")] = None,
    seeds: Annotated[
        int | None,
        typer.Option(help="Train each with so many seeds; show mean ± standard error.  [default: 1]"),
    ] = None,
    folds: Annotated[
        int | None, typer.Option(help="Cross-validate with so many folds; 1 is none.  [default: 1]")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="digits, mnist, an .npz, .csv or .parquet file, or a folder of shards.  [default: digits]"
        ),
    ] = None,
    target: Annotated[str | None, typer.Option(help="The column of a table to predict.")] = None,
    categorical: Annotated[
        list[str] | None, typer.Option(help="A column of a table whose numbers name categories; repeatable.")
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option(help="A column of a table that is no feature; repeatable.")
    ] = None,
    data_dir: Annotated[str | None, typer.Option(help="Where the files of mnist lie.")] = None,
    raw_inputs: Annotated[
        bool | None,
        typer.Option("--raw-inputs", help="Take features as they are in the data, not standardised."),
    ] = None,
    out: Annotated[str | None, typer.Option(help="Folder of the run.  [default: runs/DATA-DATE]")] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Go on with the run in this folder from its last checkpoint; with --epochs for longer."
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Show the plan and what it should cost; at the end, what it did."),
    ] = False,
    tune: Annotated[
        bool, typer.Option("--tune", help="Time tile and chunk sizes first; keep the choice with the run.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Go on even if it takes more than 32 programs.")] = False,
    cache: Annotated[bool, typer.Option(help="Keep compiled programs for the next run.")] = True,
) -> None:
    """Train many configurations at once and show the best.

    Without a spec it varies learning_rate, beta1, beta2, epsilon, layers, hidden_units, decay_rate and
    batch_size.
    A spec may set configs, grid, rounds, epochs, policy, seed, seeds, folds, data, data_dir, target, categorical,
    drop, raw_inputs, out, targets, loss, metrics, objective, steps_per_epoch and a table [space],
    e.g. learning_rate = {log_uniform = [1e-4, 1.0]}.
    """
    from jbn.cli.spec import resolve
    from jbn.cli.sweep import How, run

    options = dict(
        configs=configs,
        grid=grid,
        rounds=rounds,
        epochs=epochs,
        policy=policy,
        seed=seed,
        seeds=seeds,
        folds=folds,
        data=data,
        target=target,
        categorical=categorical,
        drop=drop,
        data_dir=data_dir,
        raw_inputs=raw_inputs,
        out=out,
    )
    how = How(cache=cache, explain=explain, tune=tune, yes=yes)
    if resume is not None:
        from jbn.cli.sweep import again

        raise typer.Exit(again(resume, spec, options, Console(), how))
    raise typer.Exit(run(resolve(spec, options), Console(), how))


@app.command()
def advise(
    budget: Annotated[str, typer.Option(help="Time for the sweep: 2h, 90m, 30s, 1h30m.")],
    spec: Annotated[Path | None, typer.Argument(help="A TOML file; options win over it.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training part.  [default: 50]")] = None,
    seed: Annotated[int | None, typer.Option(help="Of split and search.  [default: 0]")] = None,
    seeds: Annotated[int | None, typer.Option(help="Train each with so many seeds.  [default: 1]")] = None,
    folds: Annotated[
        int | None, typer.Option(help="Cross-validate with so many folds; 1 is none.  [default: 1]")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="digits, mnist, an .npz, .csv or .parquet file, or a folder of shards.  [default: digits]"
        ),
    ] = None,
    target: Annotated[str | None, typer.Option(help="The column of a table to predict.")] = None,
    categorical: Annotated[
        list[str] | None, typer.Option(help="A column of a table whose numbers name categories; repeatable.")
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option(help="A column of a table that is no feature; repeatable.")
    ] = None,
    data_dir: Annotated[str | None, typer.Option(help="Where the files of mnist lie.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Go on even if it takes more than 32 programs.")] = False,
    cache: Annotated[bool, typer.Option(help="Keep compiled programs for the sweep.")] = True,
) -> None:
    """Say how many configurations a time holds on this machine, and which way to go.

    panda: babysit one model. caviar: a sweep of many at once, or a sweep with halving. The programs of the
    sweep are compiled and a few configurations trained for some segments; the sweep then starts with these programs.
    A spec is one of `jbn sweep`, without grid, rounds and policy.
    """
    from jbn.cli.advise import run
    from jbn.cli.spec import resolve

    options = dict(
        epochs=epochs,
        seed=seed,
        seeds=seeds,
        folds=folds,
        data=data,
        target=target,
        categorical=categorical,
        drop=drop,
        data_dir=data_dir,
    )
    given = [text for name, value in options.items() for text in _as_typed(name, value)]
    own = resolve(spec, options)
    raise typer.Exit(run(own, Console(), budget=budget, path=spec, given=given, cache=cache, yes=yes))


def _as_typed(name: str, value: object) -> list[str]:
    """An option as on the command line."""
    values = [] if value is None else value if isinstance(value, list) else [value]
    return [text for own in values for text in (f"--{name.replace('_', '-')}", str(own))]


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Folder of a run.")],
    path: Annotated[Path, typer.Argument(help="File or folder to write; - prints csv and jsonl.")],
    to: Annotated[
        str, typer.Option(help="Format: csv, parquet, jsonl, optuna, tensorboard or netcdf.")
    ] = "csv",
    intact: Annotated[
        bool, typer.Option("--intact", help="Of a damaged run, what is whole; say what is left out.")
    ] = False,
) -> None:
    """Write a run for another tool; also one that still runs, or was interrupted.

    csv, parquet: the table, one row per configuration, best first.

    jsonl: one JSON object per configuration, best first, with its curves.

    optuna: a study, one trial per configuration; SQLite where PATH ends in .db, .sqlite or .sqlite3, else a journal.

    tensorboard: a folder of scalars and hyper-parameters for tensorboard --logdir PATH.

    netcdf: all curves as an xarray Dataset.

    A path that exists is refused; only a CSV file is replaced.
    """
    from jbn.cli.export import run

    run(folder, path, to=to, intact=intact)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a run.")],
    html: Annotated[Path | None, typer.Option(help="Page to write.  [default: FOLDER/report.html]")] = None,
    png: Annotated[
        Path | None, typer.Option(help="Write the learning curves as a picture, in the place of the page.")
    ] = None,
    width: Annotated[
        float | None, typer.Option(help="Of the picture, in cm: 8 is a column, 18 a page.  [default: 8]")
    ] = None,
    live: Annotated[
        bool, typer.Option("--serve", help="Show the page while the run goes on, on this machine alone.")
    ] = False,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Where to serve; 0 is any.  [default: 8321]")
    ] = None,
) -> None:
    """Write one page about a run, which opens in a browser without a network.

    Of a search in rounds, also show how the region moved.
    """
    from jbn.cli.report import How, run

    run(folder, How(html=html, png=png, width=width, serve=live, port=port), Console(soft_wrap=True))


@app.command()
def importance(
    folder: Annotated[Path, typer.Argument(help="Folder of a run.")],
    method: Annotated[str, typer.Option(help="ped_anova or fanova.")] = "ped_anova",
    resamples: Annotated[
        int, typer.Option(min=0, help="Bootstrap resamples for the 95 % range of ped_anova.")
    ] = 40,
) -> None:
    """Show how much each hyper-parameter mattered in a run."""
    from jbn.cli.show import show_importance
    from jbn.runs.importance import importance_of_run

    show_importance(Console(), importance_of_run(folder, method=method, resamples=resamples))


@app.command()
def retest(
    folder: Annotated[Path, typer.Argument(help="Folder of a run.")],
    data: Annotated[str, typer.Option(help="The new data, as for sweep.")],
    target: Annotated[
        str | None, typer.Option(help="The column of a table to predict.  [default: the run's]")
    ] = None,
    categorical: Annotated[
        list[str] | None, typer.Option(help="A column of a table whose numbers name categories; repeatable.")
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option(help="A column of a table that is no feature; repeatable.")
    ] = None,
    data_dir: Annotated[str | None, typer.Option(help="Where the files of mnist lie.")] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the training part.  [default: the run's]")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Seeds of the comparison, at least 2.  [default: 12]")
    ] = None,
    further_seeds: Annotated[
        int | None,
        typer.Option(help="More of them where these do not decide.  [default: three times as many]"),
    ] = None,
    minimal_effect: Annotated[
        float | None,
        typer.Option(
            help="Retune where the challenger is surely better by more.  "
            "[default: 0.01 of an accuracy or r2, 5 % of another metric]"
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of split, draws and training.  [default: the run's]")
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="Folder of the retest.  [default: runs/retest-DATA-DATE]")
    ] = None,
    cache: Annotated[bool, typer.Option(help="Keep compiled programs for the next run.")] = True,
) -> None:
    """Say whether the settings of a run's winner are still good on new data.

    The winner, its neighbours and fresh samples are trained on the new data; the best of the others is compared
    with the winner on the test part, in pairs of equal seeds.
    Exit code 0: keep them. 3: retune. 2: wrong input. 1: everything diverged. 130: interrupted.
    """
    from jbn.cli.retest import run

    options = dict(
        data=data,
        target=target,
        categorical=categorical,
        drop=drop,
        data_dir=data_dir,
        seed=seed,
        out=out,
    )
    how = dict(epochs=epochs, seeds=seeds, further_seeds=further_seeds, minimal_effect=minimal_effect)
    raise typer.Exit(run(folder, options, how, Console(), cache=cache))
