"""Examples that other folders' tests have too."""

from __future__ import annotations

import sys
from pathlib import Path

for _folder in ("kernels", "ir", "search"):
    sys.path.append(str(Path(__file__).parent.parent / _folder))
