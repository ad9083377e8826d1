"""Graph substitutions by measured cost, before any search: after TASO (Jia et al., SOSP 2019) and its MetaFlow.

costs = MeasuredCosts("cpu")
result = substitute(graph, weights, costs, layout=costs.layout)
schedule = iosfarm.search(result.graph, device="cpu", weights=result.weights)
"""

from __future__ import annotations

from iosfarm.search.substitutions.searching import Substituted as Substituted
from iosfarm.search.substitutions.searching import substitute as substitute
