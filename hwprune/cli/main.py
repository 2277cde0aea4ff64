"""Entry point: the commands, and what people see when something goes wrong."""

from __future__ import annotations

import errno
import sys
import warnings

import typer
from rich.console import Console

from hwprune.cli.certifying import certify
from hwprune.cli.doctor import doctor
from hwprune.cli.inspecting import inspect
from hwprune.cli.profiling import profile
from hwprune.cli.pruning import prune
from hwprune.cli.quickstart import quickstart
from hwprune.cli.validating import validate
from hwprune.errors import HwpruneError, StorageError

INTERRUPTED = 130  # what shells expect after Ctrl-C

app = typer.Typer(
    name="hwprune",
    help="Prune a trained PyTorch network until it meets a latency target as the device's own runtime measures it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (quickstart, prune, profile, inspect, validate, certify, doctor):
    app.command()(command)


def main() -> None:
    """Run a command; errors of hwprune are shown as they are worded, with their exit code and no traceback."""
    console = Console(stderr=True, highlight=False)
    warnings.simplefilter("ignore")  # of other libraries; hwprune's own are values on its results
    try:
        app(standalone_mode=True)
    except HwpruneError as error:
        console.print(f"[bold red]error[/] {_escaped(error)}", soft_wrap=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        console.print(f"[bold red]error[/] {_escaped(StorageError(error.filename, error=error))}", soft_wrap=True)
        sys.exit(StorageError.exit_code)
    except KeyboardInterrupt:
        console.print("[bold]stopped[/]  what was measured and trained is kept; --resume RUN goes on")
        sys.exit(INTERRUPTED)


def _escaped(error: Exception) -> str:
    return str(error).replace("[", "\\[")


if __name__ == "__main__":
    main()
