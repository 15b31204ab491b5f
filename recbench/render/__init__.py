"""Boards as text, CSV, JSON, Markdown, LaTeX and pictures."""
