"""What the commands say on stderr."""

import typer
from tqdm import tqdm


def say(kind: str, message: object) -> None:
    """Write `kind: message` to stderr as one line, above a progress bar if there is one."""
    tqdm.write(f"{kind}: " + " ".join(str(message).split()), file=typer.get_text_stream("stderr"))
