"""The jobs of the Tasks framework's queues, which are found as what is in the `flows.py` of any app is."""

try:
    from pgflow_starter.django.tasks import queue_jobs
except ModuleNotFoundError as error:  # a Django before 6.0, without the backport
    if error.name != "django_tasks":
        raise
else:
    globals().update(queue_jobs())
