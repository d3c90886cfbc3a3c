"""JavaScript of expressions, in a process of its own that can be killed.

``engine.py`` is our side, ``child.py`` the process. What a path or a literal comparison can answer never comes here.
"""

from __future__ import annotations

from fsctl.javascript.engine import Engine

__all__ = ["Engine"]
