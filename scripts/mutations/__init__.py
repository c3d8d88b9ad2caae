"""Faults of one line, each with the tests that must notice it; one TOML file for each room."""
