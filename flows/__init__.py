"""The chain as Prefect flows: order, schedule, retries, pages in the UI. What stages do lives in `tinylm`.

Importing this package first keeps Prefect local to the project: home in .prefect/, no telemetry.
"""

import os
from pathlib import Path

from tinylm.prefect_processes import prefect_environment

ROOT = Path(__file__).resolve().parent.parent

os.environ.update(prefect_environment(ROOT, os.environ))
