"""
The settings of Django's test suite; run.py says which databases in the
environment. The name differs from all that the suite itself imports.
"""

from __future__ import annotations

import json
import os

DATABASES = json.loads(os.environ["DJANGO_SUITE_DATABASES"])
SECRET_KEY = "django_tests_secret_key"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
TEST_RUNNER = "suite_runner.SuiteRunner"
