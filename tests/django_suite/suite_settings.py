"""
The settings of Django's test suite; run.py says which databases in the
environment. The name differs from all that the suite itself imports.
"""

from __future__ import annotations

import json
import os

# Those that Django itself tests with: each line has its own.
from test_sqlite import *  # noqa: F403

DATABASES = json.loads(os.environ["DJANGO_SUITE_DATABASES"])
TEST_RUNNER = "suite_runner.SuiteRunner"
