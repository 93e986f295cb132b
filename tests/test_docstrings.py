"""The examples in docstrings run, and everything public has one."""

import doctest
import importlib
import inspect
import pkgutil

import numpy as np
import pytest

import stepsmith as ss

MODULES = ["stepsmith"] + [
    module.name
    for module in pkgutil.walk_packages(ss.__path__, "stepsmith.")
    if not module.name.endswith(("__main__", "_core"))
]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name: str) -> None:
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, extraglobs={"np": np, "ss": ss})
    assert failed == 0


@pytest.mark.parametrize(
    "name",
    [
        "stepsmith",
        *(
            f"stepsmith.{name}"
            for name in (
                "distill",
                "ensemble",
                "init",
                "optim",
                "schedules",
                "nn",
                "nn.functional",
                "norm",
                "prune",
                "quant",
                "sklearn",
                "train",
                "transfer",
            )
        ),
    ],
)
def test_every_public_function_and_class_has_a_docstring(name: str) -> None:
    module = importlib.import_module(name)
    public = [getattr(module, key) for key in module.__all__]
    bare = [
        item.__qualname__ for item in public if inspect.isroutine(item) or inspect.isclass(item) if not item.__doc__
    ]
    assert public
    assert bare == []
