"""Stands in for a builder that crashes after a few words."""

from __future__ import annotations

import os
import resource

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print("choosing kernels", flush=True)
    os.abort()
