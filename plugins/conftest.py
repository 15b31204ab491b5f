"""Fixtures that the families' tests share with those of the core."""

from tests.conftest import golden, learned_weights, pytest_collection_modifyitems, shared

__all__ = ["golden", "learned_weights", "pytest_collection_modifyitems", "shared"]
