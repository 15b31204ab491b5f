"""The store: records and artifacts of jobs, and their export, merge, reuse and cleanup."""

from recbench.files import write_atomically  # plugins written before recbench.write_atomically import it from here

__all__ = ["write_atomically"]
