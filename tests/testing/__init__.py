"""Tests of what is shipped for users' tests."""
