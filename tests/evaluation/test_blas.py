import numpy as np
import scipy.linalg
from threadpoolctl import threadpool_info, threadpool_limits

from zeroshot_cli.evaluation.blas import one_thread


def threads() -> set[int]:
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}


def test_blas_has_one_thread_inside_and_its_own_number_afterwards() -> None:
    scipy.linalg.eigh(np.eye(2))  # so that the libraries are loaded
    with threadpool_limits(2, user_api="blas"):
        with one_thread():
            assert threads() == {1}
        assert threads() == {2}
