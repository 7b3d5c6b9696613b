"""``python -m mizzen``: the same as the command ``mizzen``."""

from __future__ import annotations

import sys

from mizzen.tools.cli import main

if __name__ == "__main__":
    sys.exit(main())
