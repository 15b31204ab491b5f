"""Suites: YAML files that define a grid of jobs, from their text to a plan."""
