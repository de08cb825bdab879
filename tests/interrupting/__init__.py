"""`run`, interrupted twice at any moment beside busy processes: how long it takes to be gone."""
