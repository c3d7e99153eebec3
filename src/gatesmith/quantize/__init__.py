"""A float graph in, an integer graph out: calibrate, fold, allocate."""

from gatesmith.quantize.allocate import QuantizationReport, quantize
from gatesmith.quantize.calibrate import load_calibration

__all__ = ["QuantizationReport", "load_calibration", "quantize"]
