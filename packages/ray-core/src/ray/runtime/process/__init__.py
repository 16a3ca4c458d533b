"""What each process of a session needs: connections, the thread that polls, timers, signals, and the system below."""
