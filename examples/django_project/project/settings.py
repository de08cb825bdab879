"""The settings. What is not said of the database is libpq's to find: PGHOST, PGUSER, ~/.pgpass, ..."""

import os

SECRET_KEY = os.environ.get("SHOP_SECRET_KEY", "not a secret, for an example")
DEBUG = False
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "testserver"]

INSTALLED_APPS = ["pgflow_starter.django", "shop"]
ROOT_URLCONF = "project.urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ.get("PGDATABASE", "shop"),
        # A database with pgmq and pgflow in it, of which test databases are copies.
        "TEST": {"TEMPLATE": os.environ.get("SHOP_TEMPLATE", "shop_template")},
    }
}

PGFLOW = {"START": {"signal_strategy": "notify", "max_concurrency": 5}}
