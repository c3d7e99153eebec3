"""A float graph in, an integer graph out: calibrate, fold, allocate."""

from gatesmith.quantize.calibrate import load_calibration
from gatesmith.quantize.quantizer import QuantizationReport, quantize

__all__ = ["QuantizationReport", "load_calibration", "quantize"]
