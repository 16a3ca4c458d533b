"""What a node manager does as one of several: who they are, and what they lend each other."""
