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
        for rate in sorted({row["learning_rate"] for row in own}):
            part = [row for row in own if row["learning_rate"] == rate]
            ratios = [row["apart"] / row["twin"] for row in part if row["twins"]]
            summary.append(
                dict(zip(FORM, form, strict=True))
                | {"learning_rate": rate, "runs": len(part), "apart": max(row["apart"] for row in part)}
                | {"compared_with_twins": len(ratios), "largest_ratio": max(ratios, default=None)}
            )
            shown = {name: f"{v:.1e}" if isinstance(v, float) else v for name, v in summary[-1].items()}
            print(", ".join(f"{name} {value}" for name, value in shown.items()))
    write("equality", {"largest": summary})
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
