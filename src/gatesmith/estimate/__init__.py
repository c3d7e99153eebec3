"""Resources, clock and latency of a design, predicted from the engine's plan without synthesis."""

from gatesmith.estimate.cutoffs import CUTOFFS, first_cutoff, next_cutoff
from gatesmith.estimate.estimator import ERROR, Estimate, estimate, refuse_what_cannot_fit

__all__ = ["CUTOFFS", "ERROR", "Estimate", "estimate", "first_cutoff", "next_cutoff", "refuse_what_cannot_fit"]
