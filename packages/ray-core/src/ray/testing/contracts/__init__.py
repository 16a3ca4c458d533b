"""Contract suites: what a part of each seam must do. A plugin is finished when it passes its seam's.

``StoreContract``, ``TransportContract``, ``SchedulerContract``, ``SelectorContract``, ``ControlContract`` and
``ExecutorContract``, in the modules of the seams' names, are classes to inherit in a pytest file; each says what to
override. The checks themselves are plain functions in ``_checks_<seam>``, usable without pytest: call each with a fresh
subject.
"""
