"""Contestants in processes of their own, which stand still while another one is measured.

A contestant is a class `Name(problem, count)` with `configurations` (how many it trains), `settings` (in words)
and `train(epochs) -> seconds, losses`.
"""

import contextlib
import importlib
import multiprocessing

import numpy as np


class ContestantError(Exception):
    """A contestant cannot do what it is asked for, or not in time."""


def serve(pipe, path):
    """The loop of a contestant's process; `path` is MODULE.CLASS."""
    module, name = path.rsplit(".", 1)
    current = None
    while True:
        command, *arguments = pipe.recv()
        if command == "stop":
            return
        try:
            if command == "prepare":
                folder, count = arguments
                current = None  # only the settings that were found are kept, elsewhere
                current = _made(module, name, folder, count)
                result = (current.configurations, current.settings)
            else:
                result = getattr(current, command)(*arguments)
            pipe.send((True, result))
        except Exception as error:  # whatever a library raises: the others go on
            text = (str(error).splitlines() or [""])[0]
            pipe.send((False, f"{type(error).__name__}: {text}"))


def _made(module, name, folder, count):
    from peers import problem

    return getattr(importlib.import_module(module), name)(problem.load(folder), count)


class Contestant:
    """One or several equal processes; several share the configurations."""

    def __init__(self, name, path, *, processes=1, prepare_limit=600, run_limit=300):
        self.name, self._path, self._processes = name, path, processes
        self._limits = prepare_limit, run_limit
        self._pipes, self._own = [], []

    def prepare(self, folder, count):
        """Makes ready for a problem and so many configurations; their settings."""
        self._started()
        each = max(1, count // self._processes)
        answers = self._ask(("prepare", str(folder), each), self._limits[0])
        self.configurations = sum(own for own, _ in answers)
        self.settings = answers[0][1]

    def train(self, epochs):
        """Seconds of the slowest process, and the losses of the first one."""
        answers = self._ask(("train", epochs), self._limits[1])
        return max(seconds for seconds, _ in answers), answers[0][1]

    def call(self, method, *arguments):
        """A method of the first process."""
        return self._ask((method, *arguments), self._limits[1])[0]

    def stop(self, *, at_once=False):
        """Ends the processes."""
        for pipe, process in zip(self._pipes, self._own, strict=True):
            with contextlib.suppress(OSError):
                pipe.send(("stop",))
            process.join(0 if at_once else 10)
            process.terminate()
            process.join()
        self._pipes, self._own = [], []

    def _started(self):
        context = multiprocessing.get_context("spawn")
        while len(self._own) < self._processes:
            here, there = context.Pipe()
            process = context.Process(target=serve, args=(there, self._path), daemon=False)
            process.start()
            self._pipes.append(here)
            self._own.append(process)

    def _ask(self, message, limit):
        for pipe in self._pipes:
            pipe.send(message)
        answers = [self._answer(pipe, limit) for pipe in self._pipes]
        wrong = [result for good, result in answers if not good]
        if wrong:
            raise ContestantError(wrong[0])
        return [result for _, result in answers]

    def _answer(self, pipe, limit):
        try:
            if pipe.poll(limit):
                return pipe.recv()
        except EOFError:
            self.stop()
            return False, "its process died"
        self.stop(at_once=True)
        return False, f"not done after {limit} s"


def mean_losses(losses):
    """Mean loss of every epoch, `[configurations, epochs]`."""
    losses = np.asarray(losses)
    return losses.mean(2) if losses.ndim == 3 else losses


@contextlib.contextmanager
def stopping(contestants):
    """Ends all processes in the end."""
    try:
        yield contestants
    finally:
        for contestant in contestants:
            contestant.stop()
