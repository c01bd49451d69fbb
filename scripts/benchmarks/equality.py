"""Members of a sweep against solo runs: every depth, width, batch size, activation and place of batch norm."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from common import write

TEST = "tests/engine/test_equal_to_solo.py"
FORM = ("test", "activation", "batch_norm")


def main():
    """Runs the test over the whole grid and prints the largest distances."""
    with tempfile.TemporaryDirectory() as place:
        record = Path(place) / "record.jsonl"
        environment = {**os.environ, "JBN_FULL_GRID": "1", "JBN_RECORD": str(record)}
        done = subprocess.run([sys.executable, "-m", "pytest", "-q", TEST], env=environment, check=False)
        rows = [json.loads(line) for line in record.read_text().splitlines()]
    summary = []
    for form in sorted({tuple(row[name] for name in FORM) for row in rows}):
        own = [row for row in rows if tuple(row[name] for name in FORM) == form]
        for least, most in ((0.0, 0.5), (0.5, 2.0)):
            part = [row for row in own if least <= row["learning_rate"] < most]
            summary.append(
                dict(zip(FORM, form, strict=True))
                | {"learning_rate": "1" if least else "1e-4 to 0.1", "runs": len(part)}
                | {name: max(row[name] for row in part) for name in ("apart", "twin")}
                | {"largest_ratio": max(row["apart"] / row["twin"] for row in part)}
            )
            print(
                ", ".join(
                    f"{k} {v:.1e}" if isinstance(v, float) else f"{k} {v}" for k, v in summary[-1].items()
                )
            )
    write("equality", {"largest": summary})
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
