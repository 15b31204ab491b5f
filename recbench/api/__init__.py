"""Functions for scripts and notebooks: results as tables, running suites, losses and metrics of one's own, ranking.

Its names are those of ``recbench`` itself (``recbench.load``); see docs/python.md.
"""
