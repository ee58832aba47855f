"""A training's metrics: in TensorBoard's format, and in a file of JSON lines."""

import json
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter


class MetricsLog:
    """Appends metrics to the files of a training's folder.

    Args:
        folder: the training's.
        step: where training resumes; entries of later steps are dropped.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.file = folder / "history.jsonl"
        lines = self.file.read_text(encoding="utf-8").splitlines() if self.file.is_file() else []
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
        folder.mkdir(parents=True, exist_ok=True)
        self.file.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        self.writer = SummaryWriter(str(folder / "board"), purge_step=step)

    def write(self, step: int, metrics: dict[str, float], split: str) -> None:
        """Append the metrics of a step on `train` or `valid` clips."""
        for name, value in metrics.items():
            self.writer.add_scalar(f"{split}/{name}", value, step)
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "of": split, **metrics}) + "\n")

    def close(self) -> None:
        """Flush what is buffered."""
        self.writer.close()


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return what a training logged, in order; empty if nothing."""
    file = folder / "history.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []
