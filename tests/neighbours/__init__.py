"""Other runtimes' workers beside ours: their tasks, their recompiles, their order of steps, their names."""
