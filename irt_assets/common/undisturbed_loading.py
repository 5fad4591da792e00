"""Imported first by the module of the graph, which resumes the collection of garbage when it has built the graph.

Searching what is being loaded takes a quarter of that time and finds next to nothing.
"""

import gc

gc.disable()
