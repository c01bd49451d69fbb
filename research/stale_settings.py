"""Hyper-parameters go stale: where data drift, a re-test gains at least a point more than where they do not.

Streams of four parts of the digits: labels get wrong (0, 15, 30, 45 %), parts shrink (640, 320, 160, 80 rows), and
nothing changes, the control. On every part the settings that were best on the first one are compared with those that
are best on this one: learning rate, dropout, weight decay and label smoothing, of 24 candidates, by the validation
part. Both then train on the part with other seeds, and are judged by true labels of rows that neither has seen. All
of it 32 times, with other rows, candidates and seeds; within a pair streams share rows, candidates and seeds. Parts
are drawn from all digits, so they have rows in common.

The best of 24 on two occasions differ by chance: a gain counts as far as it is above that of the control.

Held: on the last part of both drifting streams the whole 95 % interval of the gain less the control's is above a
point. Not held: on no part of either. Else it depends on the streams and parts on which it is.
"""

from typing import NamedTuple

import jax
import numpy as np
from arms import points
from common import Finding, main, mean, paired
from pictures import error_bars

import jbn

SPACE = jbn.Space(
    learning_rate=jbn.log_uniform(1e-3, 0.3),
    dropout=jbn.uniform(0.0, 0.6),
    weight_decay=jbn.log_uniform(1e-4, 1.0),
    label_smoothing=jbn.uniform(0.0, 0.4),
)
ROWS = 640  # of a training part, half as many of a validation part
STEADY = "steady"
STREAMS = {
    STEADY: [{}, {}, {}, {}],
    "wrong labels": [{}, {"wrong": 0.15}, {"wrong": 0.3}, {"wrong": 0.45}],
    "shrinking": [{}, {"rows": 320}, {"rows": 160}, {"rows": 80}],
}
CANDIDATES, CHOOSING, JUDGING = 24, 2, 4  # configurations, seeds, seeds
PAIRS = 32
MARGIN = 1.0  # points


class Part(NamedTuple):
    """A part of a stream: what is trained on, what is chosen by, and unseen rows with true labels."""

    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]

    def accuracy(self, model, configs, *, judging, epochs, key, seeds):
        """Of every configuration on the validation part or, judging, on the unseen rows; the mean over seeds."""
        shown = self.test if judging else self.validation
        parts = dict(
            zip(("x_validation", "y_validation", "x_test", "y_test"), (*shown, *self.test), strict=True)
        )
        task = jbn.Task(model=model, data=jbn.data.arrays(*self.train, **parts), optimizer="adamw")
        result = jbn.sweep(task, configs, epochs=epochs, key=key, seeds=seeds)
        return np.nan_to_num(result.last("validation_accuracy")).mean(axis=1)  # 0 where it diverged


