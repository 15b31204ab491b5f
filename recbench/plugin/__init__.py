"""Finding and loading plugins: hooks, the manager that loads them, the registry of entries, isolation of bad ones."""
