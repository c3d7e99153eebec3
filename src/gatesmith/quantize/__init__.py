"""A float graph in, an integer graph out: calibrate, fold, allocate."""

from gatesmith.quantize.calibrate import load_calibration
from gatesmith.quantize.fold import fold
from gatesmith.quantize.precision import Precision
from gatesmith.quantize.quantizer import QuantizationReport, quantize

__all__ = ["Precision", "QuantizationReport", "fold", "load_calibration", "quantize"]
