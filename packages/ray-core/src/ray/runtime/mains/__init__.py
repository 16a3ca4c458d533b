"""The first functions of the processes of a session: the node manager, the zygote, workers. They may know everybody."""
