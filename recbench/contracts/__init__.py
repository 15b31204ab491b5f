"""The classes that plugins derive from: one module for each kind, so that importing one does not import the others.

``entries`` (with ``shapes``, ``parameters`` and ``downloads``), ``dataset``, ``executor`` and ``tracker`` import no
torch; ``loss``, ``architecture`` and ``metric`` do.
"""
