"""
Settings of the projects that the scenarios run.

The variable CHAOS_APPS has the apps, and CHAOS_DATABASES the databases as JSON: the
settings of each alias that differ from those below. scenario.set_up() sets both.
"""

from __future__ import annotations

import json
import os

SECRET_KEY = "only for faults"
USE_TZ = True
INSTALLED_APPS = ["django_tidb", *os.environ["CHAOS_APPS"].split()]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    # Django needs this alias. Nothing uses it, unless a scenario defines it.
    "default": {},
} | {
    alias: {
        "ENGINE": "django_tidb",
        "USER": "root",
        "PASSWORD": "",
        # The threads renew their connections, so that a server that has been started
        # again gets some of them.
        "CONN_MAX_AGE": 2,
        "OPTIONS": {
            "check_after_idle": 5,
            "rebuild_tables": True,
            "resume_migrations": True,
        },
        **own,
    }
    for alias, own in json.loads(os.environ["CHAOS_DATABASES"]).items()
}
