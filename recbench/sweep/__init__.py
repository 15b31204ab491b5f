"""Bringing the jobs of a plan to records: attempts, retries, limits."""
