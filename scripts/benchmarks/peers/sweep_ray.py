"""A sweep by Ray Tune driving PyTorch: FOLDER ANSWER PROCESSES, actors that are used again for trial after trial."""

import tempfile
import time

import ray
from peers import sweep_setting
from ray import tune


class Trial(tune.Trainable):
    """One configuration a step; an actor loads the data once."""

    def setup(self, config):
        from peers.sweep_torch import Trainer

        self._setting = sweep_setting.load(config["folder"])
        self._trainer = Trainer(self._setting, 1)
        self._index = config["index"]

    def reset_config(self, new_config):
        self._index = new_config["index"]
        return True

    def step(self):
        accuracy = self._trainer.train(self._setting.configs[self._index])
        return {"accuracy": accuracy, "done": True}

    def save_checkpoint(self, checkpoint_dir):
        """Nothing is kept; without this method every trial would fail at its end."""

    def load_checkpoint(self, checkpoint):
        """There is nothing to load."""


def main():
    """Trains all and writes the answer."""
    folder, path, (processes,) = sweep_setting.arguments()
    setting, start = sweep_setting.load(folder), time.perf_counter()
    ray.init(num_cpus=int(processes), include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    with tempfile.TemporaryDirectory() as place:
        tuner = tune.Tuner(
            tune.with_resources(Trial, {"cpu": 1}),
            param_space={"folder": folder, "index": tune.grid_search(list(range(len(setting.configs))))},
            tune_config=tune.TuneConfig(metric="accuracy", mode="max", reuse_actors=True),
            run_config=tune.RunConfig(storage_path=place, verbose=0),
        )
        accuracies = [result.metrics["accuracy"] for result in tuner.fit()]
    seconds = time.perf_counter() - start
    ray.shutdown()
    sweep_setting.answer(path, accuracies, seconds)


if __name__ == "__main__":
    main()
