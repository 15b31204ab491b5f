"""The classes that plugins derive from: one module for each kind, so that only what is used is imported.

``dataset`` and ``executor`` import no torch; ``loss``, ``architecture`` and ``metric`` do.
"""
