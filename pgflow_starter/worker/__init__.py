"""Workers: polling, claiming, executing and draining, and the phases that set them up. SQL is behind `ports`."""
