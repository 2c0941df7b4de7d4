"""Settings of the Django project around the recipe."""

import os

SECRET_KEY = "of a test"
INSTALLED_APPS = ["shop"]
USE_TZ = True
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.mysql",
        "NAME": "recipe_django",
        "USER": "tickr",
        "PASSWORD": "tickr",
        "OPTIONS": {"unix_socket": os.environ["MYSQL_SOCKET"]},
    }
}
