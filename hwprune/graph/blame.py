"""Which line of the user's code, and which of their modules, is to blame."""

from __future__ import annotations

import os
from pathlib import Path
from types import FrameType
from typing import Final

import torch
from torch import nn

_LIBRARIES: Final = (f"{Path(torch.__file__).parent}{os.sep}", f"{Path(__file__).parent}{os.sep}")


def line_of_user(frame: FrameType | None) -> str:
    """The innermost line outside of torch and of this package."""
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith(_LIBRARIES) and not name.startswith("<"):
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return "unknown line"


def culprit(error: BaseException, model: nn.Module) -> tuple[str, str]:
    """Path of the innermost module whose own method raised, and the line of the user's code."""
    names = {id(module): name for name, module in model.named_modules()}
    module, line, at = "", "unknown line", error.__traceback__
    while at is not None:
        owner = at.tb_frame.f_locals.get("self")
        file = at.tb_frame.f_code.co_filename
        if isinstance(owner, nn.Module) and id(owner) in names:
            module = names[id(owner)]
        if not file.startswith(_LIBRARIES):
            line = f"{file}:{at.tb_lineno}"
        at = at.tb_next
    return module, line
