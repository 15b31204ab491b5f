"""Suites and reference boards that come with recbench: found by name in a clone and in an installation alike."""

from recbench.shipped.boards import ReferenceBoard, boards, find_board
from recbench.shipped.suites import find_suite, suites

__all__ = ["ReferenceBoard", "boards", "find_board", "find_suite", "suites"]
