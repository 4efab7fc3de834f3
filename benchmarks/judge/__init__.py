"""The statistical benchmark of the judge: see `__main__.py`.

The simulated services and the numpy twin of the judge are those of its tests.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
