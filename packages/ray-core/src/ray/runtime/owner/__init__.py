"""The owner: what each process does that submits work. Drivers and workers have one."""
