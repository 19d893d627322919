"""How many threads BLAS may use where scikit-learn and scipy fit something."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit BLAS to one thread, which also makes a result independent of how many cores there are.

    L-BFGS alternates small matrix products with steps on one core, and BLAS's threads spin meanwhile: on two cores it
    takes 2.5 times as long with both, and five times the processor time.
    """
    import scipy.linalg
    import scipy.optimize  # noqa: F401  a limit reaches only what is loaded
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield
