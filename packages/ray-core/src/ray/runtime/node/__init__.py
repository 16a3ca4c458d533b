"""The node manager: leases workers, keeps actors, and collects what workers print."""
