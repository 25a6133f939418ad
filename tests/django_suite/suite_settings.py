"""
The settings of Django's test suite; run.py passes the databases in the environment.
The name of this module differs from those of all modules that the suite imports.
"""

from __future__ import annotations

import json
import os

# Each Django series has its own settings for its tests.
from test_sqlite import *  # noqa: F403

DATABASES = json.loads(os.environ["DJANGO_SUITE_DATABASES"])
TEST_RUNNER = "suite_runner.SuiteRunner"
