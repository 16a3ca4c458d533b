"""The public calls: arguments are checked here, and handed to the runtime of this process."""
