"""The search for the cheapest precision that loses little enough, and the curve of what it saw."""

from gatesmith.explore.curve import Point, draw, frontier
from gatesmith.explore.labels import labels_of
from gatesmith.explore.search import BUDGET_S, search_precision
from gatesmith.explore.searcher import Search

__all__ = ["BUDGET_S", "Point", "Search", "draw", "frontier", "labels_of", "search_precision"]
