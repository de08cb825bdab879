"""The LISTEN connection: for each notification it calls the `wake` that was given for the queue. It runs no task."""
