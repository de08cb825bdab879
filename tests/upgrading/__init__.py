"""A database that has one core is brought to a newer one."""
