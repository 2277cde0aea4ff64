"""What the processes of the zoo share: imported once by the server that they are forked from."""

from __future__ import annotations

import contextlib

import timm  # noqa: F401
import torch
import torch._subclasses.fake_tensor
import torch.onnx
import torchvision  # noqa: F401

torch.set_num_threads(1)
for package in ("torch_pruning", "onnxruntime", "onnxscript", "hwprune"):
    with contextlib.suppress(ImportError):  # the process that needs it says so
        __import__(package)
