"""pgflow_starter in a Django project: `"pgflow_starter.django"` in INSTALLED_APPS. The extra `django` brings Django.

The only room that knows Django, and no other knows it.
"""

from pgflow_starter.django.clients import client
from pgflow_starter.django.conf import conninfo

__all__ = ["client", "conninfo"]
