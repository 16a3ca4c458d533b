"""The plugin modules of the built-in parts, each entered in ray-core's entry points as a third party's would be."""
