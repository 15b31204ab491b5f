"""Plugins: the hooks, the manager that loads them, the registry of their entries, and isolation of broken ones."""
