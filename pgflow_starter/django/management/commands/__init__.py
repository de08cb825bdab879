"""Django looks here for the command `pgflow`."""
