"""What the commands say on stderr."""

import logging

import typer
from tqdm import tqdm


def say(kind: str, message: object) -> None:
    """Write `kind: message` to stderr as one line, above a progress bar if there is one."""
    tqdm.write(f"{kind}: " + " ".join(str(message).split()), file=typer.get_text_stream("stderr"))


class Says(logging.Handler):
    """Says what a library logs."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say one record, such as `info: step 1000: ...`."""
        say(record.levelname.lower(), record.getMessage())
