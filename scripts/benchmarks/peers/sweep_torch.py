"""A sweep by PyTorch: FOLDER ANSWER PROCESSES THREADS, configurations from one queue, longest first."""

import multiprocessing
import time

import torch
from peers import sweep_setting
from peers.torch_models import network
from torch.nn import functional


class Trainer:
    """Trains one configuration after the other."""

    def __init__(self, setting, threads):
        torch.set_num_threads(threads)
        self._setting = setting
        self._x, self._validation_x = map(torch.from_numpy, (setting.x, setting.validation_x))
        self._y, self._validation_y = (
            torch.from_numpy(labels).long() for labels in (setting.y, setting.validation_y)
        )
        self._orders = torch.from_numpy(setting.orders).long()

    def train(self, config):
        """The validation accuracy after the last epoch."""
        model = network(sweep_setting.kernels(config, self._x.shape[1]))
        betas = (config["beta1"], config["beta2"])
        optimizer = torch.optim.Adam(model.parameters(), betas=betas, eps=config["epsilon"], fused=True)
        for epoch, order in enumerate(self._orders):
            optimizer.param_groups[0]["lr"] = sweep_setting.rate(config, epoch)
            model.train()
            self._epoch(model, optimizer, self._x[order], self._y[order], config["batch_size"])
            model.eval()
            with torch.no_grad():
                right = model(self._validation_x).argmax(1) == self._validation_y
            accuracy = right.float().mean().item()
        return accuracy

    def _epoch(self, model, optimizer, x, y, size):
        whole = len(y) // size * size
        for rows, labels in zip(x[:whole].split(size), y[:whole].split(size), strict=True):
            optimizer.zero_grad()
            functional.cross_entropy(model(rows), labels).backward()
            optimizer.step()


def work(folder, threads, queue, results):
    """One process of several."""
    setting = sweep_setting.load(folder)
    trainer = Trainer(setting, threads)
    while (index := queue.get()) is not None:
        results.put(trainer.train(setting.configs[index]))


def together(folder, processes, threads, count):
    """Accuracies by several processes."""
    context = multiprocessing.get_context("spawn")
    queue, results = context.Queue(), context.Queue()
    for index in [*range(count), *[None] * processes]:
        queue.put(index)
    own = [context.Process(target=work, args=(folder, threads, queue, results)) for _ in range(processes)]
    for process in own:
        process.start()
    accuracies = [results.get() for _ in range(count)]
    for process in own:
        process.join()
    return accuracies


def main():
    """Trains all and writes the answer."""
    folder, path, (processes, threads) = sweep_setting.arguments()
    setting, start = sweep_setting.load(folder), time.perf_counter()
    if int(processes) > 1:
        accuracies = together(folder, int(processes), int(threads), len(setting.configs))
    else:
        trainer = Trainer(setting, int(threads))
        accuracies = [trainer.train(config) for config in setting.configs]
    sweep_setting.answer(path, accuracies, time.perf_counter() - start)


if __name__ == "__main__":
    main()
