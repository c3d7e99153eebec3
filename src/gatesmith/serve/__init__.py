"""Firmware behind the Open Inference Protocol.

A request passes a door (``rest``), the ``dataplane`` (which knows models, tensors and the contract, and no transport),
and the ``engine`` (one thread for each device: the only place where async meets blocking). ``server`` runs it all.
"""
