"""Entry point: the commands, and what people see when something goes wrong."""

from __future__ import annotations

import errno
import sys
import warnings
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import typer
from rich.markup import escape

from hwprune.cli import show
from hwprune.cli.certifying import certify
from hwprune.cli.correlating import correlate
from hwprune.cli.doctor import doctor
from hwprune.cli.explaining import explain
from hwprune.cli.inspecting import inspect
from hwprune.cli.listing import methods
from hwprune.cli.profiling import profile
from hwprune.cli.pruning import prune
from hwprune.cli.quickstart import quickstart
from hwprune.cli.validating import validate
from hwprune.errors import HwpruneError, StorageError

P = ParamSpec("P")
INTERRUPTED = 130  # what shells expect after Ctrl-C

app = typer.Typer(
    name="hwprune",
    help="Prune a trained PyTorch network until it meets a latency target as the device's own runtime measures it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _interruptible(command: Callable[P, None]) -> Callable[P, None]:
    """The command, after whose Ctrl-C people are told how to go on."""

    @wraps(command)
    def run(*arguments: P.args, **options: P.kwargs) -> None:
        try:
            command(*arguments, **options)
        except KeyboardInterrupt as stop:  # caught here, since typer ends silently on it
            how = str(stop) or "what was measured is kept: the same command goes on"
            show.ERR.print(f"[bold]stopped[/]  {escape(how)}", soft_wrap=True)
            raise typer.Exit(INTERRUPTED) from None

    return run


for command in (quickstart, prune, profile, inspect, validate, certify, explain, correlate, methods, doctor):
    app.command()(_interruptible(command))


def main() -> None:
    """Run a command; errors of hwprune are shown as they are worded, with their exit code and no traceback."""
    warnings.simplefilter("ignore")  # of other libraries; hwprune's own are values on its results
    try:
        app(standalone_mode=True)
    except HwpruneError as error:
        show.ERR.print(f"[bold red]error[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        show.ERR.print(f"[bold red]error[/] {escape(str(StorageError(error.filename, error=error)))}", soft_wrap=True)
        sys.exit(StorageError.exit_code)


if __name__ == "__main__":
    main()
