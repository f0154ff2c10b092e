"""The old name of :mod:`contractive_gnn.certificates`, for one release; ``cg.certify`` is the function now."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import warnings
from types import ModuleType
from typing import Any

from contractive_gnn import certificates

warnings.warn(
    "contractive_gnn.certify is called contractive_gnn.certificates now, and cg.certify(…) is the function; the old "
    "name of the package goes with the next release",
    DeprecationWarning,
    stacklevel=2,
)

__all__ = list(certificates.__all__)
globals().update({name: getattr(certificates, name) for name in __all__})
for _module in pkgutil.iter_modules(certificates.__path__):
    sys.modules[f"{__name__}.{_module.name}"] = importlib.import_module(f"{certificates.__name__}.{_module.name}")


class _Callable(ModuleType):
    """Python hangs this module on the package under the name of the function: so it can be called like it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return certificates.certify(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
