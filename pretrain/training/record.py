"""What a training says of itself: numbers for TensorBoard, and the same in a file of JSON lines."""

import json
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter


class Record:
    """Writes into a training's folder.

    Args:
        folder: the training's.
        step: that the training goes on from; what was written of later steps is forgotten.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.file = folder / "history.jsonl"
        lines = self.file.read_text(encoding="utf-8").splitlines() if self.file.is_file() else []
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
        folder.mkdir(parents=True, exist_ok=True)
        self.file.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        self.writer = SummaryWriter(str(folder / "board"), purge_step=step)

    def write(self, step: int, values: dict[str, float], group: str) -> None:
        """Write numbers."""
        for name, value in values.items():
            self.writer.add_scalar(f"{group}/{name}", value, step)
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "of": group, **values}) + "\n")

    def close(self) -> None:
        """Write what is left."""
        self.writer.close()


def history(folder: Path) -> list[dict[str, Any]]:
    """Give what a training wrote, in order."""
    file = folder / "history.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []
