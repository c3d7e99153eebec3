"""Firmware as OCI artifacts: content with digests, in a layout folder that other OCI tools read too.

``reference`` names artifacts, ``manifest`` writes a firmware as content, ``layout`` keeps content and names in a
folder, ``store`` is what callers use. Nothing is believed before its digest was checked.
"""
