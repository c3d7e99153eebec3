"""What ``serve_peers.py`` measures beside our server, and how."""
