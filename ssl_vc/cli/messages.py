"""Messages on stderr, and the progress of trainings and of many files."""

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import typer
from tqdm import tqdm

Item = TypeVar("Item")
LONGEST = 2000  # characters of a message
DELAY = 2.0  # seconds before a bar appears
SHARE = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
LOG_EVERY = 30.0  # seconds between reports where there is no terminal to show a bar


class StoppedError(Exception):
    """Ctrl-C, with a sentence on what is kept and how to go on."""


def notify(kind: str, message: object) -> None:
    """Print `kind: message` to stderr as one line, above a progress bar if there is one."""
    tqdm.write(f"{kind}: {one_line(message)}", file=typer.get_text_stream("stderr"))


def one_line(message: object) -> str:
    """Return a message as one line of some length that commands no terminal, whatever names and files it quotes."""
    text = " ".join(str(message).split())
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def log_to_stderr(name: str) -> logging.Logger:
    """Print a package's log to stderr, and return its logger."""
    logger = logging.getLogger(name)
    logger.setLevel(logging.INFO)
    logger.handlers, logger.propagate = [StderrHandler()], False
    return logger


def progress(step: int, losses: Mapping[str, float], rate: float, as_json: bool) -> str:
    """Format the progress of a training: its losses and steps per second."""
    values = {name: round(value, 4) for name, value in losses.items()}
    if as_json:
        return json.dumps({"step": step, **values, "steps_per_second": round(rate, 2)})
    return f"step {step}: {', '.join(f'{name} {value:g}' for name, value in values.items())}; {rate:.1f} steps/s"


def pace(seconds: float, taken: float) -> str:
    """Format how long some sound took, and which of the two was longer."""
    ratio = seconds / max(taken, 1e-9)
    factor = f"{ratio:.1f} times faster" if ratio >= 1 else f"{1 / max(ratio, 1e-9):.1f} times slower"
    return f"{seconds:.1f} s of sound in {taken:.1f} s ({factor} than real time)"


def track(
    items: Iterable[Item],
    unit: str,
    total: int | None = None,
    label: str = "",
    free: Callable[[Item], bool] | None = None,
) -> Iterator[Item]:
    """Yield items under a progress bar; without a terminal, log their number every LOG_EVERY seconds.

    Args:
        items: to yield.
        unit: what an item is called.
        total: number of items; that of a collection if None.
        label: before the number.
        free: whether an item took no time, and shall not count in the rate.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    logged = time.monotonic()
    with tqdm(total=total, unit=unit, desc=label or None, leave=not label, disable=None) as bar:
        for number, item in enumerate(items, 1):
            if free and free(item) and not bar.disable:
                bar.initial += 1
            yield item
            bar.update()
            if bar.disable and time.monotonic() - logged >= LOG_EVERY:
                logged = time.monotonic()
                notify("info", f"{label + ': ' if label else ''}{number}{f' of {total}' if total else ''} {unit}s")


@contextmanager
def share_bar(label: str) -> Iterator[Callable[[float], None]]:
    """Yield a function that shows a share from 0 to 1 as a bar, unless that takes less than DELAY seconds."""
    with tqdm(total=100, desc=label, bar_format=SHARE, delay=DELAY, leave=False, disable=None) as bar:

        def show(share: float) -> None:
            bar.update(100 * share - bar.n)

        yield show


def for_each_file(outputs: Mapping[Path, Path], process: Callable[[Path, Path], str]) -> None:
    """Process (input, output) files one by one and print the line that each returns.

    Errors of one of several files are printed, and do not stop the others; at the end they raise a ValueError.
    """
    failed = done = 0
    for source, output in track(outputs.items(), "file") if len(outputs) > 1 else outputs.items():
        try:
            tqdm.write(process(source, output))
            done += 1
        except KeyboardInterrupt:
            if len(outputs) == 1:
                raise
            raise StoppedError(f"{done} of {len(outputs)} files are done and kept; give the rest again.") from None
        except (ValueError, OSError) as error:
            if len(outputs) == 1:
                raise
            failed += 1
            notify("error", error)
    if failed:
        raise ValueError(f"{failed} of {len(outputs)} files failed.")


class StderrHandler(logging.Handler):
    """Print log records to stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record, such as `info: step 1000: ...`."""
        notify(record.levelname.lower(), record.getMessage())
