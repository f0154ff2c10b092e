"""The benchmark: protocol, runner, report and command line."""

import warnings


def quiet_dependencies() -> None:
    """Silence what PyG and DeepRobust say about their own use of PyTorch: a user can do nothing about it."""
    warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated", category=FutureWarning)
    warnings.filterwarnings("ignore", message="Sparse invariant checks are implicitly disabled", category=UserWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"deeprobust\.")
