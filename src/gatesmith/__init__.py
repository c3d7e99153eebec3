"""gatesmith: deploy a trained model on an FPGA."""
