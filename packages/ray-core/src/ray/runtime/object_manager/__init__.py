"""The process that brings objects from other nodes and sends them there."""