def draw_part(x, y, rng, *, wrong=0.0, rows=ROWS):
    """Draws a part with this share of wrong labels and so many different rows.

    Fewer rows are repeated: all parts have as many, so that they have the same programs and steps.
    """
    order = rng.permutation(len(y))
    firsts = [
        np.flatnonzero(y[order] == label)[0] for label in range(10)
    ]  # the smallest part has all classes
    order = np.concatenate([order[firsts], np.delete(order, firsts)])
    seen = np.where(rng.random(len(y)) < wrong, (y + rng.integers(1, 10, len(y))) % 10, y)
    train, validation, test = np.split(order, [ROWS, ROWS + ROWS // 2])
    train, validation = np.resize(train[:rows], ROWS), np.resize(validation[: rows // 2], ROWS // 2)
    return Part((x[train], seen[train]), (x[validation], seen[validation]), (x[test], y[test]))


def compared(x, y, number, options):
    """The accuracy of old and new settings, and the new settings, on every later part of every stream."""
    model, epochs = jbn.mlp(layers=2, hidden_units=32), options.size(15, 2)
    configs = jbn.search.quasi_random(SPACE, options.size(CANDIDATES, 4), key=number)
    keys = jax.random.split(jax.random.key(number))

    def best(part):
        return int(
            part.accuracy(model, configs, judging=False, epochs=epochs, key=keys[0], seeds=CHOOSING).argmax()
        )

    old, found = best(draw_part(x, y, np.random.default_rng((number, 0)))), {}
    for stream, drifts in STREAMS.items():
        for place, drift in list(enumerate(drifts))[options.size(1, 3) :]:
            part = draw_part(x, y, np.random.default_rng((number, place)), **drift)
            new = best(part)
            two = {name: values[[old, new]] for name, values in configs.items()}
            own = part.accuracy(model, two, judging=True, epochs=epochs, key=keys[1], seeds=JUDGING)
            found[stream, place + 1] = (*own, *(values[1] for values in two.values()))
    return found


def measure(options):
    """Goes through all streams so many times, and compares gains with the control's."""
    parts = jbn.data.digits().train, jbn.data.digits().validation, jbn.data.digits().test
    x, y = (np.concatenate([part[place] for part in parts]) for place in (0, 1))
    pairs = [compared(x, y, number, options) for number in range(options.size(PAIRS, 3))]
    found = {case: np.array([pair[case] for pair in pairs], float) for case in pairs[0]}
    gains = {case: values[:, 1] - values[:, 0] for case, values in found.items()}
    table = [
        {
            "stream": stream,
            "part": place,
            "old_points": points(mean(found[stream, place][:, 0])),
            "new_points": points(mean(found[stream, place][:, 1])),
            "gain_points": points(mean(own)),
            "less_control_points": points(paired(own, gains[STEADY, place])),
        }
        for (stream, place), own in gains.items()
    ]
    medians = {
        f"{stream}, part {place}": dict(zip(SPACE, np.median(values[:, 2:], axis=0), strict=True))
        for (stream, place), values in found.items()
    }
    return judge(table, {"pairs": len(pairs), "candidates": CANDIDATES, "median_of_new_settings": medians})


def judge(table, more):
    """On which parts of the drifting streams the gain is more than the margin above the control's."""
    drifting = [row for row in table if row["stream"] != STEADY]
    good = {(row["stream"], row["part"]): row["less_control_points"].low > MARGIN for row in drifting}
    end = max(row["part"] for row in table)
    held = all(own for (_, part), own in good.items() if part == end)
    verdict = "held" if held else "depends" if any(good.values()) else "not held"
    true = {
        name: [str(part) for (stream, part), own in good.items() if own and stream == name]
        for name in STREAMS
    }
    where = "; ".join(f"{name}, part {', '.join(own)}" for name, own in true.items() if own)
    condition = f"True on {where}. " if verdict == "depends" else ""
    said = "; ".join(
        f"{row['stream']} {row['gain_points']}, less the control's {row['less_control_points']}"
        for row in drifting
        if row["part"] == end
    )
    control = next(row for row in table if row["stream"] == STEADY and row["part"] == end)["gain_points"]
    return Finding(
        table,
        verdict,
        f"{condition}Points gained on the last part: {said}; the control alone {control}",
        more,
    )


def draw(figure, finding):
    """Left: gains of a re-test; right: less those of the control."""
    axes = figure.subplots(1, 2, sharey=True)
    columns = {
        "gain_points": "gain of a re-test (points)",
        "less_control_points": "less the control's (points)",
    }
    for axis, (column, label) in zip(axes, columns.items(), strict=True):
        for number, stream in enumerate(STREAMS):
            own = [row for row in finding.rows if row["stream"] == stream]
            if column == "gain_points" or stream != STEADY:
                places = [row["part"] + 0.08 * (number - 1) for row in own]
                error_bars(axis, places, [row[column] for row in own], number, label=stream)
        axis.axhline(0, color="black", lw=0.8)
        axis.set(xlabel="part of the stream", ylabel=label)
        axis.set_xticks([row["part"] for row in own])
    axes[1].axhline(MARGIN, color="black", lw=0.8, ls=":")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)


if __name__ == "__main__":
    main(__file__, measure, draw)
