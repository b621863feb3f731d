"""The number of threads, and the versions of this build."""

import platform
import sys

import numpy as np

from crossent import _core


def set_num_threads(n: int) -> None:
    """Set how many threads a call may use.

    The number holds for the whole process, from the next call on. It changes how long a call takes and
    nothing else: the results have the same bits for any number of threads.

    Parameters
    ----------
    n : int
        1 or more; 1 keeps every call on the thread that makes it. At the start it is the value of the
        environment variable ``CROSSENT_NUM_THREADS`` or, where that is not set, the number of processors
        that the process may use.

    Raises
    ------
    TypeError
        If `n` is not an integer.
    ValueError
        If `n` is not in the range allowed.

    See Also
    --------
    get_num_threads : The number in use.

    Notes
    -----
    The torch equivalent is ``torch.set_num_threads``.

    Examples
    --------
    >>> import crossent
    >>> before = crossent.get_num_threads()
    >>> crossent.set_num_threads(1)
    >>> crossent.get_num_threads()
    1
    >>> crossent.set_num_threads(before)
    """
    _core.set_num_threads(n)


def get_num_threads() -> int:
    """Return how many threads a call may use.

    Returns
    -------
    int
        The number of threads, 1 or more.

    See Also
    --------
    set_num_threads : Change it.

    Notes
    -----
    The torch equivalent is ``torch.get_num_threads``.

    Examples
    --------
    >>> import crossent
    >>> crossent.get_num_threads() >= 1
    True
    """
    return _core.get_num_threads()


def show_versions() -> None:
    """Print the versions and settings that a bug report or a timing should name.

    These are the version and the build profile, the instruction set (ISA) in use and those available here,
    the number of threads, and the versions of Python, NumPy and the system.

    See Also
    --------
    get_num_threads : The number of threads alone.

    Examples
    --------
    >>> import crossent
    >>> crossent.show_versions()  # doctest: +ELLIPSIS
    crossent  ... (... build)
    ISA       ... (available: ...)
    threads   ...
    Python    3...
    NumPy     ...
    platform  ...
    """
    build = _core.build_info()
    lines = {
        "crossent": f"{build['version']} ({build['profile']} build)",
        "ISA": f"{build['isa']} (available: {', '.join(build['available_isas'])})",
        "threads": build["threads"],
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "NumPy": np.__version__,
        "platform": platform.platform(),
    }
    sys.stdout.writelines(f"{name:<9} {text}\n" for name, text in lines.items())
