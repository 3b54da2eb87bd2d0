"""Puts the disk of tests/chaos/disk.py under every process that has this folder on its path."""

import os
import sys
from pathlib import Path

if os.environ.get("CHAOS_DISK"):
    sys.path.append(str(Path(__file__).parents[3]))
    from tests.chaos import disk

    disk.install(Path(os.environ["CHAOS_DISK"]))
