"""CUDA kernels on a machine without a GPU: the project's sources as plain C++, with a strict stand-in for CuPy around.

``install()`` puts the stand-in where CuPy would be. What kernels compute there is real; it says nothing about speed.
"""

from gpu_shim.host import SCHEDULES, RawModule, schedule
from gpu_shim.install import device, has_gpu, install, installed, probe

__all__ = ["SCHEDULES", "RawModule", "device", "has_gpu", "install", "installed", "probe", "schedule"]
