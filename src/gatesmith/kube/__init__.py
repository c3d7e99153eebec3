"""What runs on a node of a cluster beside the server: the device plugin and the storage initializer."""
