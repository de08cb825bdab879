"""One connection that is told when messages come, for all queues. Knows no worker: it calls who asked to be told."""
