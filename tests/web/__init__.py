"""Tests of the probes, the page and the JSON over HTTP."""
