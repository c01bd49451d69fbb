"""A sweep by Optuna driving PyTorch: FOLDER ANSWER PROCESSES, a study in a journal that all processes work on."""

import multiprocessing
import tempfile
import time
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from peers import sweep_setting

RANGES = {"learning_rate": (1e-9, 1e3), "decay_rate": (0.0, 1e3), "epsilon": (1e-15, 1e3)}
SIZES = {"layers": (1, 64), "hidden_units": (1, 4096), "batch_size": (2, 4096)}


def storage(path):
    """The journal that all processes share."""
    return JournalStorage(JournalFileBackend(path))


def work(folder, path, count):
    """One process: trials until all configurations are done."""
    from peers.sweep_torch import Trainer

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    trainer = Trainer(sweep_setting.load(folder), 1)
    study = optuna.load_study(
        study_name="sweep", storage=storage(path), sampler=optuna.samplers.RandomSampler()
    )

    def objective(trial):
        if trial.number >= count:  # the other process took the last one
            study.stop()
            raise optuna.TrialPruned
        config = {name: trial.suggest_float(name, *limits) for name, limits in RANGES.items()}
        config |= {name: trial.suggest_float(name, 0.0, 1.0) for name in ("beta1", "beta2")}
        config |= {name: trial.suggest_int(name, *limits) for name, limits in SIZES.items()}
        return trainer.train(config)

    study.optimize(objective)


def main():
    """Puts the configurations into a study, trains all and writes the answer."""
    folder, path, (processes,) = sweep_setting.arguments()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    setting, start = sweep_setting.load(folder), time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        journal = str(Path(place) / "journal.log")
        study = optuna.create_study(study_name="sweep", storage=storage(journal), direction="maximize")
        for config in setting.configs:
            study.enqueue_trial(config)
        context = multiprocessing.get_context("spawn")
        arguments = (folder, journal, len(setting.configs))
        own = [context.Process(target=work, args=arguments) for _ in range(int(processes))]
        for process in own:
            process.start()
        for process in own:
            process.join()
        complete = [trial for trial in study.get_trials(deepcopy=False) if trial.value is not None]
    sweep_setting.answer(path, [trial.value for trial in complete], time.perf_counter() - start)


if __name__ == "__main__":
    main()
