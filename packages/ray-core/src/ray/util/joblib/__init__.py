"""joblib over the processes of a session: ``register_ray()``, then ``joblib.parallel_config("ray")``."""

from __future__ import annotations

__all__ = ["register_ray"]


def register_ray() -> None:
    """Make the backend "ray" known to joblib, and so to scikit-learn: ``with joblib.parallel_config("ray"): ...``.

    ``Parallel(n_jobs=-1)`` then uses all processors of the session; where there is none, one is started for each call
    of ``Parallel``. Options of ``ray.remote`` for the tasks are those of the backend: ``parallel_config("ray",
    num_gpus=1)``.

    Raises:
        ImportError: joblib is not installed.
    """
    try:
        from joblib import register_parallel_backend  # imported only here, as it takes long
    except ImportError as error:
        raise ImportError("ray.util.joblib needs joblib: pip install 'ray-core[joblib]'") from error

    from ray.util.joblib.backend import RayBackend

    register_parallel_backend("ray", RayBackend)
