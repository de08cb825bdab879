"""The files of examples/deploy: run where that can be, else read as strictly as those who use them do."""
